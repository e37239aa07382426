"""Scripts that tests run on several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from warm_processes import Warm

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


PATIENCE = 300
"""Seconds that tests wait for what takes ten on an idle machine."""


def environment() -> dict[str, str]:
    """This process's variables, for one that imports what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}


def wait_until(happened: Callable[[], object], *processes: subprocess.Popen[Any] | Warm) -> None:
    """Waits for what processes are to do; fails when one of them does, when all end without it, or late."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        codes = [process.poll() for process in processes]
        assert all(code in (None, 0) for code in codes), "a process has failed"
        assert not codes or None in codes or happened(), "the processes have ended without it"
        assert time.monotonic() < deadline, f"nothing in {PATIENCE} seconds"
        time.sleep(0.02)


def run_script(script: str, folder: Path, *arguments: object, copies: int = 1, timeout: float = 540) -> None:
    """Runs a script of this folder, several copies of it side by side, until all have ended.

    Args:
        script: its name.
        folder: its first argument, its working folder, and where it prints to (``output.txt``).
        arguments: what else it is given.
        copies: how many: the processes of one training, with the variables that Lightning's launcher sets.
        timeout: seconds after which all of them are killed, with what they have started: a deadlock.
    """
    path, output = Path(__file__).with_name(script), folder / "output.txt"
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(copies)}
    started: list[Warm] = []
    try:
        for rank in range(copies):
            own = {**meet, "LOCAL_RANK": str(rank)} if copies > 1 else {}
            started.append(Warm(path, folder, *arguments, folder=folder, output=output, environment=own))
        codes = [process.wait(timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0] * copies, output.read_text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def leave_group() -> None:
    """The last thing a script does: torch may abort a process that exits in its group (pytorch#190489)."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def results(folder: Path, name: str, processes: int = 2) -> list[dict[str, Any]]:
    """What each process has written of a run."""
    return [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in range(processes)]


def times(result: dict[str, Any]) -> list[float]:
    """When the callback has read the weights."""
    return [snapshot["epoch"] for snapshot in result["record"]["history"]]
