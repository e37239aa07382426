"""A race whose process is killed again and again, at each kind of moment: python race_killed_script.py FOLDER

Each process races until its moment has come; the next goes on. Then the same race is run without a kill.
Processes are forked: to import all they need takes longer than the race.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import paused_runs
import torch

from lightning_nndyn.study import race
from lightning_nndyn.study.race_checkpoints import RaceCheckpoints
from lightning_nndyn.study.race_journal import RaceJournal

FOLDER = Path(sys.argv[1])
CANDIDATES = [{"rate": rate, "lr": rate} for rate in (0.01, 0.3, 0.1)]
MOMENTS = [
    ("training", 3), ("half a checkpoint", 2), ("checkpoint", 1), ("result", 1), ("half a checkpoint", 1),
    ("checkpoint", 1), ("deleted", 1), ("training", 9),
]  # fmt: skip
"""What has just been done, and how often in that process."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: type, name: str, count: int, act: Callable[..., None]) -> None:
    """Acts once a method has been called so often."""
    method, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        found = method(*args, **kwargs)
        calls += 1
        if calls == count:
            act(*args)
        return found

    setattr(owner, name, counted)


def cut(trainer: Any, path: Path, *_: Any) -> None:
    """Leaves half of a checkpoint."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    die()


def prepare(moment: str, count: int) -> None:
    if moment == "training":
        after(paused_runs.Line, "training_step", count, lambda *_: die())
    elif moment == "half a checkpoint":
        after(L.Trainer, "save_checkpoint", count, cut)
    elif moment == "checkpoint":
        after(L.Trainer, "fit", count, lambda *_: die())
    elif moment == "result":
        after(RaceJournal, "add", count, lambda *_: die())
    elif moment == "deleted":
        after(RaceCheckpoints, "delete_before", count, lambda *_: die())


def raced(name: str) -> None:
    trained = 0

    def train(params: dict[str, Any], callback: Any) -> float:
        nonlocal trained
        value, digest, batches = paused_runs.run(params, callback)
        trained += len(batches)
        print(f"{name} {params['rate']} {digest}", flush=True)
        return value

    found = race(train, CANDIDATES, file=FOLDER / name, rungs=((1 / 4, 0.7), (1.0, 0.3)))
    print(f"{name} trained {trained} batches, best {found.best}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for moment in MOMENTS:
        child = os.fork()
        if not child:
            prepare(*moment)
            raced("killed")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -signal.SIGKILL, (moment, status)
    raced("killed")
    raced("whole")
