"""A cluster under traffic and attack: what a real collector was sent of it, and what every panel shows to a real Prometheus."""

import json
import math
import re
import time
import unittest
import urllib.parse
from contextlib import ExitStack

from attack import Attack, token
from cluster import COORDINATOR, NODES, PASSWORD, PROCESSES, SECRET, Cluster
from processes import until
from test_rules import RECORDED, ROOT, ROW, expressions
from watched import get

ROUNDS_MAX = 6
TRACE, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REFUSED_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

# What a panel shows as zero in this run, and why.
STAYS_ZERO = {
    "picket_panics_total": "nothing is known that makes it panic",
    "picket_clock_offset_milliseconds": "all processes have one clock",
    "picket_audit_dropped_total": "a queue takes 65,536 records, which moments without Redis do not fill",
    "picket_audit_records_deleted_total": "retention looks once a minute, and the run may be over",
}
# What no process counts in this run.
NOT_COUNTED = {
    "picket.accept.failures": "nobody runs out of file descriptors",
    "picket.panics": "nothing is known that makes it panic",
}
KINDS = {"counter": "Sum", "gauge": "Gauge", "up-down counter": "Sum", "histogram": "Histogram"}


class Watch:
    """the run that the tests share"""

    def __init__(self, cluster: Cluster, stack: ExitStack):
        self.cluster, self.began = cluster, time.time()
        self.attack = Attack(cluster, stack)
        self.bearer = token("alice")
        for node in NODES:
            self.attack.comes_in(node, "203.0.113.6")
        self.answer = self.traced_refusals()
        until(lambda: {TRACE, REFUSED_TRACE} <= {item.trace for item in cluster.collected() if item.kind == "Span"})
        # A rise needs a second round.
        while self.attack.round < ROUNDS_MAX and not all(map(stays_zero, self.missing())):
            self.attack.goes_on()
        try:
            until(lambda: not self.missing())
        except AssertionError as late:
            raise AssertionError(f"after {self.attack.round} rounds nothing shows in {self.missing()}") from late

    def traced_refusals(self) -> dict:
        """a message of a connection that came in, and a connection, both in traces that clients began"""
        client = self.attack.comes_in(NODES[1], "203.0.113.7", bearer=self.bearer, traceparent=f"00-{TRACE}-{CLIENT_SPAN}-01")
        answer = self.attack.sends(client, "nonsense", text="payload-canary")
        client.close()
        unsampled = f"00-{REFUSED_TRACE}-{CLIENT_SPAN}-00"
        self.attack.is_turned_away(NODES[2], "203.0.113.8", Origin="https://evil.example.com", traceparent=unsampled)
        return answer

    def asks(self, expression: str) -> list[float]:
        """every value that it had in the run"""
        asked = {"query": expression, "start": self.began, "end": time.time(), "step": 1}
        document = json.loads(get(f"{self.cluster.prometheus}/api/v1/query_range?{urllib.parse.urlencode(asked)}"))
        assert document["status"] == "success", f"{expression}: {document}"
        values = [float(value) for series in document["data"]["result"] for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def missing(self) -> list[str]:
        """what shows nothing yet, or just zero where it should not"""

        def is_shown(expression: str) -> bool:
            values = self.asks(expression)
            return any(values) or bool(values and stays_zero(expression))

        return [expression for expression in expressions() if not is_shown(expression)]


def stays_zero(expression: str) -> bool:
    return any(metric in expression for metric in STAYS_ZERO)


class UnderAttack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cluster = Cluster()
        cls.addClassCleanup(cluster.doCleanups)
        cluster.setUp()
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        cls.cluster, cls.watch = cluster, Watch(cluster, stack)
        cls.collected = cluster.collected()

    def spans(self, name: str, trace: str) -> list:
        return [item for item in self.collected if item.kind == "Span" and (item.name, item.trace) == (name, trace)]

    def test_every_panel_shows_it(self):
        self.assertGreater(len(expressions()), 50)
        self.assertEqual(self.watch.missing(), [])

    def test_every_recorded_series_is_there(self):
        for name in sorted(RECORDED):
            with self.subTest(name):
                self.assertTrue(self.watch.asks(name), "records nothing")

    def test_all_four_say_who_they_are_in_every_signal(self):
        for kind in ("Span", "Metric", "LogRecord"):
            resources = {tuple(sorted(item.resource.items())) for item in self.collected if item.kind == kind}
            by_process = {dict(resource)["service.instance.id"]: dict(resource) for resource in resources}
            # A coordinator makes no decisions, so it has no spans.
            self.assertEqual(set(by_process), set(NODES if kind == "Span" else PROCESSES), kind)
            for process, resource in by_process.items():
                told = {name: resource[name] for name in ("service.name", "picket.role", "deployment.environment.name")}
                role = "coordinator" if process == COORDINATOR else "node"
                self.assertEqual(told, {"service.name": "picket", "picket.role": role, "deployment.environment.name": "development"})
                self.assertRegex(resource["service.version"], r"^\d+\.\d+\.\d+")

    def test_a_refused_message_joins_client_node_and_upstream(self):
        self.assertEqual(self.watch.answer["reason"], "unknown_event")
        [connection] = self.spans("GET /ws", TRACE)
        self.assertEqual((connection.fields["Parent ID"], connection.fields["Kind"]), (CLIENT_SPAN, "SPAN_KIND_SERVER"))
        self.assertEqual(connection.resource["service.instance.id"], NODES[1])
        span = connection.fields["ID"]
        self.assertIn(f"00-{TRACE}-{span}-01", self.cluster.application.traceparents)
        [admission], [refused] = (self.spans(name, TRACE) for name in ("picket.admission", "picket.inspection"))
        for decision in (admission, refused):
            self.assertEqual((decision.fields["Parent ID"], decision.fields["Kind"]), (span, "SPAN_KIND_INTERNAL"))
        self.assertEqual(admission.attribute("picket.outcome"), "allowed")
        told = {name: refused.attribute(name) for name in ("picket.outcome", "error.type", "picket.event.name", "client.address")}
        expected = {"picket.outcome": "refused", "error.type": "unknown_event", "picket.event.name": "nonsense"}
        self.assertEqual(told, expected | {"client.address": "203.0.113.7"})
        self.assertEqual(refused.fields["Status code"], "STATUS_CODE_ERROR")

    def test_a_refused_connection_is_in_its_clients_trace_though_nobody_sampled_it(self):
        [connection] = self.spans("GET /ws", REFUSED_TRACE)
        self.assertEqual(connection.attribute("http.response.status_code"), "403")
        decisions = self.spans("picket.admission", REFUSED_TRACE) + self.spans("picket.handshake", REFUSED_TRACE)
        [decision] = decisions
        self.assertEqual((decision.attribute("error.type"), decision.fields["Parent ID"]), ("origin_not_allowed", connection.fields["ID"]))
        self.assertFalse([seen for seen in self.cluster.application.traceparents if REFUSED_TRACE in seen])

    def test_spans_of_every_stage_arrive(self):
        names = {item.name for item in self.collected if item.kind == "Span"}
        self.assertLessEqual({"picket.admission", "picket.inspection", "picket.session", "GET /ws", "GET /dead"}, names)

    def test_metrics_arrive_as_they_are_documented(self):
        rows = re.findall(ROW, (ROOT / "docs" / "telemetry.md").read_text(), re.MULTILINE)
        documented = {name: (KINDS[kind], unit) for name, kind, unit in rows}
        self.assertGreater(len(documented), 30)
        metrics = [item for item in self.collected if item.kind == "Metric"]
        arrived = {item.name: (item.fields["DataType"], item.fields["Unit"]) for item in metrics}
        self.assertEqual(set(documented) - set(arrived) - set(NOT_COUNTED), set())
        self.assertEqual(arrived, {name: documented.get(name) for name in arrived})
        labels = {}
        for item in (item for item in metrics if item.name == "picket.decisions"):
            for name, values in item.attributes.items():
                labels.setdefault(name, set()).update(values)
        self.assertEqual(set(labels), {"picket.stage", "picket.outcome", "picket.reason"})
        self.assertLessEqual({"admission", "inspection", "session"}, labels["picket.stage"])
        self.assertLessEqual({"unknown_event", "origin_not_allowed", "state_unavailable", "address_blocked"}, labels["picket.reason"])

    def test_log_records_have_a_severity_and_say_something(self):
        records = [item for item in self.collected if item.kind == "LogRecord"]
        levels = {item.fields["SeverityText"] for item in records}
        self.assertLessEqual({"INFO", "WARN"}, levels)
        self.assertLessEqual(levels, {"INFO", "WARN", "ERROR"})
        self.assertTrue(all(item.fields.get("Body") for item in records))

    def test_no_secret_and_no_payload_arrives(self):
        text = self.cluster.collected_text()
        for secret in (PASSWORD, SECRET, self.watch.bearer, "payload-canary"):
            self.assertNotIn(secret, text)


if __name__ == "__main__":
    unittest.main()
