"""The image, built from deploy/Containerfile and run with a read-only root, without capabilities, not as root, and with little memory."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from processes import ProcessTest, free_port, until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONFIGURATION = "/etc/picket/picket.yaml"
USER = 65532
# What the chart and the compose file ask for.
LOCKED = [
    "--network=host",
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--memory=128m",
    "--pids-limit=256",
    f"--volume={DEPLOY}/compose/picket.yaml:{CONFIGURATION}:ro",
]
# Podman as it works without systemd, in a container too.
ENGINE = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""


def run(*command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def podman(*arguments) -> str:
    return run("podman", "--root", FOLDER / "root", "--runroot", FOLDER / "run", "--storage-driver", "vfs", *arguments)


def setUpModule():
    """The recipe's base cannot be pulled everywhere: Debian's libraries and authorities alone are the same thing."""
    global FOLDER
    FOLDER = Path(tempfile.mkdtemp(prefix="picket-image-"))
    unittest.addModuleCleanup(shutil.rmtree, FOLDER, ignore_errors=True)
    (FOLDER / "containers.conf").write_text(ENGINE)
    os.environ["CONTAINERS_CONF"] = str(FOLDER / "containers.conf")
    run("mmdebstrap", "--quiet", "--variant=extract", "--include=libc6,libgcc-s1,libstdc++6", "bookworm", FOLDER / "base.tar")
    run("tar", "--append", "--file", FOLDER / "base.tar", "--dereference", "--directory=/", "etc/ssl/certs/ca-certificates.crt")
    podman("import", FOLDER / "base.tar", "localhost/base")
    (FOLDER / "binary").mkdir()
    shutil.copy(os.environ["PICKET_BIN"], FOLDER / "binary" / "picket")
    (FOLDER / "binary" / "Containerfile").write_text("FROM scratch\nCOPY picket /picket\n")
    podman("build", "--isolation=chroot", "--tag=localhost/binary", FOLDER / "binary")
    arguments = ["--build-arg=BASE=localhost/base", "--build-arg=BINARY=localhost/binary"]
    recipe = ["--tag=localhost/picket", "--file", DEPLOY / "Containerfile", FOLDER / "binary"]
    podman("build", "--isolation=chroot", *arguments, *recipe)


def get(address: str, path: str) -> str:
    return subprocess.run(["curl", "--silent", f"http://{address}{path}"], capture_output=True, text=True).stdout


class Image(ProcessTest):
    def runs(self, name: str, command: list, variables: dict, *options: str):
        self.addCleanup(podman, "rm", "--force", "--time=0", name)
        environment = [f"--env={variable}={value}" for variable, value in variables.items()]
        podman("run", "--detach", f"--name={name}", *LOCKED, *environment, *options, "localhost/picket", *command)

    def test_runs_both_roles_with_no_more_than_they_need(self):
        redis, listen, ops, management, ops_of_coordinator = (free_port() for _ in range(5))
        self.start(["redis-server", "--port", str(redis), "--save", "", "--bind", "127.0.0.1"])
        variables = {
            "REDIS_URL": f"redis://127.0.0.1:{redis}",
            "PICKET_NODE__LISTEN": f"127.0.0.1:{listen}",
            "PICKET_NODE__OPS_LISTEN": f"127.0.0.1:{ops}",
        }
        self.runs("node", ["node", "--config", CONFIGURATION], variables)
        data = self.folder / "data"
        data.mkdir()
        os.chown(data, USER, USER)
        self.folder.chmod(0o755)
        variables = {
            "REDIS_URL": f"redis://127.0.0.1:{redis}",
            "SOCKET_ADMIN_USERNAME": "admin",
            "SOCKET_ADMIN_PASSWORD": "a-password-of-the-image-test",
            "PICKET_COORDINATOR__LISTEN": f"127.0.0.1:{management}",
            "PICKET_COORDINATOR__OPS_LISTEN": f"127.0.0.1:{ops_of_coordinator}",
        }
        command = ["coordinator", "--config", CONFIGURATION, "--data-dir", "/var/lib/picket"]
        self.runs("coordinator", command, variables, f"--volume={data}:/var/lib/picket")

        until(lambda: '"mode":"normal"' in get(f"127.0.0.1:{ops}", "/readyz"))
        until(lambda: '"store":true' in get(f"127.0.0.1:{ops_of_coordinator}", "/readyz"))
        self.assertEqual({path.stat().st_uid for path in data.iterdir()}, {USER})
        metrics = get(f"127.0.0.1:{ops}", "/metrics").splitlines()
        used = [float(line.split()[-1]) for line in metrics if line.startswith("picket_memory_used_percent")]
        self.assertTrue(0 < used[0] < 90, f"the limit of its control group is its bound: {used}")

        for name in ["node", "coordinator"]:
            pid = podman("inspect", "--format={{.State.Pid}}", name).strip()
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            self.assertEqual(status["Uid"].split(), [str(USER)] * 4)
            self.assertEqual({status[caps] for caps in ["CapPrm", "CapEff", "CapBnd", "CapAmb"]}, {"0" * 16})
            podman("stop", "--time=40", name)
            self.assertEqual(podman("inspect", "--format={{.State.ExitCode}}", name).strip(), "0")

    def test_is_one_program_without_a_shell_that_says_what_it_is(self):
        [image] = json.loads(podman("inspect", "localhost/picket"))
        self.assertEqual(image["Config"]["User"], f"{USER}:{USER}")
        labels = {name.rsplit(".", 1)[1] for name in image["Config"]["Labels"] if name.startswith("org.opencontainers.image.")}
        self.assertLessEqual({"title", "description", "licenses", "version", "revision"}, labels)
        self.assertRegex(podman("run", "--rm", *LOCKED, "localhost/picket", "--version"), r"^picket \d")
        with self.assertRaisesRegex(AssertionError, "no such file or directory"):
            podman("run", "--rm", *LOCKED, "--entrypoint=/bin/sh", "localhost/picket", "-c", "true")


if __name__ == "__main__":
    unittest.main()
