"""The methods that are compared: features of learned ones, the learner, and formulas of a run's own curve.

A method reads what a run has shown by the decision time. All learned methods share one regressor, so that
they differ in their features only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.parquet import horizon_of
from lightning_nndyn.corpus.storage.record import WEIGHT_STATISTICS
from lightning_nndyn.evaluation.dataset import weight_distances
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Features
from lightning_nndyn.signature.relative import graph_movement
from lightning_nndyn.signature.snapshot import Array, Snapshot

Vector = Sequence[float]
Read = Callable[[RunRecord, float], Vector]
"""From a run and the decision time, in epochs, to a row of numbers."""

_DISTANCE = WEIGHT_STATISTICS.index("distance")
_STD = WEIGHT_STATISTICS.index("std")
_MAX_LOSS = 20.0  # nats; losses of a run that is about to diverge have no bound
_RECENT = 3  # number of snapshots whose losses are features
_EXPONENTS = np.linspace(0.1, 3, 30)
_MIN_POINTS = 3  # as many as a power law has parameters
_TREES = 100
_SELECTION_TREES = 40  # fewer, as each learner is fitted three times only to be compared
_SELECTION_FOLDS = 3
_QUANTILES = 100
_AT_THE_BOUND = 1e-7  # as scikit-learn's QuantileTransformer has it
_WORDS = ("optimizer", "schedule", "kind", "activation", "normalisation", "pooling", "head")


def snapshots_until(record: RunRecord, time: float) -> list[Snapshot]:
    """The run's snapshots up to a time."""
    return [snapshot for snapshot in record.snapshots if snapshot.epoch <= time]


def graph_v1(record: RunRecord, time: float) -> Vector:
    """Relative changes of the ten statistics at all snapshots, as in signature version 1."""
    table = index_by_epoch(snapshots_until(record, time))
    later = [epoch for epoch in table if epoch > 0]
    return Features("both", "plain", "relative").all_snapshots(table, later).tolist()


def graph_v2(record: RunRecord, time: float) -> Vector:
    """Relative changes of graph and weights, by layer and summarised over depth: signature version 2."""
    history = snapshots_until(record, time)
    return graph_movement(history, weight_distances(record)[: len(history)]).tolist()


def weight_statistics(record: RunRecord, time: float) -> Vector:
    """No graph: moments and quantiles of each layer's weights, and their changes.

    Changes are those since the start and since the last snapshot, in units of the initial standard deviation.
    Columns belong to layers, so that rows are comparable only between runs of one architecture.
    """
    until = len(snapshots_until(record, time))
    rows = np.array([list(layers.values()) for layers in record.weights[:until]])[:, :, :_DISTANCE]
    rows = rows / rows[0, :, _STD, None]
    now, start, last = rows[-1], rows[0], rows[-2]
    parts = np.arcsinh(now), np.arcsinh(30 * (now - start)), np.arcsinh(30 * (now - last))
    return np.nan_to_num(np.concatenate([part.ravel() for part in parts])).tolist()


def losses(record: RunRecord, time: float) -> Vector:
    """Training losses at the latest three snapshots: of the epoch so far, and of its last sixteenth."""
    until = len(snapshots_until(record, time))
    recent = record.losses[1:until][-_RECENT:]
    recent = [recent[0]] * (_RECENT - len(recent)) + recent
    values = [min(loss, _MAX_LOSS) for pair in recent for loss in pair]
    return [*values, values[-1] - values[1], min(values)]


def curves(record: RunRecord, time: float) -> Vector:
    """Losses, and the last value of each curve with its rise since the epoch before and since the first."""
    found = [*losses(record, time)]
    for name in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        values = [min(value, _MAX_LOSS) for value in record.curve[name][: int(time)]]
        if values:
            last, before = values[-1], values[max(0, len(values) - 2)]
            found += [last, last - before, last - values[0]]
    accuracies = record.curve["test_accuracy"][: int(time)]
    return [*found, max(accuracies)] if accuracies else found


def hyperparameter_vector(config: Mapping[str, Any]) -> Vector:
    """The hyperparameters in a run's configuration, as numbers."""
    options: Mapping[str, Any] = config["network_options"]
    rates = [_logarithm(config.get(name)) for name in ("learning_rate", "weight_decay", "images")]
    plain = [float(config[name]) for name in ("momentum", "dropout", "batch_size", "crop_padding", "flip")]
    words = [_word(config.get(name, options.get(name))) for name in _WORDS]
    widths = options.get("widths")
    depth = [float(len(widths)), _logarithm(sum(widths))] if isinstance(widths, list | tuple) else [0.0, 0.0]
    network = [float(options.get(name) or 0) for name in ("kernel", "residual", "init_scale", "num_classes")]
    return [*rates, *plain, *words, *depth, *network]


def _joined(*parts: Read) -> Read:
    return lambda record, time: [number for part in parts for number in part(record, time)]


def _hyperparameters(record: RunRecord, time: float) -> Vector:
    return hyperparameter_vector(record.config)


FEATURES: dict[str, Read] = {
    "graph-v1": graph_v1,
    "graph-v2": graph_v2,
    "weight-stats": weight_statistics,
    "losses": losses,
    "curves": curves,
    "hyperparameters": _hyperparameters,
    "fused": _joined(graph_v2, curves),
    "fused-hyperparameters": _joined(graph_v2, curves, _hyperparameters),
}
"""Features of the methods that are learned, by method."""

_NEED_LAYERS = ("graph-v2", "weight-stats", "fused", "fused-hyperparameters")


def readable(name: str, records: Sequence[RunRecord], time: float) -> bool:
    """Whether the records have what a method reads: late layers may have been left out of a corpus file."""
    return name not in _NEED_LAYERS or all(time <= horizon_of(record) for record in records)


def _logarithm(value: Any) -> float:
    number = float(value or 0)
    return math.log(number) if number > 0 else -20.0


def _word(value: object) -> float:
    """A number for a word, the same in every process (unlike `hash`); trees need no more."""
    return float(sum(ord(letter) for letter in str(value)) % 997)


Formula = Callable[[RunRecord, float], float]
"""From a run and the decision time, in epochs, to a number; NaN where it is not defined yet."""


def last_accuracy(record: RunRecord, time: float) -> float:
    """The test accuracy of the last finished epoch; NaN before the first."""
    known = _known(record, time)
    return known[-1] if known else math.nan


def best_accuracy(record: RunRecord, time: float) -> float:
    """The best test accuracy so far; NaN before the first epoch ends."""
    return max(_known(record, time), default=math.nan)


def power_law(record: RunRecord, time: float) -> float:
    """The run's accuracies, extrapolated to its last epoch by a fitted power law.

    The best accuracy so far if that is higher, until three epochs have ended, and where no power law fits;
    NaN before the first epoch ends.
    """
    known = _known(record, time)
    if len(known) < _MIN_POINTS:
        return best_accuracy(record, time)
    return max(max(known), extrapolate(known, record.config["epochs"]))


def one_epoch(record: RunRecord, time: float) -> float:
    """The test accuracy after the first epoch, a rank; NaN before."""
    return _known(record, time)[0] if time >= 1 else math.nan


def loss_sum(record: RunRecord, time: float) -> float:
    """Minus the sum of the training losses so far, one for each epoch: a rank."""
    until = len(snapshots_until(record, time))
    running = record.losses[until - 1][0] if time != int(time) else 0.0
    return -(sum(record.curve["train_loss"][: int(time)]) + running)


PREDICTIONS: dict[str, Formula] = {
    "last-accuracy": last_accuracy,
    "best-accuracy": best_accuracy,
    "power-law": power_law,
}
"""Formulas for the final accuracy."""

RANKS: dict[str, Formula] = {"one-epoch": one_epoch, "loss-sum": loss_sum}
"""Formulas that only rank runs: larger is better."""


def extrapolate(accuracies: Sequence[float], epoch: int) -> float:
    """The value of ``c - a * e ** -b`` at an epoch, fitted to a curve by least squares.

    ``a`` and ``c`` are solved for each ``b`` of a grid. Only rising curves (a > 0) whose limit is an accuracy
    (c <= 1) count.

    Args:
        accuracies: after epochs 1, 2, ...
        epoch: where to evaluate, from 1.

    Returns:
        An accuracy in [0, 1]; the curve's last value where no power law fits.
    """
    epochs, values = np.arange(1, len(accuracies) + 1, dtype=np.float64), np.asarray(accuracies)
    least_error, value = math.inf, float(values[-1])
    for exponent in _EXPONENTS:
        design = np.column_stack((np.ones_like(epochs), -(epochs**-exponent)))
        (limit, drop), *_ = np.linalg.lstsq(design, values, rcond=None)
        error = float(((design @ (limit, drop) - values) ** 2).sum())
        if drop > 0 and limit <= 1 and error < least_error:
            least_error, value = error, float(limit - drop * epoch**-exponent)
    return min(max(value, 0.0), 1.0)


def _known(record: RunRecord, time: float) -> list[float]:
    return record.curve["test_accuracy"][: int(time)]


def learned_predictions(x: Array, y: Array, new: Array, seed: int) -> Array:
    """Accuracies of the rows `new`, shape [m], by a learner of rows x [n, d] and accuracies y [n].

    The learner is extremely randomised trees or support-vector regression, whichever does better on the
    training set. That is cross-validated within the training set, so that scores on other runs stay unbiased.
    Deterministic given the seed.
    """
    trees = _validation_error(True, x, y, seed) <= _validation_error(False, x, y, seed)
    return _predictions(_model(trees, len(x), _TREES, seed).fit(x, y), new)


def _predictions(model: Any, x: Array) -> Array:
    return np.clip(np.asarray(model.predict(x), dtype=np.float64), 0, 1)


def _validation_error(trees: bool, x: Array, y: Array, seed: int) -> float:
    from sklearn.model_selection import KFold

    errors = np.zeros(len(y))
    for train, test in KFold(_SELECTION_FOLDS, shuffle=True, random_state=seed).split(x):
        model = _model(trees, len(train), _SELECTION_TREES, seed).fit(x[train], y[train])
        errors[test] = np.abs(_predictions(model, x[test]) - y[test])
    return float(errors.mean())


def _model(trees: bool, runs: int, num_trees: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    if trees:
        return ExtraTreesRegressor(num_trees, min_samples_leaf=2, max_features=0.4, random_state=seed)
    return NormalScoresSVR(min(_QUANTILES, runs), seed)


class NormalScoresSVR:
    """Support-vector regression on features that a `QuantileTransformer` has given a normal distribution.

    The transformer's own `transform` takes most of the time of a fit to a small corpus: for each column it
    goes through scipy's object for the normal distribution. The numbers here are the same to the last bit.

    Args:
        quantiles: number of quantiles that a feature's distribution is known by.
        seed: of the transformer.
    """

    def __init__(self, quantiles: int, seed: int) -> None:
        from sklearn.preprocessing import QuantileTransformer
        from sklearn.svm import SVR

        self.quantiles = QuantileTransformer(
            n_quantiles=quantiles, output_distribution="normal", random_state=seed
        )
        self.regressor = SVR(C=0.5, epsilon=0.02)

    def fit(self, x: Array, y: Array) -> NormalScoresSVR:
        """Fit to rows x [n, d] and accuracies y [n]."""
        self.quantiles.fit(x)
        self.regressor.fit(self.scores(x), y)
        return self

    def predict(self, x: Array) -> Array:
        """Accuracies of rows [m, d], shape [m]."""
        return np.asarray(self.regressor.predict(self.scores(x)))

    def scores(self, x: Array) -> Array:
        """What the transformer makes of rows [m, d], same shape."""
        from scipy.special import ndtri

        known, shares = self.quantiles.quantiles_, self.quantiles.references_
        columns = [
            np.interp(column, own, shares) - np.interp(-column, -own[::-1], -shares[::-1])
            for column, own in zip(x.T, known.T, strict=True)
        ]
        found = 0.5 * np.column_stack(columns)
        found[x + _AT_THE_BOUND > known[-1]] = 1
        found[x - _AT_THE_BOUND < known[0]] = 0
        least = _AT_THE_BOUND - np.spacing(1)
        return np.asarray(np.clip(ndtri(found), ndtri(least), ndtri(1 - least)))
