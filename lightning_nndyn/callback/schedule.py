"""When the weights are read: after which batches of the first epoch, and after which epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lightning_nndyn.signature import DEFAULT_TIMES, batch_of


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
