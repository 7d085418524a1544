"""Ray clusters on loopback, of nodes that are processes of this machine."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SPY = """
import os, sys
def log(event, arguments):
    if event == "tempfile.mkdtemp" and "rms-deploy-bench-" in arguments[0]:
        (node,) = [a.partition("=")[2] for a in sys.orig_argv if a.startswith("--node-ip-address=")]
        with open(os.environ["RMS_DEPLOY_TEST_LOG"], "a") as file:
            file.write(node + "\\n")
sys.addaudithook(log)
"""
"""On the nodes: writes down each benchmark that begins. Python imports it as sitecustomize."""


class LoopbackCluster:
    """Nodes of one CPU each, every one in a process group of its own. `environment` is that of its users."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "benchmarks"
        self.log.touch()
        (folder / "sitecustomize.py").write_text(SPY)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
        # Nodes listen on every address, so that a token keeps others out. It must not be that of the user's home.
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._of_nodes = {**self.environment, "PYTHONPATH": path, "RMS_DEPLOY_TEST_LOG": str(self.log)}
        self._of_nodes["TMPDIR"] = str(folder)  # what a killed node leaves behind goes with the cluster
        self._folder = folder
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.2", 0))
            self.address = f"127.0.0.2:{free.getsockname()[1]}"

    def start(self, ip: str, *options: str) -> None:
        """Start a node, the first as the head, and wait until it is there. 127.0.0.1 would become another address."""
        if self._nodes:
            place = [f"--address={self.address}"]
        else:
            place = ["--head", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false"]
            place += [f"--temp-dir={self._folder}/ray"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place, f"--node-ip-address={ip}"]
        command += ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", *options]
        output = self._folder / f"{ip}.log"
        with output.open("wb") as file:
            self._nodes[ip] = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._of_nodes, start_new_session=True
            )
        end = time.monotonic() + 90
        while b"Ray runtime started" not in output.read_bytes():
            assert self._nodes[ip].poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.1)

    def kill(self, ip: str) -> None:
        """End a node and all its processes at once, as a power cut does."""
        with suppress(ProcessLookupError):
            os.killpg(self._nodes[ip].pid, signal.SIGKILL)
        self._nodes.pop(ip).wait()

    def close(self) -> None:
        for ip in list(self._nodes):
            self.kill(ip)

    def begun(self) -> list[str]:
        """The node of each benchmark that has begun."""
        return self.log.read_text().split()
