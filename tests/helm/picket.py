"""The real `picket` on what the chart gives a role: its file, its variables and its secrets."""

import base64
import os
import subprocess
import tempfile
from pathlib import Path

from chart import RELEASE, Rendered

PICKET = os.environ["PICKET_BIN"]
SECRET = "5b2c0f6a9d3e48178c6d4e2f1a0b9c8d"
# What the Secrets hold that the chart only names.
OUTSIDE = {
    ("picket-redis", "node-url"): "rediss://picket-node:a-password-of-nodes@redis:6380",
    ("picket-redis", "coordinator-url"): "rediss://picket-coordinator:a-password-of-its-own@redis:6380",
    ("picket-admin", "username"): "warden",
    ("picket-admin", "password"): "a-long-password-of-the-warden",
    ("picket-postgres", "uri"): "postgres://picket:a-password-of-the-store@postgres/picket?sslmode=verify-full",
    ("picket-check", "token"): SECRET + "-check",
    ("picket-otlp", "headers"): "authorization=Basic%20abc",
}


def schema() -> str:
    return subprocess.run([PICKET, "schema"], check=True, capture_output=True, text=True).stdout


def check_config(rendered: Rendered, role: str) -> subprocess.CompletedProcess:
    """as the process in the pod would read it, with every file below /etc/picket in a folder of its own"""
    with tempfile.TemporaryDirectory() as folder:
        container = rendered.workload(role)["spec"]["template"]["spec"]["containers"][0]
        mounts = [mount["mountPath"] for mount in container["volumeMounts"] if mount["mountPath"].startswith("/etc/picket/")]
        for path in mounts:
            write_files(Path(folder + path))
        config = Path(folder, "etc/picket/config/picket.yaml")
        text = rendered.one("ConfigMap", f"{RELEASE}-picket")["data"]["picket.yaml"]
        config.write_text(text.replace("/etc/picket/", f"{folder}/etc/picket/"))
        variables = {entry["name"]: value(entry, rendered) for entry in container["env"]}
        command = [PICKET, "check-config", "--role", role, str(config)]
        return subprocess.run(command, env=variables, capture_output=True, text=True)


def value(entry: dict, rendered: Rendered) -> str:
    if "value" in entry:
        return entry["value"]
    wanted = entry["valueFrom"]["secretKeyRef"]
    for secret in rendered.all("Secret"):
        if secret["metadata"]["name"] == wanted["name"]:
            plain = secret.get("stringData", {}).get(wanted["key"])
            return plain or base64.b64decode(secret["data"][wanted["key"]]).decode()
    return OUTSIDE[wanted["name"], wanted["key"]]


def write_files(folder: Path):
    folder.mkdir(parents=True)
    match folder.name:
        case "tls":
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                 "-subj", "/CN=gateway", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
                check=True, capture_output=True,
            )
        case "redis" | "upstream" | "postgres":
            write_files(folder / "tls")
            (folder / "ca.crt").write_text((folder / "tls" / "tls.crt").read_text())
        case "assertion":
            (folder / "secret").write_text(SECRET + "-assertion")
        case "jwt":
            (folder / "secret").write_text(SECRET + "-jwt")
