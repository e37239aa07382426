"""Who takes part in a run: one Trainer at a time, and all of its processes."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import distributed

from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.errors import NNDynError, NNDynWarning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_nndyn.callback.session import RunSession


def is_busy_elsewhere(session: RunSession, trainer: Trainer) -> bool:
    """Whether a session takes part in a fit of another Trainer than this one, which is still open."""
    other = getattr(session, "trainer", None)
    return session.active and other not in (None, trainer) and other.state.status == "running"


def refuse(strict: bool) -> None:
    """Warns of a Trainer that has the callback object of another one.

    Raises:
        NNDynError: if strict.
    """
    message = (
        "this GraphDynamicsCallback takes part in the fit of another Trainer, which is still open, and in "
        "one at a time: nothing of the second fit is read, predicted, stopped or recorded, and the first "
        "goes on as if alone. Give each Trainer a callback object of its own"
    )
    if strict:
        raise NNDynError(message)
    warnings.warn(message, NNDynWarning, stacklevel=3)


class Presence:
    """Tells the other processes that this one has the callback, and asks whether all of them have.

    What processes do together waits for all of them. So where one is without the callback, the others may do
    none of it, not even ask it. Each process with the callback counts itself in the store of the process
    group, while Lightning sets up the fit. Lightning then waits for all processes, with the callback or
    without, and after that the count is complete.
    """

    def __init__(self) -> None:
        self._key = ""

    def announce(self, trainer: Trainer, settings: Settings, index: int) -> None:
        """Counts this process, before Lightning's barrier.

        Args:
            trainer: of the fit.
            settings: the callback's arguments; processes that read at other times are counted apart.
            index: of the callback among those of its kind.
        """
        if trainer.world_size > 1 and _store() is not None:
            times = settings.snapshots, settings.snapshot_every_n_steps, settings.monitor, settings.topology
            self._key = f"nndyn/{index}/{times}"
            self._add(1)

    def missing(self, trainer: Trainer) -> str:
        """Why processes may not wait for each other; empty if they may. After Lightning's barrier."""
        found = self._add(0) if self._key else trainer.world_size
        if found == trainer.world_size:
            return ""
        return (
            f"{found} of {trainer.world_size} processes have it, with the same snapshots=, monitor= and "
            "topology=; all must, as they read and decide together. Give the Trainer the same callback on "
            "every process"
        )

    def withdraw(self) -> None:
        """Takes this process out of the count: the next fit counts anew."""
        if self._key:
            with suppress(RuntimeError):  # the store has ended with another process
                self._add(-1)
            self._key = ""

    def _add(self, number: int) -> int:
        store = _store()
        return 0 if store is None else int(store.add(self._key, number))


def _store() -> Any:
    """The key-value store of the default process group; None where there is none, as on TPUs."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    find = getattr(distributed.distributed_c10d, "_get_default_store", None)
    return None if find is None else find()
