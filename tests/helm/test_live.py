"""Real processes over a real Redis, with what the chart gives them: a changed policy reaches nodes that go on."""

import json
import socket
import subprocess
import unittest
import urllib.request

import picket
from chart import RELEASE, Rendered, values
from processes import ProcessTest, free_port, until


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Policy(ProcessTest):
    def setUp(self):
        super().setUp()
        port = free_port()
        self.start(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""])
        until(lambda: answers(port))
        self.values = values("minimal") | {"redis": {"url": f"redis://127.0.0.1:{port}"}}

    def role(self, role: str, name: str, given: dict) -> subprocess.Popen:
        """the container's command and variables, with the paths of a folder"""
        rendered = Rendered(given)
        container = rendered.workload(role)["spec"]["template"]["spec"]["containers"][0]
        config = self.folder / f"{name}.yaml"
        config.write_text(rendered.one("ConfigMap", f"{RELEASE}-picket")["data"]["picket.yaml"])
        places = {"/etc/picket/config/picket.yaml": config, container["args"][-1]: self.folder / name}
        arguments = [places.get(argument, argument) for argument in container["args"]]
        return self.picket(arguments, name, {entry["name"]: picket.value(entry, rendered) for entry in container["env"]})

    def policy_version(self, name: str) -> int:
        """0 while it is not ready"""
        try:
            with urllib.request.urlopen(f"http://{self.address(name, 'operations')}/readyz", timeout=10) as answer:
                return json.load(answer)["policyVersion"]
        except OSError:
            return 0

    def test_of_the_values_comes_from_coordinators_and_reaches_nodes_that_go_on(self):
        self.role("node", "node", self.values)
        coordinator = self.role("coordinator", "coordinator", self.values)
        until(lambda: self.policy_version("node") == 1)
        coordinator.terminate()
        coordinator.wait()

        self.values["config"]["policy"]["security"] = {"violationsBeforeClose": 7}
        self.role("coordinator", "coordinator-again", self.values)
        until(lambda: self.policy_version("node") == 2)

        # One that starts with what it had before undoes nothing.
        self.values["config"]["policy"].pop("security")
        self.role("node", "late-node", self.values)
        until(lambda: self.policy_version("late-node") == 2)
        self.assertEqual(self.policy_version("node"), 2)


if __name__ == "__main__":
    unittest.main()
