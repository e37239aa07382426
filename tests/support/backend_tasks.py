"""What workers of a cluster do in tests. Cheap to import: on Ray each test has new worker processes."""

import os
import signal
import time
from pathlib import Path

Task = tuple[Path, int]


def wait_for(*files: Path) -> None:
    deadline = time.monotonic() + 300
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"{files} did not appear"
        time.sleep(0.01)


def meet(task: Task) -> int:
    """Come back only once the other one runs, too."""
    folder, number = task
    (folder / f"{number}").touch()
    wait_for(folder / "0", folder / "1")
    return os.getpid()


def fail_beside_another(task: Task) -> None:
    """The first fails while the second runs; the second ends when it is let go."""
    from lightning_nndyn.errors import CorpusError

    folder, number = task
    if number == 0:
        wait_for(folder / "second began")
        raise CorpusError("the first one failed")
    (folder / "second began").touch()
    wait_for(folder / "let go")
    (folder / "second ended").touch()


def die_once(task: Task) -> int:
    """The first one's process is killed at its first attempt, while the second one runs."""
    folder, number = task
    with (folder / f"attempts {number}").open("a") as attempts:
        attempts.write("x")
    if number == 0 and not (folder / "died").exists():
        wait_for(folder / "attempts 1")
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for(folder / "died")
    return number


def die(task: Task) -> None:
    """As a run does that takes more memory than the machine has: the system kills the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def keep_to_itself(task: Task) -> int:
    folder, number = task
    (folder / "busy").mkdir()
    time.sleep(0.05)
    (folder / "busy").rmdir()
    return number
