"""Successive halving of all runs of a sweep, by predicted or by seen accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import rankdata

from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun

EARLY = ((1 / 16, 1 / 4), (1 / 4, 1 / 2), (1.0, 1.0))
"""Rungs of a race by predictions: after how many epochs, and which power of the final share is promoted."""

LONG = ((1 / 16, 1 / 4), (1 / 4, 1 / 2), (1.0, 3 / 4), (4.0, 1.0))
"""The same with a fourth rung, where the accuracy is more informative."""

SEEN = ((1.0, 1 / 2), (2.0, 3 / 4), (4.0, 1.0))
"""Rungs of a race by accuracy, which is unknown within the first epoch."""


@dataclass(frozen=True)
class Race:
    """At each rung the best runs are promoted, at the last one to their end; it needs all runs at once.

    Within the first epoch runs are ranked by predicted accuracy; later by the mean of two ranks, that of the
    predicted and that of the best accuracy so far. Without predictions by the accuracy only.

    Attributes:
        keep: share of all runs that is trained to the end, at least one.
        rungs: by rising time, see `EARLY`.
        predicted: predicted accuracies at each rung, by the runs' indices; None for a race by accuracy.
        family: see `SweepPolicy`.
        anew: whether a promoted run is trained from the beginning, as in ``lightning_nndyn.study.race`` where
            `train` asks for no checkpoint, so that its earlier rungs are an additional cost. Else it is
            continued.
    """

    keep: float
    rungs: tuple[tuple[float, float], ...] = SEEN
    predicted: Mapping[float, Mapping[int, float]] | None = None
    family: str = "race by accuracy, keeping"
    anew: bool = False

    @property
    def ours(self) -> bool:
        """Whether it ranks by predictions of this package."""
        return self.predicted is not None

    @property
    def setting(self) -> str:
        """The share, as text."""
        return f"{100 * self.keep:g} %"

    def epochs(self, runs: Sequence[ReplayRun]) -> list[float]:
        """See `SweepPolicy`."""
        ends = [run.epochs for run in runs]
        left = list(range(len(runs)))
        for after, power in self.rungs:
            promoted = max(1, round(self.keep**power * len(runs)))
            scores = dict(zip(left, self._scores([runs[index] for index in left], after), strict=True))
            ranking = sorted(left, key=lambda index: -scores[index])
            for index in ranking[promoted:]:
                ends[index] = min(after, runs[index].epochs)
            left = sorted(ranking[:promoted])
        return ends

    def cost(self, end: float) -> float:
        """The epochs that are spent on a run which ends after so many."""
        return end + (sum(after for after, _ in self.rungs if after < end) if self.anew else 0.0)

    def _scores(self, runs: Sequence[ReplayRun], after: float) -> list[float]:
        """Larger is better; minus infinity for a run that has diverged."""
        seen = [run.best_until(after) for run in runs]
        predicted = seen if self.predicted is None else [self.predicted[after][run.index] for run in runs]
        ranks = rankdata(predicted) + (rankdata(seen) if after >= 1 else 0.0)
        diverged = [run.epochs <= after and not run.trainable for run in runs]
        return [-math.inf if bad else float(rank) for rank, bad in zip(ranks, diverged, strict=True)]
