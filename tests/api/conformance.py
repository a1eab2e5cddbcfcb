"""Schemathesis asks a real process for everything that its OpenAPI document describes, rightly and wrongly: no answer is a server error, none is
undescribed, and every body has the described form."""

import json
import os
import random
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

USERNAME, PASSWORD = "warden", "a-long-password-of-the-stories"
BASE = "/api/security"
SECONDS_MAX = 80
LOGIN_SECONDS_MAX = 10
# Requests without a credential would slow down the suite's own address; r09 and r14 hold that. A schema cannot say that a cursor is
# one of an earlier page, or that one time is before another: what has the right form may still be refused.
CHECKS_LEFT_OUT = "ignored_auth,positive_data_acceptance"


@contextmanager
def picket():
    """Starts `picket standalone`, gives the address of its management API, and ends it."""
    with tempfile.TemporaryDirectory(prefix="picket-api-") as directory:
        config = Path(directory) / "picket.yaml"
        config.write_text(json.dumps({
            "environment": "development",
            "node": {"listen": "127.0.0.1:0", "opsListen": "127.0.0.1:0"},
            "coordinator": {"listen": "127.0.0.1:0"},
        }))
        data = Path(directory) / "data"
        data.mkdir()
        said = (Path(directory) / "log").open("w+")
        process = subprocess.Popen(
            [os.environ["PICKET_BIN"], "standalone", "--config", config, "--data-dir", data],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        try:
            address = management(process)
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=said)
            yield address
            if process.poll() is not None:
                said.seek(0)
                raise RuntimeError(f"picket ended with {process.returncode}:\n{said.read()[-4000:]}")
        finally:
            process.terminate()
            process.wait(timeout=30)


def management(process) -> str:
    for line in process.stderr:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        fields = record.get("fields", record)
        if fields.get("message") == "listening" and fields.get("listener") == "management":
            return fields["address"]
    raise RuntimeError("picket ended before it listened")


def environment() -> dict[str, str]:
    foreign = ("PICKET_", "SOCKET_ADMIN_", "OTEL_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    for name in ("WHITE_LIST_URLS", "REDIS_URL", "RUST_LOG"):
        own.pop(name, None)
    return own | {"SOCKET_ADMIN_USERNAME": USERNAME, "SOCKET_ADMIN_PASSWORD": PASSWORD, "PICKET_TELEMETRY__LOGFORMAT": "json"}


def schemathesis(address: str, seed: int, seconds: int, *selection: str) -> int:
    command = [
        Path(sys.executable).with_name("st"), "run", f"http://{address}{BASE}/openapi.json",
        "--auth", f"{USERNAME}:{PASSWORD}", "--seed", str(seed), "--max-time", str(seconds), "--checks", "all",
        "--exclude-checks", CHECKS_LEFT_OUT, "--continue-on-failure", "--no-color", *selection,
    ]
    return subprocess.run(command, cwd=tempfile.gettempdir(), check=False).returncode


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(2**32)
    print(f"seed {seed}: repeat with tests/api/run {seed}", flush=True)
    with picket() as address:
        failed = schemathesis(address, seed, SECONDS_MAX, "--exclude-path", "/login", "--exclude-path", "/stream")
        # Guessed passwords slow down whoever guesses: this comes last.
        return schemathesis(address, seed, LOGIN_SECONDS_MAX, "--include-path", "/login") or failed


if __name__ == "__main__":
    sys.exit(main())
