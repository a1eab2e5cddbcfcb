"""What people and attackers do to a cluster, so that everything that is counted happens."""

import base64
import hashlib
import hmac
import json
import re
import time
from contextlib import ExitStack

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cluster import AUDIENCE, COORDINATOR, ISSUER, MESSAGES_MAX, NODES, ORIGIN, PROCESSES, SECRET, STRICT, Cluster
from processes import until

SOON_SECONDS = 5


def token(user: str, secret: str = SECRET) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "role": "member", "iat": now, "exp": now + 3600}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = hmac.digest(secret.encode(), b".".join(parts), hashlib.sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signed).rstrip(b"=")]).decode()


def comes_soon(found) -> bool:
    """for what need not come each time"""
    deadline = time.monotonic() + SOON_SECONDS
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found())


class Attack:
    def __init__(self, cluster: Cluster, stack: ExitStack):
        self.cluster, self.stack = cluster, stack
        self.round = 0
        self.last_octet = 0

    def address(self) -> str:
        """of somebody new"""
        self.last_octet += 1
        return f"198.51.{100 + self.round}.{self.last_octet}"

    def comes_in(self, *where: str, **more: str | None) -> ClientConnection:
        """until the end; at once, but where a node has just lost sight of Redis"""

        def connected() -> ClientConnection | None:
            try:
                return self.connects(*where, **more)
            except InvalidStatus as refusal:
                if refusal.response.status_code != 503:
                    raise
                return None

        return until(connected)

    def connects(self, node: str, address: str, path: str = "/ws", bearer: str | None = None, **headers: str) -> ClientConnection:
        told = {"X-Forwarded-For": address} | headers | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        origin = told.pop("Origin", ORIGIN)
        url = f"ws://{self.cluster.gateways[node]}{path}"
        connected = connect(url, origin=origin, additional_headers=told, compression=None, ping_interval=None, proxy=None)
        return self.stack.enter_context(connected)

    def is_turned_away(self, node: str, address: str, **more: str) -> int:
        """answers the status; 0 for who comes in"""
        try:
            self.connects(node, address, **more).close()
            return 0
        except InvalidStatus as refusal:
            return refusal.response.status_code

    @staticmethod
    def sends(client: ClientConnection, event: str, **more) -> dict:
        """answers the echo, or why it is refused"""
        client.send(json.dumps({"type": event} | more))
        return json.loads(client.recv(timeout=30))

    def goes_on(self):
        """a round of everything"""
        self.round += 1
        self.last_octet = 0
        self.cluster.renews_secret()
        self.people_talk()
        self.strangers_knock()
        self.floods_and_bad_messages()
        self.blocks()
        self.upstreams_fail()
        self.administration()
        self.trail_is_thinned()
        self.outage()

    def people_talk(self):
        """at every node, and stay"""
        for node in NODES:
            for bearer in (None, token(f"{node}-{self.round}")):
                client = self.comes_in(node, self.address(), bearer=bearer)
                for number in range(5):
                    assert self.sends(client, "chat", text=f"hello {number}") == {"type": "chat", "text": f"hello {number}"}

    def strangers_knock(self):
        for node in NODES:
            assert self.is_turned_away(node, self.address(), Origin="https://evil.example.com") == 403
            assert self.is_turned_away(node, self.address(), bearer=token("mallory", "not-the-secret-of-the-shop-at-all")) == 401
        hasty = self.address()
        assert 429 in [self.is_turned_away(NODES[0], hasty) for _ in range(15)]

    def floods_and_bad_messages(self):
        clumsy = self.comes_in(NODES[1], self.address())
        assert self.sends(clumsy, "nonsense")["reason"] == "unknown_event"
        assert self.sends(clumsy, "form", age=7)["reason"] == "schema"
        assert "<script>" not in self.sends(clumsy, "chat", text="<script>alert(1)</script>")["text"]
        assert self.sends(clumsy, "moderate")["reason"] in ("role_required", "login_required")
        assert self.sends(clumsy, "chat", __proto__={"admin": True})["reason"] == "hostile_content"
        huge = self.comes_in(NODES[0], self.address())
        try:
            self.sends(huge, "chat", text="x" * 100_000)
        except ConnectionClosed:
            pass
        flood = self.comes_in(NODES[2], self.address())
        for number in range(100):
            flood.send(json.dumps({"type": "chat", "number": number}))
        reasons = [json.loads(flood.recv(timeout=30)).get("reason") for _ in range(100)]
        assert set(reasons) & {"burst", "message_rate"}, reasons

    def blocks(self):
        """by hand, which ends what is open; and by itself"""
        victim = self.address()
        open_one = self.comes_in(NODES[0], victim)
        assert self.cluster.administers("POST", "/block-ip", {"ip": victim, "reason": "a test"}) == 200
        try:
            open_one.recv(timeout=30)
            raise AssertionError("a blocked address was served")
        except ConnectionClosed:
            pass
        for node in NODES:
            until(lambda: self.is_turned_away(node, victim) == 403)
        offender = self.address()
        try:
            guesses = self.comes_in(NODES[1], offender)
            for number in range(20):
                self.sends(guesses, f"guess-{number}")
        except ConnectionClosed:
            pass
        until(lambda: self.is_turned_away(NODES[0], offender) == 403)

    def upstreams_fail(self):
        assert self.is_turned_away(NODES[0], self.address(), path="/dead") == 502
        for _ in range(6):
            self.is_turned_away(NODES[0], self.address(), path="/shaky")

    def administration(self):
        asks = self.cluster.administers
        assert asks("GET", "/nodes") == 200
        assert asks("GET", "/audit-logs?text=evil&limit=20") == 200
        assert asks("GET", "/nodes", password="a-guess") == 401
        assert asks("PUT", "/config", {"security": {"violationsBeforeClose": 1000 + self.round}}) == 200

    def trail_is_thinned(self):
        """records of low severity are left out for a while"""
        asks, metrics = self.cluster.administers, self.cluster.metrics
        before = counted(metrics(COORDINATOR), "picket_audit_records_not_stored_total")
        clumsy = self.comes_in(NODES[1], self.address())
        assert asks("PUT", "/config", {"security": {"enableAuditLogging": False}}) == 200

        def is_left_out() -> bool:
            self.sends(clumsy, "form", age=7)
            return counted(metrics(COORDINATOR), "picket_audit_records_not_stored_total") > before

        until(is_left_out)
        assert asks("PUT", "/config", {"security": {"enableAuditLogging": True}}) == 200

    def outage(self):
        """Redis and the collector stand still, while a batch of records is on its way into the store: it is told twice"""
        redis, collector, metrics = self.cluster.redis, self.cluster.collector, self.cluster.metrics
        spender = token(f"spender-{self.round}")
        spending = [self.comes_in(node, self.address(), bearer=spender) for node in NODES if node != STRICT]
        late = self.address()
        self.spends(spending[0], MESSAGES_MAX + 5)
        with self.cluster.stopped(collector):
            with ExitStack() as busy:
                busy.enter_context(self.cluster.store_is_busy())
                for node in NODES:
                    self.is_turned_away(node, self.address(), Origin="https://evil.example.com")
                comes_soon(lambda: counted(metrics(COORDINATOR), "picket_audit_lag") > 0)
                with self.cluster.stopped(redis):
                    stored = counted(metrics(COORDINATOR), "picket_audit_records_stored_total")
                    busy.close()
                    comes_soon(lambda: counted(metrics(COORDINATOR), "picket_audit_records_stored_total") > stored)
                    for node in NODES:
                        until(lambda: counted(metrics(node), "picket_mode", 'picket_mode="degraded"') == 1)
                    for client in spending:
                        self.spends(client, MESSAGES_MAX // 3 + 5)
                    assert self.is_turned_away(STRICT, late) == 503
            until(lambda: any(counted(metrics(process), "picket_telemetry_dropped_total") for process in PROCESSES))
        for node in NODES:
            until(lambda: counted(metrics(node), "picket_mode", 'picket_mode="normal"') == 1)
        assert self.is_turned_away(NODES[0], late) == 0

    def spends(self, client: ClientConnection, messages: int):
        for number in range(messages):
            self.sends(client, "chat", number=number)


def counted(metrics: str, name: str, label: str = "") -> float:
    """over all that has the label"""
    found = re.findall(rf"^{name}({{.*}})? ([\d.e+]+)", metrics, re.MULTILINE)
    return sum(float(value) for labels, value in found if label in labels)
