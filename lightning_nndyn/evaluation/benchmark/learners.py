"""The regressor that all learned methods share, so that they differ in their features only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lightning_nndyn.signature.snapshot import Array

_TREES = 100
_SELECTION_TREES = 40  # fewer, as each learner is fitted three times only to be compared
_SELECTION_FOLDS = 3
_QUANTILES = 100


class Learner:
    """Extremely randomised trees or support-vector regression, whichever does better on the training set.

    The choice is cross-validated within the training set, so that scores on other runs stay unbiased.
    Deterministic given the seed.

    Attributes:
        choice: "trees" or "support vectors"; empty until fitted.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.choice = ""

    def fit(self, x: Array, y: Array) -> Learner:
        """Fit to rows [n, d] and accuracies [n]."""
        self.choice = min(_MODELS, key=lambda name: self._validation_error(name, x, y))
        self._model = _MODELS[self.choice](len(x), _TREES, self.seed).fit(x, y)
        return self

    def predict(self, x: Array) -> Array:
        """Accuracies, fractions; shape [n]."""
        return np.clip(np.asarray(self._model.predict(x), dtype=np.float64), 0, 1)

    def _validation_error(self, name: str, x: Array, y: Array) -> float:
        from sklearn.model_selection import KFold

        errors = np.zeros(len(y))
        for train, test in KFold(_SELECTION_FOLDS, shuffle=True, random_state=self.seed).split(x):
            model = _MODELS[name](len(train), _SELECTION_TREES, self.seed).fit(x[train], y[train])
            errors[test] = np.abs(np.clip(model.predict(x[test]), 0, 1) - y[test])
        return float(errors.mean())


def _trees(runs: int, trees: int, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(trees, min_samples_leaf=2, max_features=0.4, random_state=seed)


def _support_vectors(runs: int, trees: int, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer
    from sklearn.svm import SVR

    bounded = QuantileTransformer(
        n_quantiles=min(_QUANTILES, runs), output_distribution="normal", random_state=seed
    )
    return make_pipeline(bounded, SVR(C=0.5, epsilon=0.02))


_MODELS: dict[str, Callable[[int, int, int], Any]] = {"trees": _trees, "support vectors": _support_vectors}
