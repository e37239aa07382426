"""Optuna's WilcoxonPruner by its rule, with a faster test: where values tie, SciPy's takes up to a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

_STARTUP = 2  # epochs before the first test
_THRESHOLD = 0.1  # of p
_EXACT = 13  # differences up to which SciPy is exact although some tie

_Curve = Sequence[float | None]


@dataclass(frozen=True)
class Wilcoxon:
    """Optuna's WilcoxonPruner, which looks at nothing but a run and the best of those that have finished."""

    family: str = "WilcoxonPruner"
    setting: str = ""
    ours: bool = False

    def epochs(self, runs: Sequence[Run]) -> list[float]:
        """See `SweepPolicy`."""
        best = runs[0]
        ends = [runs[0].epochs]
        for run in runs[1:]:
            end = _ended(tuple(best.curve), tuple(run.curve))
            ends.append(min(float(end), run.epochs))
            if end == len(run.curve) and run.accuracy > best.accuracy:
                best = run
        return ends


@cache  # pairs of runs meet in many sweeps
def _ended(best: _Curve, curve: _Curve) -> int:
    """After how many epochs a run is ended whose sweep has this best one so far."""
    mean = _mean(best)
    differences: list[float] = []
    for epoch, (other, value) in enumerate(zip(best, curve, strict=False), start=1):
        if other is None or value is None:
            continue
        differences.append(value - other)
        # Nothing is ended that is better so far than the best one was on the whole.
        if len(differences) >= _STARTUP and _mean(curve[:epoch]) < mean and chance(differences) < _THRESHOLD:
            return epoch
    return len(curve)


def _mean(curve: _Curve) -> float:
    known = [value for value in curve if value is not None]
    return sum(known) / len(known) if known else 0.0


def chance(differences: Sequence[float]) -> float:
    """The p-value of Wilcoxon's signed-rank test for differences below zero (one-sided, zeros split).

    Each difference is as likely to have the one sign as the other: of all ways to choose them, how many give
    positive ones a sum of ranks as small. Counted by the sum, the ranks doubled, as tied ones may be halves.
    """
    from scipy.stats import rankdata, wilcoxon

    if len(differences) > _EXACT:
        return float(wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue)
    values = np.array(differences)
    ranks = (2 * rankdata(np.abs(values))).astype(int)
    ways = np.zeros(ranks.sum() + 1)
    ways[0] = 1
    for rank in ranks[values != 0]:
        ways[rank:] += ways[:-rank].copy()
    return float(ways[: ranks[values > 0].sum() + 1].sum() / ways.sum())
