"""Every panel, asked of a real Prometheus that reads a real picket; and an alert that fires there."""

import http.client
import json
import re
import unittest
import urllib.error
import urllib.parse
import urllib.request

from processes import ProcessTest, free_port, until
from test_rules import RULES, expressions

# What a picket without Redis, without TLS and without trouble has nothing to say of.
UNTOUCHED = {
    "picket_identities",
    "picket_identities_crowded_total",
    "picket_renewals_total",
    "picket_upstream_ejections_total",
    "picket_telemetry_dropped_total",
    "picket_observations_total",
    "picket_audit_records_not_stored_total",
    "picket_audit_records_deleted_total",
    "picket_audit_records_repeated_total",
    "picket_audit_store_failures_total",
    "picket_coordinator_automatic_blocks_total",
    "picket_alarms_total",
    "picket_alarms_notifications_total",
    "picket_block_propagation_seconds_bucket",
    "picket_state_call_duration_seconds_bucket",
    "picket_state_call_duration_seconds_count",
}
# The labels of what nobody causes here: reasons of refusals but one, and events.
NOT_CAUSED = ["picket_reason=", 'picket_stage="inspection"']
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


class Panels(ProcessTest):
    def setUp(self):
        super().setUp()
        self.picket(["standalone"], "picket")
        self.gateway, self.ops, self.management = (
            self.address("picket", listener) for listener in ["gateway", "operations", "management"]
        )

    def prometheus(self) -> str:
        address = f"127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "picket", "static_configs": [{"targets": [self.ops]}]}],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}"]
        self.start(["prometheus", *flags])
        until(lambda: "is Ready" in get(f"http://{address}/-/ready"))
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
            document = json.loads(answer)
            self.assertEqual(document["status"], "success", f"{expression}: {document}")
            return len(document["data"]["result"])

        # A rate needs two readings.
        until(lambda: series("rate(picket_decisions_total[5m])"))
        shown = 0
        for expression in expressions():
            with self.subTest(expression):
                untouched = UNTOUCHED & set(re.findall(r"picket_\w+", expression)) or any(
                    label in expression for label in NOT_CAUSED
                )
                found = series(expression)
                self.assertTrue(found or untouched, "shows nothing")
                shown += bool(found)
        self.assertGreater(shown, 15)

    def test_an_alert_fires_as_shipped(self):
        prometheus = self.prometheus()

        def firing() -> set[str]:
            alerts = json.loads(get(f"{prometheus}/api/v1/alerts"))["data"]["alerts"]
            return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

        def somebody_tries_passwords() -> bool:
            for _ in range(5):
                get(f"http://{self.management}/api/security/nodes", {"Authorization": "Basic YTpi"})
            return "PicketManagementAttacked" in firing()

        self.assertEqual(firing(), set())
        until(somebody_tries_passwords)
        self.assertEqual(firing(), {"PicketManagementAttacked"})


if __name__ == "__main__":
    unittest.main()
