"""Three nodes and a coordinator over a real Redis, which export to a real collector and are read by a real Prometheus."""

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sysconfig
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from collected import Item, items
from processes import ProcessTest, free_port, until
from surroundings import Application, Nobody, Web
from watched import get, starts_prometheus

NODES = ["node-1", "node-2", "node-3"]
COORDINATOR = "coordinator-1"
PROCESSES = [*NODES, COORDINATOR]
# The collector takes both protocols at once.
BY_GRPC = NODES[:2]
# This one lets nobody in without Redis, and has room for few counters; the others share.
STRICT = NODES[2]

ORIGIN = "https://app.example.com"
ISSUER, AUDIENCE, SECRET = "shop", "chat", "a-secret-of-the-shop-of-32-bytes-or-more"
USERNAME, PASSWORD = "warden", "a-long-password-of-the-cluster"
# A message rate that a flood uses up, in a window that outlasts an outage.
MESSAGES_MAX, WINDOW_MS = 30, 20_000
COLLECTOR = Path(sysconfig.get_path("purelib")) / "rotel" / "rotel-agent"


def config(state: str, application: str, dead: str, web: str) -> dict:
    route = {"protocol": "json", "eventField": "type"}
    return {
        "environment": "development",
        # A busy machine is no outage.
        "state": {"url": state, "timeoutMs": 500},
        "node": {
            "trustedProxies": ["127.0.0.1/32"],
            "upstreamAssertion": {"secretFile": "assertion.secret"},
            "limits": {"upstreamEjectMs": 1000},
            "routes": [
                {"path": "/ws", "upstream": f"ws://{application}"} | route,
                {"path": "/shaky", "upstream": [f"ws://{dead}", f"ws://{application}"]} | route,
                {"path": "/dead", "upstream": f"ws://{dead}"} | route,
            ],
        },
        "auth": {
            "jwt": {
                "issuers": [
                    {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["HS256"], "secret": SECRET},
                    {"issuer": "https://id.example.com", "audience": AUDIENCE, "algorithms": ["ES256"], "jwksUrl": f"http://{web}/jwks"},
                ]
            }
        },
        "coordinator": {"auditStore": "sqlite:./picket.db", "retention": {"maxRecords": 20}},
        "policy": {
            "cors": {"allowedOrigins": [ORIGIN]},
            "rateLimiting": {
                "connectionLimit": {"maxConnections": 10, "windowMs": 60_000},
                "messageLimit": {"maxMessages": MESSAGES_MAX, "windowMs": WINDOW_MS},
            },
            "validation": {
                "allowedEventTypes": ["chat", "form", "moderate"],
                "eventRoles": {"moderate": ["moderator"]},
                "maxPayloadSize": 65_536,
                "schemas": {"form": {"required": ["name"]}},
            },
            "security": {"violationsBeforeClose": 1000, "suspiciousActivityThreshold": 5, "blockSuspiciousIps": True},
            "monitoring": {
                "alertThresholds": {"errorRate": 0.05},
                "notifications": [
                    {"kind": "slack", "url": f"http://{web}/hook", "minSeverity": "medium"},
                    {"kind": "slack", "url": f"http://{web}/gone", "minSeverity": "medium"},
                    {"kind": "webhook", "url": f"http://{dead}/away", "minSeverity": "medium"},
                ],
            },
        },
    }


class Cluster(ProcessTest):
    """not a test itself: several share one"""

    def setUp(self):
        super().setUp()
        self.application, self.web, self.dead = Application(), Web(), Nobody()
        for one in (self.application, self.web, self.dead):
            self.addCleanup(one.close)
        redis = free_port()
        self.redis = self.start(["redis-server", "--bind", "127.0.0.1", "--port", str(redis), "--save", ""])
        self.starts_collector()
        self.renews_secret()
        told = config(f"redis://127.0.0.1:{redis}", self.application.address, self.dead.address, self.web.address)
        (self.folder / "picket.yaml").write_text(json.dumps(told))
        self.picket(["coordinator", "--config", "picket.yaml"], COORDINATOR, self.variables(COORDINATOR))
        for node in NODES:
            self.picket(["node", "--config", "picket.yaml"], node, self.variables(node))
        self.management = self.address(COORDINATOR, "management")
        self.ops = {process: self.address(process, "operations") for process in PROCESSES}
        self.gateways = {node: self.address(node, "gateway") for node in NODES}
        until(lambda: all('"policyVersion":1' in get(f"http://{self.ops[node]}/readyz").replace(" ", "") for node in NODES))
        self.prometheus = starts_prometheus(self, list(self.ops.values()))

    def variables(self, process: str) -> dict:
        protocol, address = ("grpc", self.grpc) if process in BY_GRPC else ("http/protobuf", self.http)
        variables = {
            "PICKET_NODE__ID": process,
            "SOCKET_ADMIN_USERNAME": USERNAME,
            "SOCKET_ADMIN_PASSWORD": PASSWORD,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        }
        if process == STRICT:
            variables |= {"PICKET_NODE__ON_OUTAGE": "closed", "PICKET_NODE__LIMITS__IDENTITIES_MAX": "2"}
        return variables

    def starts_collector(self):
        self.grpc, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        logged = [argument for signal in ("traces", "metrics", "logs") for argument in ("--debug-log", signal)]
        listens = ["--otlp-grpc-endpoint", self.grpc, "--otlp-http-endpoint", self.http]
        command = [COLLECTOR, "start", *listens, "--exporter", "blackhole", *logged, "--debug-log-verbosity", "detailed"]
        self.collector = self.start(command, self.folder / "collected")

    def collected_text(self) -> str:
        return (self.folder / "collected").read_text(errors="replace")

    def collected(self) -> list[Item]:
        return items(self.collected_text())

    def metrics(self, process: str) -> str:
        return get(f"http://{self.ops[process]}/metrics")

    def administers(self, method: str, path: str, body: dict | None = None, password: str = PASSWORD) -> int:
        """answers the status"""
        login = base64.b64encode(f"{USERNAME}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://{self.management}/api/security{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as answer:
            return answer.status

    def renews_secret(self):
        """of which a node takes notice within moments"""
        new = self.folder / "assertion.new"
        new.write_text(base64.b64encode(os.urandom(32)).decode())
        new.rename(self.folder / "assertion.secret")

    @contextmanager
    def stopped(self, process: subprocess.Popen):
        """it stands still"""
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def store_is_busy(self):
        """somebody else writes"""
        store = sqlite3.connect(self.folder / "picket.db", timeout=10, isolation_level=None)
        store.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            store.rollback()
            store.close()
