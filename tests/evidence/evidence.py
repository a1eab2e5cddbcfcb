"""What a real program exports: valid by the schemas of OCSF, and verified by a reader that knows only docs/evidence.md."""

import base64
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import ocsf
import verify

PICKET = os.environ["PICKET_BIN"]
PASSWORD = "a-long-password-of-the-evidence"
WAIT = 30


class Office:
    """`picket standalone` with its demo, and its administrator."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PICKET_")}
        environment |= {"SOCKET_ADMIN_USERNAME": "warden", "SOCKET_ADMIN_PASSWORD": PASSWORD}
        environment |= {"PICKET_NODE__LISTEN": "127.0.0.1:0", "PICKET_NODE__OPS_LISTEN": "127.0.0.1:0"}
        environment |= {"PICKET_COORDINATOR__LISTEN": "127.0.0.1:0", "PICKET_TELEMETRY__LOG_FORMAT": "json"}
        command = [PICKET, "standalone", "--data-dir", self.folder.name]
        with open(pathlib.Path(self.folder.name) / "log", "wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.gateway, self.management = self.listens("gateway"), self.listens("management")

    def log(self):
        return (pathlib.Path(self.folder.name) / "log").read_text()

    def listens(self, name):
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            for line in self.log().splitlines():
                if f'"{name}"' in line and "listening" in line:
                    return re.search(r"127\.0\.0\.1:\d+", line)[0]
            time.sleep(0.05)
        raise TimeoutError(self.log())

    def asks(self, method, path, body=None):
        login = base64.b64encode(f"warden:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{self.management}/api/security{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:
            return answer.read().decode()

    def export(self, form, query=""):
        return self.asks("GET", f"/audit-logs/export?format={form}{query}").splitlines()

    def stored(self, kind, text=""):
        query = f"&eventType={kind}" + (f"&text={text}" if text else "")
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if self.export("ndjson", query):
                return
            time.sleep(0.1)
        raise TimeoutError(f"no {kind}: {self.log()}")

    def stranger_comes(self):
        headers = {"Origin": "https://evil.example", "Connection": "Upgrade", "Upgrade": "websocket"}
        headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        connection = http.client.HTTPConnection(self.gateway, timeout=WAIT)
        connection.request("GET", "/chat", headers=headers)
        assert connection.getresponse().status == 403
        connection.close()

    def ends(self):
        self.process.terminate()
        self.process.wait(WAIT)


def picket_verify(lines, *more):
    command = [PICKET, "audit", "verify", "--export", "-", *more]
    return subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=False)


class Evidence(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.office = Office()
        cls.addClassCleanup(cls.office.ends)
        cls.office.stranger_comes()
        cls.office.asks("POST", "/block-ip", {"ip": "198.51.100.0/24", "reason": "a \"test\" – é"})
        cls.office.asks("POST", "/unblock-ip", {"ip": "198.51.100.0/24"})
        cls.office.asks("PUT", "/config", {"rateLimiting": {"messageLimit": {"maxMessages": 7}}})
        for kind in ("INVALID_ORIGIN", "IP_BLOCKED", "IP_UNBLOCKED", "POLICY_CHANGED"):
            cls.office.stored(kind)

    def test_every_kind_of_event_is_valid(self):
        samples = pathlib.Path(os.environ["PICKET_OCSF_SAMPLES"]).read_text().splitlines()
        found, classes = ocsf.mistakes(samples)
        print(f"ocsf: {len(samples)} samples of every kind and reason, by class {classes}", file=sys.stderr)
        self.assertEqual(found, [])
        self.assertEqual(set(classes), {2004, 3002, 3004, 4001, 4002, 6002, 6003})

    def test_what_a_program_exports_is_valid(self):
        found, classes = ocsf.mistakes(self.office.export("ocsf"))
        self.assertEqual(found, [])
        self.assertTrue({3004, 4002} <= set(classes), classes)
        logons = map(json.loads, self.office.export("ocsf", "&eventType=ADMIN_LOGIN"))
        said = {(event["user"]["name"], event["status_id"], event["action_id"]) for event in logons}
        self.assertEqual(said, {("warden", 1, 1)})

    def test_an_export_is_verified_by_another_reader(self):
        lines = self.office.export("ndjson")
        self.assertEqual(verify.verify(lines), (len(lines), 0, []))
        self.assertEqual(picket_verify(lines).returncode, 0)
        for changed in ("severity", "ip", "message", "timestamp"):
            index = len(lines) // 2
            record = lines[index]
            value = json.loads(record)[changed]
            other = {"severity": "medium" if value != "medium" else "high", "ip": "192.0.2.99", "timestamp": "2020-01-01T00:00:00Z"}
            forged = record.replace(json.dumps(value, ensure_ascii=False), json.dumps(other.get(changed, "nothing")), 1)
            self.assertNotEqual(forged, record)
            tampered = lines[:index] + [forged] + lines[index + 1:]
            self.assertTrue(verify.verify(tampered)[2], changed)
            ended = picket_verify(tampered)
            self.assertEqual(ended.returncode, 1, ended)
            self.assertIn(b"does not follow", ended.stderr)

    def test_what_an_erasure_left_is_verified_by_another_reader(self):
        self.office.asks("POST", "/revoke", {"userId": "alice"})
        self.office.stored("ADMIN_ACTION", "revokedUser")
        erased = json.loads(self.office.asks("DELETE", "/subjects/alice"))["data"]
        self.assertEqual((erased["records"], erased["complete"]), (1, True))
        lines = self.office.export("ndjson")
        self.assertNotIn("alice", "".join(lines))
        self.assertEqual(verify.verify(lines), (len(lines), 0, []))
        self.assertIn(b"1 records name an erased person no longer: a later record proves", picket_verify(lines).stdout)
        forged = [line.replace("warden", "mallory") if '"revokedUser":' in line else line for line in lines]
        self.assertEqual(verify.verify(forged), (len(lines) - 1, 1, []))
        self.assertIn(b"1 records name an erased person no longer: what they say was taken as given", picket_verify(forged).stdout)

    def test_what_the_log_was_told_agrees_with_the_store(self):
        self.office.ends()
        told = re.findall(r'"checkpoint":"([0-9a-f]+:\d+:[0-9a-f]{64})"', self.office.log())
        self.assertTrue(told, self.office.log())
        store = f"sqlite:{self.office.folder.name}/picket.db"
        command = [PICKET, "audit", "verify", "--store", store]
        ended = subprocess.run([*command, "--checkpoint", told[-1]], capture_output=True, check=False)
        self.assertEqual(ended.returncode, 0, ended)
        forged = told[-1][:-64] + "0" * 64
        ended = subprocess.run([*command, "--checkpoint", forged], capture_output=True, check=False)
        self.assertEqual(ended.returncode, 1, ended)


if __name__ == "__main__":
    unittest.main(verbosity=2)
