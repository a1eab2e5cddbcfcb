"""The gateway under test: a real process before one upstream, on ports of its own."""

import asyncio
import json
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

STARTS_WITHIN_SECONDS = 20
HIGH = 1_000_000
# Section 9 sends 16 MiB in one message, and 4 MiB in fragments of 64 bytes.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
FRAGMENTS_MAX = 65_536


def configuration(upstream_port: int) -> dict:
    """Everything as shipped, but for limits that the suite goes beyond by its size or its pace."""
    per_minute = {"windowMs": 60_000}
    return {
        "environment": "production",
        "state": {"url": "memory://"},
        "node": {
            "id": "edge-1",
            "listen": "127.0.0.1:0",
            "opsListen": "127.0.0.1:0",
            "limits": {"fragmentsMax": FRAGMENTS_MAX},
            "routes": [{"path": "/", "upstream": f"ws://127.0.0.1:{upstream_port}", "protocol": "opaque"}],
        },
        "coordinator": {"listen": "127.0.0.1:0", "opsListen": "127.0.0.1:0"},
        "policy": {
            "cors": {"allowedOrigins": [], "allowMissingOrigin": True},
            "rateLimiting": {
                "handshakeLimit": {"maxHandshakes": HIGH, **per_minute},
                "connectionLimit": {"maxConnections": HIGH, **per_minute},
                "messageLimit": {"maxMessages": HIGH, **per_minute},
                "eventLimit": {"maxEvents": HIGH, **per_minute},
                "burstLimit": {"maxEvents": HIGH, "windowMs": 1000},
            },
            "validation": {"maxPayloadSize": MESSAGE_BYTES_MAX},
            # The cases are offences: they would get the suite's own address blocked.
            "security": {"blockSuspiciousIps": False},
        },
    }


@asynccontextmanager
async def gateway(upstream_port: int):
    """Starts it, gives `host:port` of its gateway, and ends it."""
    with tempfile.TemporaryDirectory(prefix="picket-autobahn-") as directory:
        config = Path(directory) / "picket.yaml"
        config.write_text(json.dumps(configuration(upstream_port)))
        data = Path(directory) / "data"
        data.mkdir()
        process = await asyncio.create_subprocess_exec(
            os.environ["PICKET_BIN"], "standalone", "--config", config, "--data-dir", data,
            env=environment(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )
        said: list[str] = []
        try:
            address = await asyncio.wait_for(listens(process, said), STARTS_WITHIN_SECONDS)
            rest = asyncio.create_task(keep(process, said))
            yield address
            if process.returncode is not None:
                raise RuntimeError(f"picket ended with {process.returncode}:\n" + "\n".join(said[-50:]))
            rest.cancel()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def listens(process, said: list[str]) -> str:
    listeners = {}
    async for line in process.stderr:
        said.append(line.decode(errors="replace").rstrip())
        try:
            record = json.loads(line)
        except ValueError:
            continue
        fields = record.get("fields", record)
        if fields.get("message") == "listening":
            listeners[fields["listener"]] = fields["address"]
        if {"gateway", "ops", "management"} <= listeners.keys():
            return listeners["gateway"]
    raise RuntimeError("picket ended before its listeners opened:\n" + "\n".join(said))


async def keep(process, said: list[str]) -> None:
    """Its last lines, for when it ends too early."""
    async for line in process.stderr:
        said.append(line.decode(errors="replace").rstrip())
        del said[:-200]


def environment() -> dict[str, str]:
    foreign = ("PICKET_", "SOCKET_ADMIN_", "OTEL_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    for name in ("WHITE_LIST_URLS", "REDIS_URL", "RUST_LOG"):
        own.pop(name, None)
    return own | {"SOCKET_ADMIN_USERNAME": "warden", "SOCKET_ADMIN_PASSWORD": "a-long-password-of-the-stories"}
