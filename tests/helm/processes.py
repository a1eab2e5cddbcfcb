"""Real processes of a test, each on free ports and gone at its end."""

import os
import re
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

DEADLINE_SECONDS = 60
# Each process of picket finds ports of its own, and is gone at once.
VARIABLES = {
    "PICKET_NODE__LISTEN": "127.0.0.1:0",
    "PICKET_NODE__OPS_LISTEN": "127.0.0.1:0",
    "PICKET_NODE__DRAIN": "{graceMs: 0, spreadMs: 0}",
    "PICKET_COORDINATOR__LISTEN": "127.0.0.1:0",
    "PICKET_COORDINATOR__OPS_LISTEN": "127.0.0.1:0",
}


def until(found):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (what := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_SECONDS} s")
        time.sleep(0.05)
    return what


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class ProcessTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start(self, command: list, output: Path | None = None, variables: dict | None = None) -> subprocess.Popen:
        with open(output or os.devnull, "w") as written:
            process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=written, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def picket(self, arguments: list, name: str, variables: dict | None = None) -> subprocess.Popen:
        command = [os.environ["PICKET_BIN"], *arguments]
        return self.start(command, self.folder / f"{name}.banner", (variables or {}) | VARIABLES)

    def address(self, name: str, listener: str) -> str:
        """as the banner of a process tells it"""
        banner = self.folder / f"{name}.banner"
        return until(lambda: re.search(rf"{listener} +\w+://([\d.]+:\d+)", banner.read_text()))[1]
