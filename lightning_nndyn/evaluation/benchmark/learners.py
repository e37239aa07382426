"""The regressor that every learned method gets, so that methods differ in what they read alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.benchmark.study import Array

_TREES = 100
_TRIAL_TREES = 40
_INNER_FOLDS = 3
_QUANTILES = 100


class Learner:
    """Extremely randomised trees or support-vector regression, whichever does better inside the training set.

    The choice is made by cross-validation within the runs that it is fitted to, so that a score on others is
    clean. Deterministic given the seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.choice = ""

    def fit(self, x: Array, y: Array) -> Learner:
        """Fit to rows [n, d] and accuracies [n]."""
        self.choice = min(_MAKERS, key=lambda name: self._inner_error(name, x, y))
        self._model = _MAKERS[self.choice](len(x), _TREES, self.seed).fit(x, y)
        return self

    def predict(self, x: Array) -> Array:
        """Accuracies, fractions; shape [n]."""
        return np.clip(np.asarray(self._model.predict(x), dtype=np.float64), 0, 1)

    def _inner_error(self, name: str, x: Array, y: Array) -> float:
        from sklearn.model_selection import KFold

        errors = np.zeros(len(y))
        for train, test in KFold(_INNER_FOLDS, shuffle=True, random_state=self.seed).split(x):
            model = _MAKERS[name](len(train), _TRIAL_TREES, self.seed).fit(x[train], y[train])
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


_MAKERS: dict[str, Callable[[int, int, int], Any]] = {"trees": _trees, "support vectors": _support_vectors}
