"""Processes that begin with torch and Lightning imported: forked from one that has done that, once.

Importing both takes a process seconds of a core, and most scripts of tests work for less. What asks which
modules a process imports, or starts as users start it, begins with `subprocess` instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["lightning.pytorch", "optuna", "torch.distributed.tensor.parallel", "lightning_nndyn.callback"]
)


class Warm:
    """A script in a process, and a session, of its own; used as `subprocess.Popen`.

    Args:
        script: its file.
        arguments: what it is given.
        folder: its working folder.
        output: the file that it prints to, behind what is there.
        environment: variables that it has besides those of this process.
    """

    def __init__(
        self,
        script: Path,
        *arguments: object,
        folder: Path,
        output: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})}
        work = [str(script), *map(str, arguments)], folder, output.absolute(), variables
        self._process = _FORKS.Process(target=_run, args=work)
        self._process.start()
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that has ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("script", timeout)
        return code

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Signals it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, how)


def run_warm(
    script: Path, *arguments: object, folder: Path, timeout: float = 540, **environment: str
) -> tuple[int, str]:
    """How a script has ended, and all that it has printed.

    Args:
        script: its file.
        arguments: what it is given.
        folder: its working folder.
        timeout: seconds after which it is killed: a deadlock.
        environment: variables that it has besides those of this process.
    """
    with tempfile.NamedTemporaryFile() as output:
        process = Warm(script, *arguments, folder=folder, output=Path(output.name), environment=environment)
        try:
            return process.wait(timeout), Path(output.name).read_text()
        finally:
            process.kill()


def _run(arguments: list[str], folder: Path, output: Path, variables: dict[str, str]) -> None:
    """In the new process: what Python does with a script."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")
