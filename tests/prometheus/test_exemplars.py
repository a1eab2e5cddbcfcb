"""From a refusal in Prometheus to its trace at the collector; and the text that carries it, before the parsers of Prometheus's clients."""

import http.server
import json
import threading
import time
import unittest
import urllib.parse

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from processes import until
from watched import WatchedTest, get

TRACE = "0af7651916cd43dd8448eb211c80319c"
NOT_SAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
REFUSALS = 'picket_decisions_total{picket_outcome="refused"}'


def series(families: list) -> set:
    """names with labels; bounds of buckets as numbers, which the formats spell differently"""
    return {
        (sample.name, frozenset((name, float(value) if name == "le" else value) for name, value in sample.labels.items()))
        for family in families
        for sample in family.samples
    }


class Collector(http.server.BaseHTTPRequestHandler):
    """keeps what is posted, of which it need not understand more than that it holds these bytes"""

    def do_POST(self):
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Exemplars(WatchedTest):
    def setUp(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
        server.posted = self.posted = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }
        super().setUp()

    def test_lead_from_prometheus_to_the_span_of_a_refusal_that_nobody_sampled(self):
        prometheus = self.prometheus("--enable-feature=exemplar-storage")
        self.is_refused({"traceparent": NOT_SAMPLED})

        def exemplars() -> list:
            now = time.time()
            asked = urllib.parse.urlencode({"query": REFUSALS, "start": now - 600, "end": now + 600})
            return json.loads(get(f"{prometheus}/api/v1/query_exemplars?{asked}"))["data"]

        [found] = until(exemplars)
        self.assertEqual(found["seriesLabels"]["picket_reason"], "origin_not_allowed")
        [exemplar] = found["exemplars"]
        self.assertEqual((exemplar["labels"]["trace_id"], exemplar["value"]), (TRACE, "1"))
        span = bytes.fromhex(TRACE), bytes.fromhex(exemplar["labels"]["span_id"])
        until(lambda: any(all(part in body for part in span) for body in self.posted))

    def test_stand_in_text_that_says_what_prometheus_text_says(self):
        self.is_refused()

        def both() -> tuple[list, list] | None:
            """once no series appeared between the two readings"""
            plain, om = get(f"http://{self.ops}/metrics"), get(f"http://{self.ops}/metrics", OPENMETRICS)
            plain = list(parser.text_string_to_metric_families(plain))
            om = list(openmetrics.text_string_to_metric_families(om))
            return (plain, om) if series(plain) == series(om) else None

        plain, om = until(both)
        kinds = {family.name: (family.type, family.documentation) for family in plain if family.name != "target_info"}
        self.assertGreater(len(kinds), 10)
        self.assertEqual({family.name: (family.type, family.documentation) for family in om if family.name != "target"}, kinds)
        noted = [(sample.labels["picket_reason"], sample.exemplar) for family in om for sample in family.samples if sample.exemplar]
        [(reason, exemplar)] = noted
        self.assertEqual((reason, set(exemplar.labels), exemplar.value), ("origin_not_allowed", {"trace_id", "span_id"}, 1))
        self.assertAlmostEqual(float(exemplar.timestamp), time.time(), delta=600)


if __name__ == "__main__":
    unittest.main()
