"""Fit one model per decision time, and measure all of them on runs they have not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.estimators import (
    Classifier,
    Platt,
    Regressor,
    decision_values,
    fit_classifier,
    fit_platt,
    fit_regressor,
    predicted_accuracies,
)
from lightning_nndyn.predictor.features import Array, Features, Mask, Table, readings, show
from lightning_nndyn.predictor.runs import Runs, check_classes
from lightning_nndyn.predictor.scoring import held_out_scores


@dataclass(frozen=True)
class Recipe:
    """What is fitted at each decision time."""

    features: Features
    classifier: Classifier
    regressor: Regressor
    seed: int

    def regression_row(self, table: Table, times: Sequence[float]) -> Array:
        """What the regressor reads: the paper's two latest snapshots if it is linear, else all of them."""
        if self.regressor == "linear":
            return self.features.two_snapshots(table, times)
        return self.features.all_snapshots(table, times)


@dataclass(frozen=True)
class TimeModel:
    """Classifier, calibration and regressor at one decision time.

    Attributes:
        times: epochs of the snapshots read, besides epoch 0; the last is the time of decision.
        classifier: scikit-learn pipeline whose decision value is positive for low accuracy.
        platt: sigmoid from that value to a probability.
        regressor: scikit-learn pipeline that predicts the final accuracy.
    """

    times: tuple[float, ...]
    classifier: Any
    platt: Platt
    regressor: Any

    def predict(self, recipe: Recipe, table: Table) -> tuple[float, float]:
        """Predict one run's final accuracy and its probability of being low, in this order."""
        value = decision_values(self.classifier, recipe.features.all_snapshots(table, self.times)[None])
        accuracy = predicted_accuracies(self.regressor, recipe.regression_row(table, self.times)[None])
        return float(accuracy[0]), float(self.platt(value)[0])


def fit_models(
    runs: Runs, recipe: Recipe, max_epoch: float
) -> tuple[list[TimeModel], list[dict[str, Any]], Array]:
    """Fit a model per decision time and score each by cross-validation.

    Returns:
        The models; one dictionary of scores a model; shape [runs], per run the largest held-out `p_low` over
        all decision times (1 for a run whose weights ceased to be finite, -inf for one that was never read).

    Raises:
        PredictorError: too few runs of one class at some decision time.
    """
    times = runs.times(max_epoch)
    series = readings(times)
    if not series:
        raise PredictorError(f"no run was read between epoch 0 and max_epoch={max_epoch:g}; raise max_epoch")
    _check_counts(runs, series)
    largest = np.where([broken is None for broken in runs.broken], -np.inf, 1.0)
    models, scores = [], []
    for one in series:
        model, score, index, p_low = _fit_one(runs, recipe, one)
        reads = "all" if list(one) == times[: len(one)] else "epoch ends"
        models.append(model)
        scores.append({"time": one[-1], "reads": reads, **score})
        largest[index] = np.maximum(largest[index], p_low)
    return models, scores, largest


def _fit_one(
    runs: Runs, recipe: Recipe, times: tuple[float, ...]
) -> tuple[TimeModel, dict[str, Any], list[int], Array]:
    index = runs.usable(times)
    x = np.stack([recipe.features.all_snapshots(runs.tables[i], times) for i in index])
    z = np.stack([recipe.regression_row(runs.tables[i], times) for i in index])
    low, accuracies, folds = runs.low[index], runs.accuracies[index], runs.folds[index]
    values, predicted = np.empty(len(index)), np.empty(len(index))
    for fold in np.unique(folds):
        held, kept = folds == fold, folds != fold
        _check_fold(low[kept], times[-1])
        classifier = fit_classifier(recipe.classifier, x[kept], low[kept], recipe.seed)
        regressor = fit_regressor(recipe.regressor, z[kept], accuracies[kept])
        values[held] = decision_values(classifier, x[held])
        predicted[held] = predicted_accuracies(regressor, z[held])
    p_low = _held_out_probabilities(values, low, folds)
    model = TimeModel(
        times=times,
        classifier=fit_classifier(recipe.classifier, x, low, recipe.seed),
        platt=fit_platt(values, low),
        regressor=fit_regressor(recipe.regressor, z, accuracies),
    )
    return model, held_out_scores(low, p_low, accuracies, predicted), index, p_low


def _held_out_probabilities(values: Array, low: Mask, folds: Any) -> Array:
    # Each fold's sigmoid is fitted to the other folds' held-out values: no run has a say in its own score.
    p_low = np.empty(len(values))
    for fold in np.unique(folds):
        held = folds == fold
        p_low[held] = fit_platt(values[~held], low[~held])(values[held])
    return p_low


def _check_counts(runs: Runs, series: Iterable[tuple[float, ...]]) -> None:
    passed = 0.0
    for times in series:
        largest = f"max_epoch={passed:g} is the largest that works" if passed else "no max_epoch works"
        check_classes(
            runs.low[runs.usable(times)],
            f"were read at the epochs {show(times)} and had finite weights there",
            f"Train more runs, or choose another low_threshold or max_epoch ({largest}).",
        )
        passed = times[-1]


def _check_fold(low: Mask, time: float) -> None:
    if low.all() or not low.any():
        raise PredictorError(
            f"at epoch {time:g} a fold of the cross-validation has runs of one class only to train on; "
            "fit to more runs, or to more and smaller groups"
        )
