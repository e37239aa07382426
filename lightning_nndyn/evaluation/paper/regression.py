"""The paper's regression (section 4.2): final accuracy from two snapshots by least squares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.compare import LEAST_RUNS, Row, banded, folds
from lightning_nndyn.evaluation.benchmark.scores import Outcome, mae, r2, scored
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.evaluation.paper.features import snapshot_pairs
from lightning_nndyn.evaluation.paper.published_numbers import PAIRS, Pair
from lightning_nndyn.predictor.paper_models import FeatureSet, fit_regressor, predicted_accuracies


@dataclass(frozen=True)
class Regression:
    """Least squares on the statistics of one centrality at two epochs."""

    features: FeatureSet
    pair: Pair

    @property
    def name(self) -> str:
        """The method's name in rows; their time is that of the later epoch."""
        return f"graph-paper-regression-{self.features}-{self.pair[0]}-{self.pair[1]}"


_FEATURES: tuple[FeatureSet, ...] = ("degree", "eigenvector")
REGRESSIONS = {
    one.name: one for features in _FEATURES for pair in PAIRS for one in (Regression(features, pair),)
}
"""All regressions of Tables 3 and 4, and the same on eigenvector centrality, by name."""


def regression(study: Study, chosen: Sequence[Regression], *, seed: int, jobs: int) -> Iterator[Row]:
    """Mean absolute error (a fraction) and R2 on held-out fifths, on the first of `compare`'s folds.

    Predictions are clipped to 0..1: without that a single run whose weights explode decides the score.
    """
    tasks = [(study, one, seed) for one in chosen if len(study.at(float(one.pair[1]))) >= LEAST_RUNS]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_score)(*task) for task in tasks):
        yield from rows


def _score(study: Study, one: Regression, seed: int) -> list[Row]:
    time = float(one.pair[1])
    places = study.at(time)
    predicted = _held_out(study, one, places, seed)
    return [
        Row.of(study.name, band, one.name, time, name, score, int(wanted.sum()))
        for band, wanted in banded(study, places)
        for runs in (_outcome(study, places[wanted], predicted[wanted]),)
        for name, metric in (("mae", mae), ("r2", r2))
        for score in (scored(metric, runs, study.groups[places[wanted]], seed),)
    ]


def _outcome(study: Study, places: NDArray[np.int64], predicted: Array) -> Outcome:
    return Outcome(study.accuracies[places], predicted, study.low[places], study.thresholds[places])


def _held_out(study: Study, one: Regression, places: NDArray[np.int64], seed: int) -> Array:
    x = snapshot_pairs(study, places, one.pair, one.features)
    y, predicted = study.accuracies[places], np.empty(len(places))
    for test in folds(study.groups[places], seed):
        train = np.setdiff1d(np.arange(len(places)), test)
        predicted[test] = predicted_accuracies(fit_regressor("linear", x[train], y[train]), x[test])
    return predicted
