"""Pauses a run: it goes on later, in another process, as if it had not been paused.

Lightning's checkpoint holds weights, optimizers, schedules, loops and callbacks. It does not hold the state
of the random numbers, and of an epoch that has begun it holds the number of batches, but not their order.
Both are added here, in the callback's part of the checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn._files import whole_file
from lightning_nndyn.callback.random_state import loader_generators, random_state, set_random_state
from lightning_nndyn.callback.trainer_state import batches_per_step
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.sweep import SweepMember

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

KEY = "pause"
"""Of the pause in the callback's part of a checkpoint."""


@dataclass
class Pause:
    """Saves a run where it is paused, and sets the state of one that goes on.

    Attributes:
        ckpt_path: checkpoint that the run goes on from; None for a run that begins.
        save_to: file that the run is saved to; None for a run that is not paused.
        asked: whether the user's code has asked for `ckpt_path`. A run whose code does not ask would begin
            anew whatever is saved, so it is not saved.
        saved: whether the run has been saved in this fit.
        member: of a sweep whose tuner may pause the run.
    """

    ckpt_path: str | None = None
    save_to: Path | None = None
    asked: bool = False
    saved: bool = False
    _epoch: dict[str, Any] = field(default_factory=dict)  # random state before the epoch's first batch
    _loaded: Mapping[str, Any] = field(default_factory=dict)
    _saving: dict[str, Any] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether the run is to be saved."""
        return self.asked and self.save_to is not None and not self.saved

    member: SweepMember | None = None

    @classmethod
    def of(cls, member: SweepMember | None) -> Pause:
        """The pause of a run whose tuner may pause it; of any other run one that does nothing."""
        return cls() if member is None else cls(member.ckpt_path, member.save_to, member=member)

    # -- a fit -----------------------------------------------------------------------------------------------

    def start_fit(self) -> None:
        """Sets or keeps the random state with which the data loaders' iterators are made."""
        self.saved = False
        if self._loaded:
            self._epoch = self._loaded["epoch"]
            set_random_state(self._epoch)
        elif self.active:
            self._epoch = random_state()

    def start_training(self, trainer: Trainer) -> None:
        """Brings data loaders and random numbers to where they were when the run was paused."""
        loaded, self._loaded = self._loaded, {}
        fetcher = _fetcher(trainer)
        if not loaded or fetcher is None:
            return
        generators = _generators(trainer)
        if self._epoch["generators"]:  # the iterators were made before these could be set
            set_random_state(self._epoch, generators)
            iter(fetcher)
        if loaded["batches"]:
            _skip(fetcher, loaded["batches"])
            set_random_state(loaded["now"], generators)

    def start_epoch(self, trainer: Trainer) -> None:
        """Keeps the random state with which an epoch begins."""
        loop = trainer.fit_loop
        has_iterators = not trainer.current_epoch or loop.restarting or getattr(loop, "is_resuming", False)
        if self.active and not has_iterators:
            self._epoch = random_state(_generators(trainer))

    # -- checkpoints -----------------------------------------------------------------------------------------

    def save(self, trainer: Trainer, within_epoch: bool) -> None:
        """Saves the run, whole or not at all. Where that cannot be, it will begin anew.

        Args:
            trainer: of the run.
            within_epoch: whether the epoch goes on; else it has ended, and all its hooks have been called.
        """
        if self.save_to is None or (within_epoch and not _can_go_on_from_here(trainer)):
            return
        now = random_state(_generators(trainer))
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready if within_epoch else 0
        self._saving = {"epoch": self._epoch if within_epoch else now, "now": now, "batches": batches}
        try:
            with whole_file(self.save_to) as part:
                trainer.save_checkpoint(part)
        except Exception as error:  # a full disk: torch raises other errors than OSError
            text = f"{self.save_to} cannot be written ({error}): the run begins anew where it would go on"
            warnings.warn(text, NNDynWarning, stacklevel=2)
        else:
            self.saved = True
        finally:
            self._saving = {}

    def report(self, trainer: Trainer, within_epoch: bool) -> None:
        """Saves the run and sends the report that waits for it, if there is one; see `save`."""
        if self.member is None or not self.member.holds_report:
            return
        self.saved = False
        # At an epoch's end Lightning updates this schedule only after the hooks.
        if self.active and (within_epoch or not _has_plateau(trainer)):
            self.save(trainer, within_epoch)
        self.member.report_saved(self.saved)
        self.saved = False

    def add_to(self, state: dict[str, Any]) -> dict[str, Any]:
        """The callback's part of a checkpoint, with the pause where the run is paused."""
        return {**state, KEY: self._saving} if self._saving else state

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up the pause of a checkpoint, if it is one."""
        self._loaded = state.get(KEY) or {}


def _fetcher(trainer: Trainer) -> Any:
    """Lightning's iterator over batches; None in a version that has another."""
    found = getattr(trainer.fit_loop, "_data_fetcher", None)
    return found if hasattr(found, "combined_loader") and hasattr(found, "fetched") else None


def _generators(trainer: Trainer) -> list[Any]:
    fetcher = _fetcher(trainer)
    return [] if fetcher is None else loader_generators(fetcher.combined_loader.flattened)


def _skip(fetcher: Any, batches: int) -> None:
    """Passes over the batches that the epoch has had, unless Lightning has told the loaders their place."""
    loaders = fetcher.combined_loader.flattened
    if all(hasattr(one, "state_dict") and hasattr(one, "load_state_dict") for one in loaders):
        return
    for _ in range(batches):
        next(fetcher)
    fetcher.fetched -= batches  # Lightning adds them


def _can_go_on_from_here(trainer: Trainer) -> bool:
    """Whether a run that is saved within an epoch can go on as if it had not been paused.

    Batches must be known by their number. A checkpoint does not hold the gradients that are accumulated, and
    Lightning does not update ``ReduceLROnPlateau`` at the end of the epoch that it goes on with.
    """
    fetcher = _fetcher(trainer)
    if fetcher is None or type(fetcher).__name__ == "_DataLoaderIterDataFetcher":
        return False
    if _has_plateau(trainer):
        return False
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    return batches % batches_per_step(trainer, trainer.current_epoch) == 0


def _has_plateau(trainer: Trainer) -> bool:
    return any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
