"""Epochs and the times at which weights are read: by the data loader's epochs, or by optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_nndyn.callback.trainer_state import batches_per_step, has_validation, was_cut_short
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, batch_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class SnapshotSchedule:
    """The times at which snapshots are due. Snapshot 0, before the first step, is always due and not listed.

    Attributes:
        batches: for numbers of batches of the first epoch, the fractions that are due after them, rising;
            several where batches are few.
        epochs: the epochs after which a snapshot is due; None for every epoch.
        impossible: fractions that no batch can be found for, as the epoch's length is not known.
    """

    batches: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    epochs: frozenset[int] | None = None
    impossible: tuple[float, ...] = ()

    @classmethod
    def from_times(cls, times: Sequence[float] | None, batches_per_epoch: float) -> SnapshotSchedule:
        """Turns times in epochs into batch counts.

        Args:
            times: as checked by `check_times`; None for `DEFAULT_TIMES` and every epoch end.
            batches_per_epoch: batches of the first epoch, infinite where the loader has no length.
        """
        fractions = DEFAULT_TIMES if times is None else tuple(t for t in times if 0 < t < 1)
        epochs = None if times is None else frozenset(int(t) for t in times if t >= 1)
        if math.isinf(batches_per_epoch):
            return cls({}, epochs, tuple(fractions))
        batches: dict[int, tuple[float, ...]] = {}
        for time in sorted(fractions):
            count = batch_of(time, int(batches_per_epoch))
            batches[count] = (*batches.get(count, ()), time)
        return cls(batches, epochs)

    def after_batch(self, epoch: int, count: int, last: bool) -> tuple[float, ...]:
        """The times that are due after ``count`` batches of an epoch (counted from 0); mostly none."""
        due = self.batches.get(count, ()) if epoch == 0 else ()
        return (*due, *self.after_epoch(epoch)) if last else due

    def after_epoch(self, epoch: int) -> tuple[float, ...]:
        """The time that is due at the end of an epoch (counted from 0), if any."""
        return (epoch + 1.0,) if self.epochs is None or epoch + 1 in self.epochs else ()


class EpochCounter:
    """Counts the data loader's epochs.

    Args:
        times: at which the weights are read, as for `SnapshotSchedule.from_times`.
        batches: in an epoch; infinite where the loader has no length.

    Attributes:
        by_steps: whether optimizer steps are counted in place of the loader's epochs.
        validation_hint: what else to say where validation is missed.
        batches: in an epoch.
        schedule: the times that are due.
        num_ended: epochs that have ended, including one that ends with the latest batch.
        ending: whether one ends with the latest batch.
    """

    by_steps = False
    validation_hint = ""

    def __init__(self, times: Sequence[float] | None = None, batches: float = math.inf) -> None:
        self.batches, self.schedule = batches, SnapshotSchedule.from_times(times, batches)
        self.num_ended, self.ending = 0, False
        self._latest_due = 0.0

    def after_batch(self, trainer: Trainer, count: int) -> tuple[float, ...]:
        """The times that are due after ``count`` batches of the loader's epoch."""
        epoch, self.ending = trainer.current_epoch, trainer.is_last_batch
        self.num_ended = epoch + self.ending
        due = self.schedule.after_batch(epoch, count, self.ending)
        self._latest_due = due[-1] if due else self._latest_due
        return due

    def after_epoch(self, trainer: Trainer) -> tuple[float, ...]:
        """The time that is due at the end of the loader's epoch, and was not after its last batch.

        That is so where the model cuts the epoch short, or where the run is resumed between the last batch
        and the epoch's end.
        """
        self.num_ended = trainer.current_epoch + 1
        due = self.schedule.after_epoch(trainer.current_epoch)
        return due if due and self._latest_due < due[-1] and not was_cut_short(trainer) else ()

    def validated_epoch(self, trainer: Trainer) -> int:
        """The epoch (counted from 0) that a validation now belongs to."""
        return trainer.current_epoch

    def misses_validation(self, trainer: Trainer) -> bool:
        """Whether a validation should have come in the epochs that have ended."""
        every = trainer.check_val_every_n_epoch
        return not trainer.enable_validation or (every is not None and self.num_ended >= every)

    def time(self, trainer: Trainer) -> float:
        """Progress of the run in epochs."""
        return trainer.current_epoch

    @property
    def num_started(self) -> int:
        """Epochs that have started, when the run ends."""
        return self.num_ended


class StepCounter(EpochCounter):
    """Counts optimizer steps as the Trainer does: so many are an epoch, and the loader's epochs are none.

    Args:
        times: as for `EpochCounter`.
        length: steps of an epoch.
        steps: made before, in a run that is resumed.
        batches: in an epoch.
    """

    by_steps = True
    validation_hint = "; Trainer(val_check_interval=...), in batches, brings validation within an epoch"

    def __init__(
        self, times: Sequence[float] | None, length: int, steps: int = 0, batches: float = math.inf
    ) -> None:
        super().__init__(times, length)  # each step is a batch of the schedule
        self.batches = batches
        self._length, self._steps = length, steps
        self.num_ended, self.ending = steps // length, steps > 0 and steps % length == 0

    def after_batch(self, trainer: Trainer, count: int) -> tuple[float, ...]:
        """The times that have come due with a batch.

        A batch may bring no step, as with accumulated gradients, or several, of several optimizers; what
        becomes due between two of these is due after the last.
        """
        before, self._steps = self._steps, trainer.global_step
        self.num_ended = self._steps // self._length
        self.ending = self.num_ended > before // self._length
        due: list[float] = []
        for step in range(before, self._steps):
            epoch, index = divmod(step, self._length)
            due += self.schedule.after_batch(epoch, index + 1, index + 1 == self._length)
        return tuple(due)

    def after_epoch(self, trainer: Trainer) -> tuple[float, ...]:
        """Nothing is due at the end of the loader's epoch."""
        return ()

    def validated_epoch(self, trainer: Trainer) -> int:
        """The epoch (counted from 0) that a validation now belongs to."""
        return self.num_ended - self.ending

    def misses_validation(self, trainer: Trainer) -> bool:
        """Whether validation never comes, or only at the end of a loader's epoch that is longer than ours."""
        batches, every = trainer.num_training_batches, getattr(trainer, "val_check_batch", None)
        rare = every is not None and every >= batches > self.batches
        return rare or not has_validation(trainer)

    def time(self, trainer: Trainer) -> float:
        """Progress of the run in epochs."""
        return self._steps / self._length

    @property
    def num_started(self) -> int:
        """Epochs that have started."""
        return math.ceil(self._steps / self._length)


def make_counter(trainer: Trainer, times: Sequence[float] | None, steps: int | None) -> EpochCounter:
    """The counter of a run that begins or is resumed. All processes must call this.

    Args:
        trainer: whose run it is.
        times: at which the weights are read, as for `SnapshotSchedule.from_times`.
        steps: optimizer steps that count as an epoch; None for the data loader's epochs.
    """
    if steps is None:
        # All processes keep to one schedule, or they would wait for each other at different batches.
        return EpochCounter(times, trainer.strategy.broadcast(trainer.num_training_batches))
    batches = math.ceil(steps * _batches_per_step(trainer))
    return StepCounter(times, steps, trainer.global_step, batches)


def _batches_per_step(trainer: Trainer) -> float:
    """Batches for each step that the Trainer counts: where the model makes the steps, one an optimizer."""
    if trainer.lightning_module.automatic_optimization:
        return batches_per_step(trainer, trainer.current_epoch)
    return 1 / max(1, len(trainer.optimizers))


def check_num_steps(steps: object) -> int | None:
    """Returns the number of steps that count as an epoch; None for the data loader's own epochs.

    Raises:
        ValueError: if it is not a whole number of at least 1.
    """
    if steps is None or (isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1):
        return steps
    raise ValueError(
        f"snapshot_every_n_steps={steps!r}: give a whole number of optimizer steps, at least 1, such as "
        "1000; None reads the weights by epochs"
    )


def check_times(times: Iterable[float] | None) -> tuple[float, ...] | None:
    """Returns snapshot times as a rising tuple of floats, None as None.

    Raises:
        ValueError: if a time is neither a fraction of the first epoch nor a whole number of epochs.
    """
    if times is None:
        return None
    times = tuple(sorted({float(time) for time in times}))
    for time in times:
        if not (0 <= time < 1 or (math.isfinite(time) and time >= 1 and time == int(time))):
            raise ValueError(
                f"snapshots holds {time:g}: give fractions of the first epoch (0.25) and whole epochs (1, 2)"
            )
    return times
