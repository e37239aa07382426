"""Studies of Optuna with random draws, without its messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def study(storage: Any = None, direction: str = "maximize", **settings: Any) -> Any:
    """A new study that draws the same trials each time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=storage, direction=direction, sampler=sampler, **settings)


def states(found: Any) -> list[str]:
    """The names of its trials' states."""
    return [trial.state.name for trial in found.trials]


def journal(folder: Path) -> JournalStorage:
    """A storage in one file."""
    return JournalStorage(JournalFileBackend(str(folder / "sweep.log")))
