"""Every panel, asked of a real Prometheus that reads a real picket; and an alert that fires there."""

import json
import re
import unittest
import urllib.parse

from processes import until
from test_rules import expressions
from watched import WatchedTest, get

# What a picket without Redis, without TLS and without trouble has nothing to say of.
UNTOUCHED = {
    "picket_identities",
    "picket_identities_crowded_total",
    "picket_renewals_total",
    "picket_upstream_ejections_total",
    "picket_telemetry_dropped_total",
    "picket_observations_total",
    "picket_token_keys_age_seconds",
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


class Panels(WatchedTest):
    def cause_trouble(self):
        """so that what is counted only when it happens is there"""
        self.is_refused()
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
