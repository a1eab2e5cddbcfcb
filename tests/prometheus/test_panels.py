"""Every panel, asked of a real Prometheus that reads a real picket."""

import http.client
import json
import os
import re
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from test_rules import expressions

DEADLINE_SECONDS = 60
# What a picket without Redis, without TLS and without trouble has nothing to say of.
UNTOUCHED = {
    "picket_identities",
    "picket_identities_crowded_total",
    "picket_tls_renewals_total",
    "picket_upstream_ejections_total",
    "picket_telemetry_dropped_total",
    "picket_observations_total",
    "picket_audit_records_not_stored_total",
    "picket_audit_records_repeated_total",
    "picket_audit_store_failures_total",
    "picket_coordinator_automatic_blocks_total",
}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    "Origin": "https://evil.example.com",
}


def get(url: str, headers: dict | None = None) -> str:
    """the body of any answer; empty without one"""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.read().decode()
    except OSError:
        return ""


def until(found):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (what := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_SECONDS} s")
        time.sleep(0.1)
    return what


class Panels(unittest.TestCase):
    def start(self, command: list, **how) -> subprocess.Popen:
        process = subprocess.Popen(command, cwd=self.folder, **how)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        listeners = ["PICKET_NODE__LISTEN", "PICKET_NODE__OPS_LISTEN", "PICKET_COORDINATOR__LISTEN"]
        variables = {name: "127.0.0.1:0" for name in listeners} | {"PICKET_NODE__DRAIN": "{graceMs: 0, spreadMs: 0}"}
        with open(self.folder / "banner", "w") as banner:
            self.start([os.environ["PICKET_BIN"], "standalone"], env=variables, stdout=banner, stderr=subprocess.DEVNULL)
        said = lambda what: re.search(rf"{what} +\w+://(127\.0\.0\.1:\d+)", (self.folder / "banner").read_text())
        until(lambda: said("operations"))
        self.gateway, self.ops, self.management = (said(name)[1] for name in ["gateway", "operations", "management"])

    def prometheus(self) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "picket", "static_configs": [{"targets": [self.ops]}]}],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
        self.start(["prometheus", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return f"http://{address}"

    def cause_trouble(self):
        """so that what is counted only when it happens is there"""
        connection = http.client.HTTPConnection(self.gateway, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/chat", headers=UPGRADE)
        self.assertEqual(connection.getresponse().status, 403)
        get(f"http://{self.management}/api/security/nodes", {"Authorization": "Basic YTpi"})

    def test_shows_something(self):
        self.cause_trouble()
        until(lambda: "picket_decisions_total" in get(f"http://{self.ops}/metrics"))
        until(lambda: re.search(r"picket_audit_records_stored_total\S* [1-9]", get(f"http://{self.ops}/metrics")))
        prometheus = self.prometheus()

        def series(expression: str) -> int:
            answer = get(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
            if not answer:
                return 0
            document = json.loads(answer)
            self.assertEqual(document["status"], "success", f"{expression}: {document}")
            return len(document["data"]["result"])

        # A rate needs two readings.
        until(lambda: series("rate(picket_decisions_total[5m])"))
        shown = 0
        for expression in expressions():
            with self.subTest(expression):
                untouched = UNTOUCHED & set(re.findall(r"picket_\w+", expression)) or "picket_reason=" in expression
                found = series(expression)
                self.assertTrue(found or untouched, "shows nothing")
                shown += bool(found)
        self.assertGreater(shown, 15)


if __name__ == "__main__":
    unittest.main()
