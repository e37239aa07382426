"""Scripts that tests run on several processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch was built without gloo",
)


PATIENCE = 300
"""Seconds that tests wait for what takes ten on an idle machine."""


def environment() -> dict[str, str]:
    """This process's variables, for one that imports what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}


def wait_until(happened: Callable[[], object], *processes: subprocess.Popen[Any]) -> None:
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
        arguments: what else it is given; of several copies each gets its number first.
        copies: how many.
        timeout: seconds after which all of them are killed, with what they have started: a deadlock.
    """
    command = [sys.executable, str(Path(__file__).with_name(script)), str(folder)]
    started: list[subprocess.Popen[bytes]] = []
    with (folder / "output.txt").open("w") as output:
        try:
            for number in range(copies):
                own = [number] if copies > 1 else []
                started.append(
                    subprocess.Popen(
                        [*command, *map(str, (*own, *arguments))],
                        env=environment(), cwd=folder, stdout=output, stderr=output, start_new_session=True,
                    )
                )  # fmt: skip
            codes = [process.wait(timeout=timeout) for process in started]
        finally:
            for process in started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    assert codes == [0] * copies, (folder / "output.txt").read_text()


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
