"""A picket that stands alone, and a real Prometheus that reads it."""

import http.client
import json
import urllib.error
import urllib.request

from processes import ProcessTest, free_port, until
from test_rules import RULES

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


def starts_prometheus(test: ProcessTest, targets: list[str], *more_flags: str) -> str:
    """it reads every second; answers its URL"""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "picket", "static_configs": [{"targets": targets}]}],
    }
    (test.folder / "prometheus.yml").write_text(json.dumps(config))
    flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
    test.start(["prometheus", *flags, *more_flags])
    until(lambda: "is Ready" in get(f"http://{address}/-/ready"))
    return f"http://{address}"


class WatchedTest(ProcessTest):
    variables: dict = {}

    def setUp(self):
        super().setUp()
        self.picket(["standalone"], "picket", self.variables)
        self.gateway, self.ops, self.management = (
            self.address("picket", listener) for listener in ["gateway", "operations", "management"]
        )

    def prometheus(self, *more_flags: str) -> str:
        return starts_prometheus(self, [self.ops], *more_flags)

    def is_refused(self, headers: dict | None = None):
        """an upgrade from a page that is not allowed"""
        connection = http.client.HTTPConnection(self.gateway, timeout=10)
        self.addCleanup(connection.close)
        connection.request("GET", "/chat", headers=UPGRADE | (headers or {}))
        self.assertEqual(connection.getresponse().status, 403)
