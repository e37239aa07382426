"""Halving a sweep's runs ever later: all are trained for a while, the best a little longer, and so on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

EARLY = ((1 / 16, 1 / 4), (1 / 4, 1 / 2), (1.0, 1.0))
"""Rungs of a race by predictions: epochs, and the power of the share kept at last that goes on then."""

LONG = ((1 / 16, 1 / 4), (1 / 4, 1 / 2), (1.0, 3 / 4), (4.0, 1.0))
"""The same with one rung more, when the accuracy tells more."""

SEEN = ((1.0, 1 / 2), (2.0, 3 / 4), (4.0, 1.0))
"""Rungs of a race by accuracy, of which nothing is known within the first epoch."""


@dataclass(frozen=True)
class Race:
    """At each rung the best runs go on, at the last one to their end; it needs all runs at once.

    Before the first epoch is over they are ranked by what was predicted; from then on by the mean of two
    ranks, of that and of the best accuracy so far. Without predictions by the accuracy alone.

    Attributes:
        keep: share of all runs that is trained to the end, at least one.
        rungs: by rising time, see `EARLY`.
        predicted: what is predicted at each rung, by the runs' places; None for a race by accuracy.
        family: what to call it.
        anew: whether a run that goes on begins anew at each rung, as in ``lightning_nndyn.study.race``, and
            has spent its earlier laps besides, or goes on where it was.
    """

    keep: float
    rungs: tuple[tuple[float, float], ...] = SEEN
    predicted: Mapping[float, Mapping[int, float]] | None = None
    family: str = "race by accuracy, keeping"
    anew: bool = False

    @property
    def ours(self) -> bool:
        """Whether it rests on our predictions."""
        return self.predicted is not None

    @property
    def setting(self) -> str:
        """In words."""
        return f"{100 * self.keep:g} %"

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        ends = [run.epochs for run in runs]
        left = list(range(len(runs)))
        for after, power in self.rungs:
            wanted = max(1, round(self.keep**power * len(runs)))
            scores = self._scores([runs[at] for at in left], after)
            order = sorted(range(len(left)), key=lambda place: -scores[place])
            for place in order[wanted:]:
                ends[left[place]] = min(after, runs[left[place]].epochs)
            left = sorted(left[place] for place in order[:wanted])
        return ends

    def spent(self, end: float) -> float:
        """Epochs that a run costs which ends after so many."""
        return end + (sum(after for after, _ in self.rungs if after < end) if self.anew else 0.0)

    def _scores(self, runs: Sequence[Run], after: float) -> list[float]:
        """Larger is better; the lowest for a run that has diverged."""
        seen = [run.found(after) for run in runs]
        predicted = seen if self.predicted is None else [self.predicted[after][run.place] for run in runs]
        ranks = rankdata(predicted) + (rankdata(seen) if after >= 1 else 0.0)
        broken = [run.epochs <= after and not run.trainable for run in runs]
        return [-math.inf if bad else float(rank) for rank, bad in zip(ranks, broken, strict=True)]
