"""Alerts and dashboards: what they name exists, every alert rings for its trouble and for nothing else, and has its page."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

import dashboards

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "helm" / "picket" / "files" / "rules.yml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


def decisions(reason: str, each_minute: int, stage: str = "admission", outcome: str = "refused") -> dict:
    labels = f'picket_stage="{stage}", picket_outcome="{outcome}", picket_reason="{reason}", instance="a"'
    return {f"picket_decisions_total{{{labels}}}": f"0+{each_minute}x500"}


def node(metric: str, course: str, labels: str = "") -> dict:
    return {f'{metric}{{instance="a"{", " + labels if labels else ""}}}': course}


def durations(metric: str, within: str, quick: int, labels: str = "") -> dict:
    """so many of a hundred each minute are within the objective"""
    return node(f"{metric}_bucket", f"0+{quick}x500", f'{labels}le="{within}"') | node(
        f"{metric}_count", "0+100x500", labels.removesuffix(", ")
    )


def decided(stage: str, within: str, quick: int) -> dict:
    return durations("picket_decision_duration_seconds", within, quick, f'picket_stage="{stage}", ')


ISSUER = "https://id.example.com"
CALM = (
    decisions("", 600, outcome="allowed")
    | decisions("connection_rate", 6)
    | decided("admission", "0.05", 100)
    | decided("inspection", "0.001", 100)
    | durations("picket_block_propagation_seconds", "1", 100)
    | node("picket_enforcement", "0x500", 'picket_enforce="off"')
    | node("picket_enforcement", "0x340 1x160", 'picket_enforce="shadow"')
    | node("picket_token_keys_age_seconds", "290x500", f'picket_issuer="{ISSUER}"')
    | node("picket_connections_active", "1000x500", 'picket_identity="anonymous"')
    | node("picket_mode", "0x500", 'picket_mode="degraded"')
    | node("picket_clock_offset_milliseconds", "3x500")
    | node("picket_panics_total", "0x500")
    | node("picket_renewals_total", "1x500", 'picket_outcome="failed"')
    | node("picket_identities_crowded_total", "0x500")
    | node("picket_limits_overshoot_total", "0x500", 'picket_limit="messages"')
    | node("picket_upstream_ejections_total", "0x500")
    | node("picket_audit_dropped_total", "0x500")
    | node("picket_telemetry_dropped_total", "0x500", 'picket_signal="traces", picket_cause="queue_full"')
    | {
        "picket_coordinator_automatic_blocks_total": "0+1x500",
        "picket_audit_lag": "20x500",
        "picket_audit_store_failures_total": "0x500",
        'picket_audit_records_deleted_total{cause="number"}': "0x500",
        'picket_alarms_notifications_total{outcome="delivered"}': "0+1x500",
        'picket_alarms_notifications_total{outcome="given_up"}': "2x500",
        'picket_coordinator_logins_total{outcome="refused"}': "0x500",
        'picket_coordinator_requests_total{status="success"}': "0+60x500",
    }
)
# What each alert is for, instead of the calm; each begins after six hours without trouble, and minutes later it rings.
BEFORE = 370
TROUBLE = {
    "PicketAvailabilityBudget": decisions("state_unavailable", 60),
    "PicketFreshnessBudget": node("picket_mode", f"0x{BEFORE} 1x80", 'picket_mode="degraded"'),
    "PicketAuditBudget": {"picket_audit_lag": f"20x{BEFORE} 2000x80"},
    "PicketAdmissionLatencyBudget": decided("admission", "0.05", 90),
    "PicketInspectionLatencyBudget": decided("inspection", "0.001", 90),
    "PicketPropagationBudget": durations("picket_block_propagation_seconds", "1", 90),
    "PicketNoNode": node("picket_connections_active", f"1000x{BEFORE}", 'picket_identity="anonymous"'),
    "PicketNodeDegraded": node("picket_mode", f"0x{BEFORE} 1x80", 'picket_mode="degraded"')
    | {'picket_mode{instance="b", picket_mode="degraded"}': "0x500"},
    "PicketEveryNodeDegraded": node("picket_mode", f"0x{BEFORE} 1x80", 'picket_mode="degraded"'),
    "PicketClockOff": node("picket_clock_offset_milliseconds", f"3x{BEFORE} -2500x80"),
    "PicketPanic": node("picket_panics_total", f"0x{BEFORE} 1x80"),
    "PicketCertificateNotRenewed": node("picket_renewals_total", f"_x{BEFORE} 1x80", 'picket_outcome="failed"'),
    "PicketTokenKeysOld": node("picket_token_keys_age_seconds", f"290x{BEFORE} 1200+60x80", f'picket_issuer="{ISSUER}"'),
    "PicketNotEnforcing": node("picket_enforcement", "0x310 1x140", 'picket_enforce="off"'),
    "PicketConnectionsLost": node("picket_connections_active", f"1000x{BEFORE + 6} 400x80", 'picket_identity="anonymous"'),
    "PicketManyRefusals": decisions("connection_rate", 1200),
    "PicketOverload": decisions("overload", 60, stage="handshake"),
    "PicketCrowd": node("picket_identities_crowded_total", f"0x{BEFORE} 0+5x80"),
    "PicketOvershoot": node("picket_limits_overshoot_total", f"0x{BEFORE} 9x80", 'picket_limit="messages"'),
    "PicketUpstreamUnavailable": decisions("upstream_unavailable", 120),
    "PicketUpstreamFlapping": node("picket_upstream_ejections_total", f"0x{BEFORE} 0+2x80"),
    "PicketManyAutomaticBlocks": {"picket_coordinator_automatic_blocks_total": "0+50x500"},
    "PicketAuditDropped": node("picket_audit_dropped_total", f"0x{BEFORE} 12x80"),
    "PicketAuditLag": {"picket_audit_lag": f"20x{BEFORE} 20000x80"},
    "PicketAuditStoreFailing": {"picket_audit_store_failures_total": f"0x{BEFORE} 0+2x80"},
    "PicketAuditStoreFull": {'picket_audit_records_deleted_total{cause="number"}': f"0x{BEFORE} 1000x80"},
    "PicketAlarmsUndelivered": {'picket_alarms_notifications_total{outcome="dropped"}': f"0x{BEFORE} 1x80"},
    "PicketManagementAttacked": {'picket_coordinator_logins_total{outcome="refused"}': f"0x{BEFORE} 0+9x80"},
    "PicketManagementFailing": {'picket_coordinator_requests_total{status="server_error"}': "0+30x500"},
    "PicketTelemetryDropped": node(
        "picket_telemetry_dropped_total", f"0x{BEFORE} 7x80", 'picket_signal="traces", picket_cause="queue_full"'
    ),
}
# The times at which it is asked: soon after the trouble has begun, and before that.
RINGS = f"{BEFORE + 10}m"


def promtool(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True)


class Rules(unittest.TestCase):
    def test_are_rules(self):
        checked = promtool("check", "rules", RULES)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def rings(self, series: dict, alert: str, expected: list):
        firing = f'count by (alertname) (ALERTS{{alertstate="firing", {alert}}})'
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": course} for name, course in (CALM | series).items()],
            "promql_expr_test": [{"expr": firing, "eval_time": RINGS, "exp_samples": expected}],
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "2m", "tests": [test]}, file)
            tested = promtool("test", "rules", file.name)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)

    def test_ring_for_their_trouble(self):
        self.assertEqual(set(TROUBLE), set(ALERTS))
        for alert, series in TROUBLE.items():
            with self.subTest(alert):
                self.rings(series, f'alertname="{alert}"', [{"labels": f'{{alertname="{alert}"}}', "value": 1}])

    def test_are_silent_in_calm(self):
        self.rings({}, 'alertname=~".+"', [])

    def test_have_a_page_each(self):
        pages = re.findall(r"^### (Picket\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
        self.assertEqual(pages, list(ALERTS))
        for alert, rule in ALERTS.items():
            self.assertEqual(rule["annotations"]["runbook_url"], f"docs/runbook.md#{alert.lower()}")
            self.assertIn(rule["labels"]["severity"], ["critical", "warning"])


def expressions() -> list[str]:
    """of every panel, as Grafana would ask them"""
    panels = [panel for path in dashboards.made() for panel in json.loads(path.read_text())["panels"]]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    for variable, value in [("$__rate_interval", "5m"), ("$__range", "1h"), ("$job", ".*"), ("$instance", ".*")]:
        asked = [expression.replace(variable, value) for expression in asked]
    return asked


def documented() -> list[str]:
    """a line each of the documents' blocks of PromQL"""
    blocks = [block for path in (ROOT / "docs").glob("*.md") for block in re.findall(r"^```promql\n(.*?)^```", path.read_text(), re.M | re.S)]
    return [line for block in blocks for line in block.splitlines()]


ROW = r"^\| `(picket\.[\w.]+)` \| (counter|gauge|up-down counter|histogram) \| `([^`]*)`"
UNITS = {"ms": "_milliseconds", "s": "_seconds", "By": "_bytes"}
SUFFIXES = {"counter": ["_total"], "gauge": [""], "up-down counter": [""], "histogram": ["_bucket", "_sum", "_count"]}


def names_of_prometheus() -> set[str]:
    """what the tables of docs/telemetry.md become there, and what docs/operations.md names"""
    rows = re.findall(ROW, (ROOT / "docs" / "telemetry.md").read_text(), re.MULTILINE)
    of_tables = {
        name.replace(".", "_") + UNITS.get(unit, "") + suffix for name, kind, unit in rows for suffix in SUFFIXES[kind]
    }
    return of_tables | set(re.findall(r"`(picket_\w+)[`{]", (ROOT / "docs" / "operations.md").read_text()))


class Dashboards(unittest.TestCase):
    def test_are_made_from_their_panels(self):
        """UPDATE_DOCS=1 writes them"""
        self.assertEqual({path.name for path in dashboards.FOLDER.glob("*")}, {path.name for path in dashboards.made()})
        for path, text in dashboards.made().items():
            if os.environ.get("UPDATE_DOCS"):
                path.write_text(text)
            self.assertEqual(path.read_text(), text, f"{path.name} is stale: UPDATE_DOCS=1 tests/run helm")

    def test_ask_what_prometheus_understands(self):
        self.assertGreater(len(documented()), 5)
        asked = expressions() + documented()
        rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
            checked = promtool("check", "rules", file.name)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_and_rules_name_metrics_that_there_are(self):
        known = names_of_prometheus()
        self.assertGreater(len(known), 20)
        asked = expressions() + documented() + [rule["expr"] for group in GROUPS for rule in group["rules"]]
        for expression in asked:
            plain = re.sub(r'"[^"]*"', "", expression)
            named = set(re.findall(r"\bpicket_\w+(?=[\[{) ]|$)", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", plain)))
            self.assertEqual(named - known, set(), expression)
            self.assertEqual(set(re.findall(r"picket:[\w:]+", plain)) - RECORDED, set(), expression)

    def test_and_rules_name_reasons_that_there_are(self):
        reasons = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "reasons.md").read_text(), re.MULTILINE))
        asked = expressions() + documented() + [rule["expr"] for group in GROUPS for rule in group["rules"]]
        for expression in asked:
            for pattern in re.findall(r'picket_reason=~?"([^"]*)"', expression):
                for one in pattern.split("|"):
                    self.assertTrue(any(re.fullmatch(one, reason) for reason in reasons), one)


if __name__ == "__main__":
    unittest.main()
