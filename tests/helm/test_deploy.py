"""The image's recipe and the compose file's configuration."""

import os
import re
import subprocess
import unittest
from pathlib import Path

import yaml

import picket
from documents import CHART

DEPLOY = CHART.parents[1] / "deploy"


class Image(unittest.TestCase):
    def test_is_written_as_images_are(self):
        lint = subprocess.run(["hadolint", DEPLOY / "Containerfile"], capture_output=True, text=True)
        self.assertEqual((lint.returncode, lint.stdout), (0, ""))


class Compose(unittest.TestCase):
    def test_has_a_configuration_that_picket_takes(self):
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
        for name, role in [("node-1", "node"), ("node-2", "node"), ("coordinator", "coordinator")]:
            service = services[name]
            self.assertEqual(service["command"][0], role)
            variables = service["environment"] | {"SOCKET_ADMIN_PASSWORD": picket.SECRET}
            command = [os.environ["PICKET_BIN"], "check-config", "--role", role, DEPLOY / "compose" / "picket.yaml"]
            checked = subprocess.run(command, env=variables, capture_output=True, text=True)
            self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_keeps_the_trail_in_postgres_where_it_is_asked_to(self):
        services = yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())["services"]
        below = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["coordinator"]
        for name in ["coordinator", "coordinator-2"]:
            self.assertEqual(services[name]["depends_on"]["postgres"], {"condition": "service_healthy"})
            variables = below["environment"] | services[name]["environment"] | {"SOCKET_ADMIN_PASSWORD": picket.SECRET}
            variables["PICKET_COORDINATOR__AUDIT_STORE"] = re.sub(r"\$\{.*\}", "a-password", variables["PICKET_COORDINATOR__AUDIT_STORE"])
            command = [os.environ["PICKET_BIN"], "check-config", "--role", "coordinator", DEPLOY / "compose" / "picket.yaml"]
            checked = subprocess.run(command, env=variables, capture_output=True, text=True)
            self.assertEqual((checked.returncode, checked.stderr), (0, ""))
            self.assertIn("auditStore: postgres://", checked.stdout)

    def test_mounts_files_that_are_there_and_that_their_programs_take(self):
        services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
        mounted = {volume.split(":")[0] for service in services for volume in service.get("volumes", []) if volume.startswith("./")}
        self.assertEqual({path.name for path in (DEPLOY / "compose").iterdir()}, {Path(path).name for path in mounted})
        for command in [["haproxy", "-c", "-f", "compose/haproxy.cfg"], ["node", "--check", "compose/chat.mjs"]]:
            checked = subprocess.run(command, cwd=DEPLOY, capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


if __name__ == "__main__":
    unittest.main()
