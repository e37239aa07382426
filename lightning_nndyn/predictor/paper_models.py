"""The paper's models: SVM and MLP on raw statistics (section 4.1), linear regression (section 4.2).

scikit-learn takes a second to import: it is imported where it is used, not with the package.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lightning_nndyn.predictor.array_file import check_array
from lightning_nndyn.predictor.history import HistoryByEpoch, epoch_ends
from lightning_nndyn.predictor.learning_curve import LearningCurve
from lightning_nndyn.predictor.model_family import FittedModel, ModelFamily
from lightning_nndyn.predictor.training_set import Targets
from lightning_nndyn.predictor.verdict import WEIGHTS
from lightning_nndyn.signature.relative import signed, size
from lightning_nndyn.signature.snapshot import STATISTICS, Array, Mask, statistics_matrix
from lightning_nndyn.signature.temporal import Form, temporal

Classifier = Literal["svm", "mlp"]
Regressor = Literal["svr", "linear"]
FeatureSet = Literal["degree", "eigenvector", "both"]
Scale = Literal["relative", "raw"]

_SVR_TUBE = 0.05
_TRAINING_STATE = ("_optimizer", "_random_state")


@dataclass(frozen=True)
class Features:
    """How the statistics of a few snapshots become one row of numbers (section 3.2, S3).

    Attributes:
        features: which of the two centralities is summarised, or both.
        form: temporal form of section 3.2; "plain" leaves each snapshot as it is.
        scale: "raw" is the paper's. "relative" gives three numbers for each statistic: its movement since
            epoch 0, with its sign, and the logarithms of how far it has moved since epoch 0 and since the
            snapshot before. They stay bounded while a run diverges, and compare networks of other sizes and
            initialisations.
    """

    features: FeatureSet = "both"
    form: Form = "plain"
    scale: Scale = "relative"

    @property
    def columns(self) -> list[int]:
        """Indices into `STATISTICS` of the statistics in use."""
        if self.features == "both":
            return list(range(len(STATISTICS)))
        return [i for i, name in enumerate(STATISTICS) if name.startswith(self.features)]

    @property
    def width(self) -> int:
        """Numbers of one snapshot."""
        return len(self.columns) * (1 if self.scale == "raw" else 3)

    def rows(self, history: HistoryByEpoch, times: Sequence[float]) -> Array:
        """Temporal signature, one row a snapshot.

        Args:
            history: must hold epoch 0 and all of `times`.
            times: the epochs to read besides 0, in ascending order.

        Returns:
            Shape [1 + n, k] for scale "raw"; [n, 3 k] for "relative", which compares with epoch 0.
        """
        statistics = statistics_matrix([history[time] for time in (0.0, *times)])[:, self.columns]
        if self.scale == "raw":
            return temporal(statistics, self.form)
        return temporal(_movement(np.arcsinh(statistics)), self.form)

    def all_snapshots(self, history: HistoryByEpoch, times: Sequence[float]) -> Array:
        """Concatenate all snapshots up to the last of `times` (the paper's S_t); shape [d]."""
        return self.rows(history, times).reshape(-1)

    def two_snapshots(self, history: HistoryByEpoch, times: Sequence[float]) -> Array:
        """Concatenate the two latest snapshots, the paper's input to regression (section 4.2); shape [d]."""
        return self.rows(history, times)[-2:].reshape(-1)


def _movement(level: Array) -> Array:
    """Movements of [1 + n, k] numbers: signed since the first row, and sizes since the first and the last."""
    since_start, since_last = level[1:] - level[0], np.diff(level, axis=0)
    return np.hstack((signed(since_start), size(since_start), size(since_last)))


def fit_classifier(kind: Classifier, x: Array, low: Mask, seed: int) -> Any:
    """Standardise, and fit scikit-learn's SVM or MLP at its default settings; the paper names no other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = SVC() if kind == "svm" else MLPClassifier(max_iter=500, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), model).fit(x, low.astype(np.int64))
    # The state of the MLP's optimiser is three times the network's size, and is not needed to predict.
    for name in _TRAINING_STATE:
        vars(model).pop(name, None)
    return fitted


def fit_regressor(kind: Regressor, x: Array, accuracies: Array) -> Any:
    """Standardise and fit; "linear" is the paper's (section 4.2)."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    model = SVR(epsilon=_SVR_TUBE) if kind == "svr" else LinearRegression()
    return make_pipeline(StandardScaler(), model).fit(x, accuracies)


def decision_values(classifier: Any, x: Array) -> Array:
    """Decision function of an SVM, logits of an MLP: positive for low, and never saturated; shape [n]."""
    if hasattr(classifier[-1], "decision_function"):
        return np.asarray(classifier.decision_function(x), dtype=np.float64)
    return _logits(classifier[-1], classifier[:-1].transform(x))


def predicted_accuracies(regressor: Any, x: Array) -> Array:
    """Predicted final accuracies, clipped to [0, 1]; shape [n]."""
    return np.clip(np.asarray(regressor.predict(x), dtype=np.float64), 0.0, 1.0)


def _logits(network: Any, x: Array) -> Array:
    hidden = x
    for weight, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0.0)
    return np.asarray(hidden @ network.coefs_[-1] + network.intercepts_[-1], dtype=np.float64).reshape(-1)


@dataclass(frozen=True)
class PaperFamily(ModelFamily):
    """A classifier and a regressor on the temporal signature; neither curves nor relative accuracy."""

    classifier: Classifier
    regressor: Regressor
    features: Features
    seed: int

    kinds = (WEIGHTS,)
    reads_layers = False

    @property
    def statistics(self) -> Sequence[int]:
        """Those that are read."""
        return self.features.columns

    @property
    def card_settings(self) -> dict[str, Any]:
        """As they were given to `PaperPredictor`."""
        return {"classifier": self.classifier, "regressor": self.regressor, **vars(self.features)}

    def series(self, times: Iterable[float]) -> list[tuple[float, ...]]:
        """Each prefix of all times; and of the epoch ends, for runs that are read at epoch ends only."""
        ordered = sorted(times)
        found = {
            tuple(read[:end]) for read in (ordered, epoch_ends(ordered)) for end in range(1, len(read) + 1)
        }
        return sorted(found, key=lambda series: (series[-1], -len(series)))

    def row(self, history: HistoryByEpoch, times: Sequence[float], curve: LearningCurve | None) -> Array:
        """All snapshots, one after the other."""
        return self.features.all_snapshots(history, times)

    def fit(self, x: Array, targets: Targets, times: Sequence[float], kind: str) -> FittedModel:
        """A classifier on all snapshots; a regressor on the two latest if it is linear, else on all."""
        width = min(2 * self.features.width, x.shape[1]) if self.regressor == "linear" else x.shape[1]
        return _FittedEstimators(
            fit_classifier(self.classifier, x, targets.low, self.seed),
            fit_regressor(self.regressor, x[:, -width:], targets.accuracies),
            width,
        )

    def width(self, times: Sequence[float], kind: str) -> int:
        """The columns of `row`."""
        snapshots = len(times) + 1 if self.features.scale == "raw" else len(times)
        return snapshots * self.features.width

    def restore(self, plain: Mapping[str, Any], times: Sequence[float], kind: str) -> FittedModel:
        """The inverse of `FittedModel.to_plain`."""
        found, columns = _FittedEstimators(**plain), self.width(times, kind)
        if type(found.width) is not int or not 0 < found.width <= columns:
            raise ValueError(f"its regressor reads {found.width!r} columns")
        _check_pipeline(found.classifier, columns)
        _check_pipeline(found.regressor, found.width)
        return found


class _FittedEstimators(FittedModel):
    """Two of scikit-learn's pipelines; the regressor reads the last `width` columns."""

    def __init__(self, classifier: Any, regressor: Any, width: int) -> None:
        self.classifier, self.regressor, self.width = classifier, regressor, width

    def __call__(self, x: Array) -> tuple[Array, Array | None]:
        accuracies = predicted_accuracies(self.regressor, x[:, -self.width :])
        relative = np.full(len(x), np.nan)
        return np.stack([decision_values(self.classifier, x), accuracies, relative], axis=1), None

    def to_plain(self) -> dict[str, Any]:
        return dict(vars(self))


def _check_pipeline(pipeline: Any, columns: int) -> None:
    """Checks a pipeline from an archive: libsvm, which is written in C, believes the shapes of its arrays.

    Raises:
        AttributeError, TypeError, ValueError: a part of it is missing or unfit.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, SVR

    if type(pipeline) is not Pipeline or len(pipeline.steps) != 2 or type(pipeline[0]) is not StandardScaler:
        raise ValueError("it is no pipeline of a scaler and a model")
    scaler, model = pipeline[0], pipeline[1]
    check_array(scaler.mean_, "f", (columns,))
    check_array(scaler.scale_, "f", (columns,), np.finfo(np.float64).tiny)
    if isinstance(model, SVC | SVR):
        vectors = len(model.support_)
        check_array(model.support_, "i", (None,), 0)
        check_array(model.support_vectors_, "f", (vectors, columns))
        check_array(model.dual_coef_, "f", (1, vectors))
        check_array(model._dual_coef_, "f", (1, vectors))
        check_array(model.intercept_, "f", (1,))
        check_array(model._intercept_, "f", (1,))
        check_array(model._n_support, "i", (2,), 0, vectors)
        counted = model._n_support.sum() if isinstance(model, SVC) else model._n_support[0]
        if counted != vectors or model.kernel != "rbf" or model._sparse is not False:
            raise ValueError("its support vectors are not those of a fit")
        if not 0 < float(model._gamma) < np.inf:
            raise ValueError(f"its gamma is {model._gamma}")
        return
    layers = zip(model.coefs_, model.intercepts_, strict=True) if isinstance(model, MLPClassifier) else ()
    for weight, bias in layers:
        check_array(weight, "f", (columns, len(bias)))
        check_array(bias, "f", (None,))
        columns = len(bias)
    if columns != 1 and isinstance(model, MLPClassifier):
        raise ValueError(f"its last layer has {columns} outputs")
    if not isinstance(model, MLPClassifier):
        check_array(model.coef_, "f", (columns,))
        if not np.isfinite(float(model.intercept_)):
            raise ValueError(f"its intercept is {model.intercept_}")
