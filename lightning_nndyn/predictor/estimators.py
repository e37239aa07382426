"""The scikit-learn estimators behind one decision time, and the probability they are calibrated to.

scikit-learn takes a second to import, so that it is imported where it is used, not with the package.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lightning_nndyn.predictor.features import Array, Mask

Classifier = Literal["svm", "mlp"]
Regressor = Literal["svr", "linear"]

_SVR_TUBE = 0.05
_TRAINING_LEFTOVERS = ("_optimizer", "_random_state")


@dataclass(frozen=True)
class Platt:
    """A sigmoid from decision values to probabilities: 1 / (1 + exp(-(slope * value + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, values: Array) -> Array:
        """Map decision values, shape [n], to probabilities, shape [n]."""
        from scipy.special import expit

        return np.asarray(expit(self.slope * values + self.intercept), dtype=np.float64)


def fit_platt(values: Array, low: Mask) -> Platt:
    """Fit a sigmoid to held-out decision values (Platt, 1999).

    Platt's targets, a little inside 0 and 1, keep the slope finite where the classes are separated, and so
    the probabilities apart from each other and from 1. Values that rank the classes worse than a coin get
    slope 0: the share of low runs, whatever the value.

    Args:
        values: shape [n], larger for low runs.
        low: shape [n], the true class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    share = (low.sum() + 1) / (len(low) + 2)
    target = np.where(low, (low.sum() + 1) / (low.sum() + 2), 1 / ((~low).sum() + 2))
    spread = float(values.std()) or 1.0
    # A soft target t is one sample of each class, with the weights t and 1 - t.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where rounding ends the descent, it has arrived
        fitted = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(
            np.tile(values / spread, 2)[:, None],
            np.repeat([1, 0], len(values)),
            sample_weight=np.concatenate([target, 1 - target]),
        )
    if fitted.coef_[0, 0] <= 0:
        return Platt(0.0, float(np.log(share / (1 - share))))
    return Platt(float(fitted.coef_[0, 0]) / spread, float(fitted.intercept_[0]))


def fit_classifier(kind: Classifier, x: Array, low: Mask, seed: int) -> Any:
    """Standardise and fit scikit-learn's SVM or MLP with their default capacity; the paper names no other."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = SVC() if kind == "svm" else MLPClassifier(max_iter=500, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = make_pipeline(StandardScaler(), model).fit(x, low.astype(np.int64))
    _strip(model)
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
    """Signed distance to the boundary, positive for low; shape [n]. Never saturates, unlike a probability."""
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


def _strip(model: Any) -> None:
    # The state of the optimiser is three times the network's size, and nothing reads it again.
    for name in _TRAINING_LEFTOVERS:
        vars(model).pop(name, None)
