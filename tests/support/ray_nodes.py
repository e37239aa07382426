"""A Ray cluster of several nodes on this machine, each begun by ``ray start`` as on a real one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from processes import PATIENCE, free_port

# A node that is gone is missed within seconds.
_WATCHFUL = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}


class Nodes:
    """The nodes; the first is the head."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._nodes = folder, list[subprocess.Popen[bytes]]()
        self.address = ""

    def start(self, *options: str) -> None:
        """Starts a node with one core and waits until it has joined."""
        output = self._folder / f"node{len(self._nodes)}.txt"
        place = ["--address", self.address] if self.address else ["--head", f"--temp-dir={self._folder}"]
        if not self.address:
            place += ["--port=0", f"--ray-client-server-port={free_port()}", "--include-dashboard=false"]
            place += ["--no-monitor"]  # a process that would start more nodes where they are wanted
        node = f"--dashboard-agent-listen-port={free_port()}", "--node-ip-address=127.0.0.1", "--num-cpus=1"
        node += ("--include-log-monitor=false",)  # a process that shows the driver what others print
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        with output.open("w") as file:
            self._nodes.append(
                subprocess.Popen([*command, *place, *node, *options], stdout=file, stderr=file)
            )
        deadline = time.monotonic() + PATIENCE
        while "Ray runtime started" not in output.read_text():
            assert time.monotonic() < deadline and self._nodes[-1].poll() is None, output.read_text()
            time.sleep(0.1)
        if not self.address:
            found = re.search(r"address='([0-9.:]+)'", output.read_text())
            assert found, output.read_text()
            self.address = found[1]

    def kill(self, number: int) -> set[int]:
        """Kills all processes of a node at once; ``ray stop`` would end every Ray of this machine.

        Returns:
            Which they were; none where the node is dead already.
        """
        node = self._nodes[number]
        if node.poll() is not None:
            return set()
        first = psutil.Process(node.pid)
        found = [first, *first.children(recursive=True)]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait()
        return {process.pid for process in found}

    def runs(self, number: int, pid: int) -> bool:
        """Whether a process is one of a node's."""
        return any(parent.pid == self._nodes[number].pid for parent in psutil.Process(pid).parents())

    def end(self) -> None:
        for number in reversed(range(len(self._nodes))):
            self.kill(number)


@contextmanager
def nodes(path: str) -> Iterator[Nodes]:
    """An empty cluster whose workers find the modules in a folder."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path, as those of sockets must be
    before = dict(os.environ)
    os.environ.update(_WATCHFUL, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    os.environ.update(PYTHONPATH=os.pathsep.join([path, before.get("PYTHONPATH", "")]).rstrip(os.pathsep))
    os.environ.pop("RAY_ADDRESS", None)
    cluster = Nodes(folder)
    try:
        yield cluster
    finally:
        cluster.end()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)
