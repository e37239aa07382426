"""The paper's regression (section 4.2): final accuracy from two snapshots by least squares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_nndyn.evaluation.benchmark.compare import MIN_RUNS, cross_validated, scored_by_band
from lightning_nndyn.evaluation.benchmark.scores import Predictions, Row, mae, r2
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.paper.features import snapshot_pairs
from lightning_nndyn.evaluation.paper.published_numbers import PAIRS, Pair
from lightning_nndyn.predictor.paper_models import FeatureSet, fit_regressor, predicted_accuracies
from lightning_nndyn.signature.snapshot import Array


@dataclass(frozen=True)
class Regression:
    """Least squares on the statistics of one centrality at two epochs."""

    features: FeatureSet
    pair: Pair

    @property
    def name(self) -> str:
        """The method's name in rows, whose time is the later epoch."""
        return f"graph-paper-regression-{self.features}-{self.pair[0]}-{self.pair[1]}"


_FEATURES: tuple[FeatureSet, ...] = ("degree", "eigenvector")
REGRESSIONS = {
    regression.name: regression
    for features in _FEATURES
    for pair in PAIRS
    for regression in (Regression(features, pair),)
}
"""All regressions of Tables 3 and 4, and the same on eigenvector centrality, by name."""


def regression(runs: RunDataset, chosen: Sequence[Regression], *, seed: int) -> Iterator[Row]:
    """Mean absolute error (a fraction) and R2 on held-out fifths, on the first of the folds of `compare`.

    Predictions are clipped to [0, 1]: otherwise a single run whose weights explode decides the score.
    """
    for one in chosen:
        time = float(one.pair[1])
        indices = runs.at(time)
        if len(indices) >= MIN_RUNS:
            predicted = _held_out_predictions(runs, one, indices, seed)
            predictions = Predictions.for_runs(runs, indices, predicted)
            yield from scored_by_band(
                runs, indices, one.name, time, predictions, {"mae": mae, "r2": r2}, seed
            )


def _held_out_predictions(runs: RunDataset, regression: Regression, indices: Indices, seed: int) -> Array:
    x = snapshot_pairs(runs, indices, regression.pair, regression.features)
    y = runs.accuracies[indices]
    return cross_validated(
        runs.groups[indices],
        seed,
        lambda train, test: predicted_accuracies(fit_regressor("linear", x[train], y[train]), x[test]),
    )
