"""When the weights are read: after which batches of the first epoch, and after which epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lightning_nndyn.signature.snapshot import DEFAULT_TIMES, batch_of


@dataclass(frozen=True)
class Schedule:
    """The times at which snapshots are due; snapshot 0, before the first step, always is and is not listed.

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
    def of(cls, times: Sequence[float] | None, batches_per_epoch: float) -> Schedule:
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


@dataclass
class Stretches:
    """Optimizer steps in stretches of one length, each of which takes the place of an epoch.

    Attributes:
        length: steps that count as an epoch.
        schedule: of epochs of so many batches: here each step is one.
        steps: how many have been made.
        ending: whether the batch that was counted last has ended a stretch.
    """

    length: int
    schedule: Schedule
    steps: int = 0
    ending: bool = False

    @classmethod
    def of(cls, times: Sequence[float] | None, length: int, steps: int = 0) -> Stretches:
        """Turns times in stretches into step counts.

        Args:
            times: as for `Schedule.of`.
            length: steps that count as an epoch.
            steps: how many have been made before.
        """
        return cls(length, Schedule.of(times, length), steps, steps > 0 and steps % length == 0)

    def after_batch(self, steps: int) -> tuple[float, ...]:
        """The times that have come due with a batch, after which there are ``steps`` steps.

        A batch may bring none, as with accumulated gradients, or several, of several optimizers; what becomes
        due between two of these is due after the last.
        """
        before, self.steps = self.steps, steps
        self.ending = self.ended > before // self.length
        due: list[float] = []
        for step in range(before, steps):
            epoch, place = divmod(step, self.length)
            due += self.schedule.after_batch(epoch, place + 1, place + 1 == self.length)
        return tuple(due)

    @property
    def ended(self) -> int:
        """How many stretches have ended."""
        return self.steps // self.length

    @property
    def validated(self) -> int:
        """The stretch (counted from 0) that a validation after this batch belongs to."""
        return self.ended - self.ending


def check_length(steps: object) -> int | None:
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
