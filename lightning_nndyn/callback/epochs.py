"""What counts as an epoch: the data loader's, or so many optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_nndyn.callback.schedule import Schedule, Stretches
from lightning_nndyn.callback.trainer_state import batches_per_step, broken_off, has_validation

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Clock:
    """Counts the data loader's epochs.

    Args:
        times: at which the weights are read, as for `Schedule.of`.
        batches: in an epoch; infinite where the loader has no length.

    Attributes:
        by_steps: whether stretches of optimizer steps are counted in place of epochs.
        hint: what else to say where validation is missed.
        batches: in an epoch.
        impossible: times that will not come, see `Schedule`.
        ended: how many epochs have ended, that included which ends with the batch.
        ending: whether one ends with the batch.
    """

    by_steps = False
    hint = ""

    def __init__(self, times: Sequence[float] | None = None, batches: float = math.inf) -> None:
        self.batches, self._schedule = batches, Schedule.of(times, batches)
        self.impossible = self._schedule.impossible
        self.ended, self.ending = 0, False
        self._visited = 0.0

    def after_batch(self, trainer: Trainer, count: int) -> tuple[float, ...]:
        """The times that are due after ``count`` batches of the loader's epoch."""
        epoch, self.ending = trainer.current_epoch, trainer.is_last_batch
        self.ended = epoch + self.ending
        due = self._schedule.after_batch(epoch, count, self.ending)
        self._visited = due[-1] if due else self._visited
        return due

    def after_epoch(self, trainer: Trainer) -> tuple[float, ...]:
        """The time that is due at the end of the loader's epoch, and was not after its last batch.

        The model has cut the epoch short, or the run is resumed between the last batch and here.
        """
        self.ended = trainer.current_epoch + 1
        due = self._schedule.after_epoch(trainer.current_epoch)
        return due if due and self._visited < due[-1] and not broken_off(trainer) else ()

    def validated(self, trainer: Trainer) -> int:
        """The epoch (counted from 0) that a validation now belongs to."""
        return trainer.current_epoch

    def misses_validation(self, trainer: Trainer) -> bool:
        """Whether a validation should have come by the end of this epoch."""
        every = trainer.check_val_every_n_epoch
        return not trainer.enable_validation or (every is not None and trainer.current_epoch + 1 >= every)

    def time(self, trainer: Trainer) -> float:
        """How far the run is, in epochs."""
        return trainer.current_epoch

    @property
    def begun(self) -> int:
        """How many epochs have begun, as it is when the run ends."""
        return self.ended


class StepClock(Clock):
    """Counts optimizer steps, as the Trainer does, in stretches of one length. Epochs of the loader are none.

    Args:
        trainer: whose run begins, or goes on.
        times: as for `Clock`.
        length: steps of a stretch.
    """

    by_steps = True
    hint = "; Trainer(val_check_interval=...), in batches, brings validation within an epoch"

    def __init__(self, trainer: Trainer, times: Sequence[float] | None, length: int) -> None:
        batches = math.ceil(length * _batches_per_step(trainer))
        super().__init__(times, batches)
        self._stretches = Stretches.of(times, length, trainer.global_step)
        self.ended, self.ending = self._stretches.ended, self._stretches.ending

    def after_batch(self, trainer: Trainer, count: int) -> tuple[float, ...]:
        """The times that have come due with a batch."""
        due = self._stretches.after_batch(trainer.global_step)
        self.ended, self.ending = self._stretches.ended, self._stretches.ending
        return due

    def after_epoch(self, trainer: Trainer) -> tuple[float, ...]:
        """Nothing is due at the end of the loader's epoch."""
        return ()

    def validated(self, trainer: Trainer) -> int:
        """The stretch (counted from 0) that a validation now belongs to."""
        return self._stretches.validated

    def misses_validation(self, trainer: Trainer) -> bool:
        """Whether validation does not come, or only at the end of a loader's epoch longer than a stretch."""
        batches, every = trainer.num_training_batches, getattr(trainer, "val_check_batch", None)
        rare = every is not None and every >= batches > self.batches
        return rare or not has_validation(trainer)

    def time(self, trainer: Trainer) -> float:
        """How far the run is, in stretches."""
        return self._stretches.steps / self._stretches.length

    @property
    def begun(self) -> int:
        """How many stretches have begun."""
        return math.ceil(self._stretches.steps / self._stretches.length)


def clock_of(trainer: Trainer, times: Sequence[float] | None, steps: int | None) -> Clock:
    """The clock of a run that begins, or goes on.

    Args:
        trainer: whose run it is.
        times: at which the weights are read, as for `Schedule.of`.
        steps: optimizer steps that count as an epoch; None for the data loader's epochs.
    """
    if steps is not None:
        return StepClock(trainer, times, steps)
    # All processes keep to one schedule, or they would wait for each other at different batches.
    return Clock(times, trainer.strategy.broadcast(trainer.num_training_batches))


def _batches_per_step(trainer: Trainer) -> float:
    """Batches for each step that the Trainer counts: where the model makes the steps, one an optimizer."""
    if trainer.lightning_module.automatic_optimization:
        return batches_per_step(trainer, trainer.current_epoch)
    return 1 / max(1, len(trainer.optimizers))
