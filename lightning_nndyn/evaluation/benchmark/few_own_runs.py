"""Whether 30 runs of one's own sweep predict its other runs better than all other corpora do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.judged_runs import UNIVERSAL, JudgedRun, judge
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.scores import repeated_score
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.fit_corpora import LOW_SHARE
from lightning_nndyn.predictor import Predictor

OWN_SWEEP = "own sweep"
"""Band of the rows."""

_NUM_OWN = 30
_MIN_OTHERS = 30
_TIMES = (0.25, 1.0, 3.0)  # decision times, in epochs
_DRAWS = 5


def own_rows(
    union: RunDataset, own: RunDataset, universal: Predictor | None = None, seed: int = 0
) -> Iterator[Row]:
    """Errors and rank correlations on a sweep, by a predictor of 30 of its runs and by one of other corpora.

    Both are tested on the rest of the sweep, for five draws of the 30. No rows for a sweep of fewer than 60
    runs, or without other corpora.

    Args:
        union: the runs of all corpora.
        own: the runs of the sweep.
        universal: a predictor fitted to all other populations; None fits one.
        seed: of the fits, and of the draws.
    """
    elsewhere = ~np.isin(union.populations, np.unique(own.populations))
    if elsewhere.sum() < _MIN_OTHERS or len(own.records) < 2 * _NUM_OWN:
        return
    if universal is None:
        universal = _early_predictor(union.take(elsewhere), seed)
    by_universal = judge(universal, own, "fused")
    random = np.random.default_rng(seed)
    values: dict[tuple[str, float, str], list[float]] = {}
    for draw in range(_DRAWS):
        order = random.permutation(len(own.records))
        taught, rest = order[:_NUM_OWN], order[_NUM_OWN:]
        try:
            by_own = judge(_early_predictor(own.take(taught), seed + draw), own.take(rest), "fused")
        except PredictorError:  # too few low or good runs among the 30
            continue
        for name, judged in (("own-30", by_own), (UNIVERSAL, [by_universal[index] for index in rest])):
            for time, metric, value in _metrics(judged):
                values.setdefault((name, time, metric), []).append(value)
    for (name, time, metric), found in values.items():
        score, runs = repeated_score(found), len(own.records) - _NUM_OWN
        yield Row.from_score(own.name, OWN_SWEEP, name, time, metric, score, runs)


def _early_predictor(runs: RunDataset, seed: int) -> Predictor:
    """A predictor for the decision times that are compared, which is quicker to fit."""
    return runs.fit(Predictor(low_share=LOW_SHARE, seed=seed, max_epoch=_TIMES[-1]))


def _metrics(judged: Sequence[JudgedRun]) -> Iterator[tuple[float, str, float]]:
    from scipy.stats import spearmanr

    for time in _TIMES:
        pairs = [
            (verdict.relative_accuracy or 0.0, run.relative)
            for run in judged
            for verdict in run.verdicts
            if verdict.epoch == time and not verdict.diverged
        ]
        predicted, truth = np.array(pairs).T
        yield time, "mae_relative", float(np.abs(predicted - truth).mean())
        if np.ptp(predicted) > 0:
            yield time, "spearman", float(spearmanr(predicted, truth).statistic)
