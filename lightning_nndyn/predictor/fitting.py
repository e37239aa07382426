"""Fit one pair of models per decision time, and measure all of them on runs they have not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.applicability import Neighbours, fit_neighbours
from lightning_nndyn.predictor.estimators import Platt, fit_platt
from lightning_nndyn.predictor.features import Array, Mask, Table, show
from lightning_nndyn.predictor.learning_curve import Curve
from lightning_nndyn.predictor.recipes import Fitted, Recipe, Targets
from lightning_nndyn.predictor.risk import Held, Risk
from lightning_nndyn.predictor.scores import held_out_scores, rank_within
from lightning_nndyn.predictor.training_set import MIN_PER_CLASS, Runs, check_classes

WEIGHTS, FUSED = "weights", "fused"
"""Kinds of models: those that read the weights alone, and those that read the curve with them."""

_BLENDS = (0.0, 0.25, 0.5)  # shares of the second opinion that are tried


class Prediction(NamedTuple):
    """What the models of one decision time say of a run."""

    accuracy: float
    relative: float | None
    p_low: float
    risk: float
    distance: float | None
    p_domain: float | None


@dataclass(frozen=True)
class TimeModel:
    """Models at one decision time.

    Attributes:
        times: epochs of the snapshots read, besides epoch 0; the last is the time of decision.
        kind: "weights", or "fused" for models that read the curve as well.
        fitted: what predicts.
        blend: share of the second opinion.
        platt: sigmoid from the value for low runs to a probability.
        risk: scale that makes the values of different times comparable.
        neighbours: the runs it was fitted to; None where strangers are not told by their distance.
    """

    times: tuple[float, ...]
    kind: str
    fitted: Fitted
    blend: float
    platt: Platt
    risk: Risk
    neighbours: Neighbours | None

    def ready(self, table: Table, curve: Curve | None) -> bool:
        """Whether a run has all that this model reads."""
        if not all(time in table for time in self.times):
            return False
        return self.kind == WEIGHTS if curve is None else self.kind == FUSED and curve.known(self.times)

    def predict(self, recipe: Recipe, table: Table, curve: Curve | None) -> Prediction:
        """Predict one run."""
        row = recipe.row(table, self.times, curve)
        value, accuracy, relative = _blended(self.fitted(row[None]), self.blend)[0]
        distance = None if self.neighbours is None else self.neighbours.distance(row)
        known = None if self.neighbours is None or distance is None else self.neighbours.p_value(distance)
        return Prediction(
            accuracy=float(accuracy),
            relative=None if np.isnan(relative) else float(relative),
            p_low=float(self.platt(np.array([value]))[0]),
            risk=self.risk(float(value)),
            distance=distance,
            p_domain=known,
        )


def fit_models(
    runs: Runs, recipe: Recipe, max_epoch: float
) -> tuple[list[TimeModel], list[dict[str, Any]], list[Held]]:
    """Fit models per decision time and kind, and score each by cross-validation.

    Returns:
        The models; one dictionary of scores a model; what each said of the runs that it was held out from.

    Raises:
        PredictorError: too few runs of one class at some decision time.
    """
    times = runs.times(max_epoch)
    series = recipe.readings(times)
    if not series:
        raise PredictorError(f"no run was read between epoch 0 and max_epoch={max_epoch:g}; raise max_epoch")
    _check_counts(runs, series)
    models, scores, held = [], [], []
    for one, kind in _planned(runs, recipe, series):
        model, score, said = _fit_one(runs, recipe, one, kind)
        models.append(model)
        scores.append({"time": one[-1], "reads": _reads(one, series), "kind": kind, **score})
        held.append(said)
    return models, scores, held


def _planned(
    runs: Runs, recipe: Recipe, series: Iterable[tuple[float, ...]]
) -> list[tuple[tuple[float, ...], str]]:
    """Fused models where enough runs have a curve."""
    planned = []
    for one in series:
        planned.append((one, WEIGHTS))
        low = runs.low[runs.usable(one, fused=True)] if recipe.curves else np.zeros(0, bool)
        if min(low.sum(), (~low).sum()) >= MIN_PER_CLASS:
            planned.append((one, FUSED))
    return planned


def _reads(one: Sequence[float], series: Iterable[tuple[float, ...]]) -> str:
    """Of two series that end at the same time, the shorter one is that of the epoch ends."""
    return "epoch ends" if any(len(other) > len(one) and other[-1] == one[-1] for other in series) else "all"


def _fit_one(
    runs: Runs, recipe: Recipe, times: tuple[float, ...], kind: str
) -> tuple[TimeModel, dict[str, Any], Held]:
    fused = kind == FUSED
    index = np.array(runs.usable(times, fused))
    line = recipe.line_columns(times, fused)
    x = np.stack([recipe.row(runs.tables[i], times, runs.curves[i] if fused else None) for i in index])
    targets = Targets(
        *(values[index] for values in (runs.low, runs.accuracies, runs.relative, runs.populations))
    )
    folds = runs.folds[index]
    held, blend = _held_out(recipe, x, targets, folds, line, times[-1])
    values = held[:, 0]
    p_low = _held_out_probabilities(values, targets.low, folds)
    fitted = recipe.fit(x, targets, line)
    model = TimeModel(
        times=times,
        kind=kind,
        fitted=fitted,
        blend=blend,
        platt=fit_platt(values, targets.low),
        risk=Risk.of(values[~targets.low]),
        neighbours=None if fitted.importances is None else fit_neighbours(x, fitted.importances, folds),
    )
    return model, _scores(targets, p_low, held), Held(kind, index, values, p_low)


def _scores(targets: Targets, p_low: Array, held: Array) -> dict[str, Any]:
    scores = held_out_scores(targets.low, p_low, targets.accuracies, held[:, 1])
    relative = np.abs(held[:, 2] - targets.relative).mean()
    return {**scores, "mae_relative": None if np.isnan(relative) else float(relative)}


def _held_out(
    recipe: Recipe, x: Array, targets: Targets, folds: NDArray[np.int64], line: int, time: float
) -> tuple[Array, float]:
    """Predictions [n, 3] by models that have not seen a run's fold, and the share of the second opinion.

    Each fold's share is chosen by the errors on the other folds: no run has a say in its own score.
    """
    first = np.empty((len(x), 3))
    second: Array | None = None
    for fold in np.unique(folds):
        held = folds == fold
        _check_fold(targets.low[~held], time)
        one, other = recipe.fit(x[~held], targets.take(~held), line)(x[held])
        first[held] = one
        if other is not None:
            second = np.empty_like(first) if second is None else second
            second[held] = other
    if second is None:
        return first, 0.0
    predicted = np.empty_like(first)
    for fold in np.unique(folds):
        held = folds == fold
        share = _best_blend(first[~held], second[~held], targets.take(~held))
        predicted[held] = _blended((first[held], second[held]), share)
    return predicted, _best_blend(first, second, targets)


def _best_blend(first: Array, second: Array, targets: Targets) -> float:
    """The share with which held-out runs are ranked best among those they compare with."""
    ranked = [
        rank_within(targets.relative, _blended((first, second), share)[:, 2], targets.populations)
        for share in _BLENDS
    ]
    return _BLENDS[int(np.argmax(ranked))]


def _blended(said: tuple[Array, Array | None], share: float) -> Array:
    first, second = said
    return first if second is None else (1 - share) * first + share * second


def _held_out_probabilities(values: Array, low: Mask, folds: NDArray[np.int64]) -> Array:
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
