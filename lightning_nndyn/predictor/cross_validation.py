"""Fit a model for each decision time, and measure all of them on runs that they were not fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.applicability import fit_applicability
from lightning_nndyn.predictor.decision_time_model import DecisionTimeModel, blended
from lightning_nndyn.predictor.history import show_epochs
from lightning_nndyn.predictor.model_family import ModelFamily
from lightning_nndyn.predictor.platt import fit_platt
from lightning_nndyn.predictor.risk import HeldOutScores, RiskScale
from lightning_nndyn.predictor.scores import held_out_scores, mean_rank_correlation
from lightning_nndyn.predictor.training_set import MIN_PER_CLASS, Targets, TrainingSet, check_classes
from lightning_nndyn.predictor.verdict import WEIGHTS_AND_CURVE
from lightning_nndyn.signature.snapshot import Array, Mask

_BLENDS = (0.0, 0.25, 0.5)  # weights of the second prediction that are tried


class CrossValidated(NamedTuple):
    """Models, and how they did on held-out runs.

    Attributes:
        models: fitted to all runs.
        scores: of each model in cross-validation, for the card.
        held_out: predictions for the runs that were held out.
    """

    models: list[DecisionTimeModel]
    scores: list[dict[str, Any]]
    held_out: list[HeldOutScores]


def fit_models(runs: TrainingSet, family: ModelFamily, max_epoch: float) -> CrossValidated:
    """Fit a model for each decision time and kind, and score each by cross-validation.

    Raises:
        PredictorError: too few runs of one class at some decision time.
    """
    all_series = family.series(runs.times(max_epoch))
    if not all_series:
        raise PredictorError(f"no run was read between epoch 0 and max_epoch={max_epoch:g}; raise max_epoch")
    _check_counts(runs, all_series)
    found = CrossValidated([], [], [])
    for times in all_series:
        for kind in _kinds_at(times, runs, family):
            model, scores, held_out = _fit_decision_time(runs, family, times, kind)
            found.models.append(model)
            found.scores.append(
                {"time": times[-1], "reads": _reads(times, all_series), "kind": kind, **scores}
            )
            found.held_out.append(held_out)
    return found


def _kinds_at(times: tuple[float, ...], runs: TrainingSet, family: ModelFamily) -> list[str]:
    """The family's kinds of models; those with the curve only where enough runs have one."""
    low = runs.targets.low[runs.indices_read_at(times, with_curve=True)]
    enough = min(low.sum(), (~low).sum()) >= MIN_PER_CLASS
    return [kind for kind in family.kinds if enough or kind != WEIGHTS_AND_CURVE]


def _reads(times: Sequence[float], all_series: Iterable[tuple[float, ...]]) -> str:
    """Of two series that end at the same time, the shorter one is that of the epoch ends."""
    longer = (other for other in all_series if len(other) > len(times) and other[-1] == times[-1])
    return "epoch ends" if any(longer) else "all"


def _fit_decision_time(
    runs: TrainingSet, family: ModelFamily, times: tuple[float, ...], kind: str
) -> tuple[DecisionTimeModel, dict[str, Any], HeldOutScores]:
    with_curve = kind == WEIGHTS_AND_CURVE
    index = runs.indices_read_at(times, with_curve)
    x = np.stack(
        [family.row(runs.histories[i], times, runs.curves[i] if with_curve else None) for i in index]
    )
    targets, folds = runs.targets.take(index), runs.folds[index]
    held_out, blend = _predict_held_out(family, x, targets, folds, times, kind)
    values = held_out[:, 0]
    fitted = family.fit(x, targets, times, kind)
    model = DecisionTimeModel(
        times=times,
        kind=kind,
        fitted=fitted,
        blend=blend,
        platt=fit_platt(values, targets.low),
        risk=RiskScale.from_good_runs(values[~targets.low]),
        applicability=(
            None if fitted.importances is None else fit_applicability(x, fitted.importances, folds)
        ),
    )
    return model, _scores(targets, held_out, folds), HeldOutScores(kind, index, values)


def _scores(targets: Targets, held_out: Array, folds: NDArray[np.int64]) -> dict[str, Any]:
    p_low = _held_out_probabilities(held_out[:, 0], targets.low, folds)
    scores = held_out_scores(targets.low, p_low, targets.accuracies, held_out[:, 1])
    relative = np.abs(held_out[:, 2] - targets.relative).mean()
    return {**scores, "mae_relative": None if np.isnan(relative) else float(relative)}


def _predict_held_out(
    family: ModelFamily,
    x: Array,
    targets: Targets,
    folds: NDArray[np.int64],
    times: tuple[float, ...],
    kind: str,
) -> tuple[Array, float]:
    """Predictions [n, 3] by models that were not fitted to a run's fold, and the blend for new runs.

    Each fold's blend is chosen by the errors on the other folds: a run has no influence on its own score.
    """
    first = np.empty((len(x), 3))
    second: Array | None = None
    for fold in np.unique(folds):
        test = folds == fold
        _check_fold(targets.low[~test], times[-1])
        model = family.fit(x[~test], targets.take(~test), times, kind)
        first[test], other = model(x[test])
        if other is not None:
            second = np.empty_like(first) if second is None else second
            second[test] = other
    if second is None:
        return first, 0.0
    predicted = np.empty_like(first)
    for fold in np.unique(folds):
        test = folds == fold
        share = _best_blend(first[~test], second[~test], targets.take(~test))
        predicted[test] = blended((first[test], second[test]), share)
    return predicted, _best_blend(first, second, targets)


def _best_blend(first: Array, second: Array, targets: Targets) -> float:
    """The weight of the second prediction with which runs are ranked best within their populations."""
    correlations = [
        mean_rank_correlation(targets.relative, blended((first, second), share)[:, 2], targets.populations)
        for share in _BLENDS
    ]
    return _BLENDS[int(np.argmax(correlations))]


def _held_out_probabilities(values: Array, low: Mask, folds: NDArray[np.int64]) -> Array:
    # Each fold's sigmoid is fitted to the other folds' values: a run has no influence on its own score.
    p_low = np.empty(len(values))
    for fold in np.unique(folds):
        test = folds == fold
        p_low[test] = fit_platt(values[~test], low[~test])(values[test])
    return p_low


def _check_counts(runs: TrainingSet, all_series: Iterable[tuple[float, ...]]) -> None:
    passed = 0.0
    for times in all_series:
        largest = f"max_epoch={passed:g} is the largest that works" if passed else "no max_epoch works"
        check_classes(
            runs.targets.low[runs.indices_read_at(times)],
            f"were read at the epochs {show_epochs(times)} and had finite weights there",
            f"Train more runs, or choose another low_threshold or max_epoch ({largest}).",
        )
        passed = times[-1]


def _check_fold(low: Mask, time: float) -> None:
    if low.all() or not low.any():
        raise PredictorError(
            f"at epoch {time:g} a fold of the cross-validation has runs of one class only to train on; "
            "fit to more runs, or to more and smaller groups"
        )
