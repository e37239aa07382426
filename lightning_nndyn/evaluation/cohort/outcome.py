"""What a way of stopping spends on a sweep, and what it misses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.evaluation.cohort.ways import Lap, best_until

BUDGETS = (0.05, 0.1, 0.2)
"""Shares of a sweep's epochs after which it is looked at."""

_GOOD_SHARE = 0.25


@dataclass(frozen=True)
class Outcome:
    """What a way of stopping makes of a sweep.

    Attributes:
        epochs: that are trained, as a share of all.
        regret: how far the best accuracy that is seen lies below the best one, a fraction.
        lost: share of the best quarter that is not trained to the end.
        regret_at: the regret once so much of `BUDGETS` is spent.
    """

    epochs: float
    regret: float
    lost: float
    regret_at: tuple[float, ...]

    @classmethod
    def of(cls, sweep: RecordedSweep, laps: Sequence[Lap]) -> Outcome:
        """The outcome of what was trained, in this order."""
        values = np.array([run.value for run in sweep.runs], dtype=np.float64)
        best, total = float(values.max()), sum(sweep.epochs)
        ends = np.zeros(len(values))
        for run, end in laps:
            ends[run] = end
        good = np.argsort(-values, kind="stable")[: max(1, round(_GOOD_SHARE * len(values)))]
        history = [*_history(sweep, laps)]
        return cls(
            epochs=float(ends.sum() / total),
            regret=best - history[-1][1],
            lost=float(np.mean(ends[good] < np.array(sweep.epochs)[good])),
            regret_at=tuple(best - _seen(history, budget * total) for budget in BUDGETS),
        )


def _history(sweep: RecordedSweep, laps: Sequence[Lap]) -> Iterator[tuple[float, float]]:
    """Epochs spent, and the best accuracy seen, after each epoch of each lap."""
    reached = dict.fromkeys(range(len(sweep.runs)), 0.0)
    spent = best = 0.0
    for run, end in laps:
        begin = reached[run]
        for epoch in [*range(int(begin) + 1, int(end) + 1), end]:
            best = max(best, best_until(sweep, run, epoch))
            yield spent + epoch - begin, best
        spent, reached[run] = spent + end - begin, end


def _seen(history: Sequence[tuple[float, float]], budget: float) -> float:
    return max((best for spent, best in history if spent <= budget), default=0.0)
