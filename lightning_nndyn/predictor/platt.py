"""Probabilities from decision values: Platt scaling (Platt, 1999)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from lightning_nndyn._files import Finite
from lightning_nndyn.signature.snapshot import Array, Mask


@dataclass(frozen=True)
class Platt:
    """A sigmoid from decision values to probabilities: 1 / (1 + exp(-(slope * value + intercept)))."""

    slope: Finite
    intercept: Finite

    def __call__(self, values: Array) -> Array:
        """Map decision values, shape [n], to probabilities, shape [n]."""
        from scipy.special import expit

        return np.asarray(expit(self.slope * values + self.intercept), dtype=np.float64)


def fit_platt(values: Array, low: Mask) -> Platt:
    """Fit a sigmoid to held-out decision values.

    Platt's targets lie a little inside 0 and 1. So the slope stays finite if the values separate the classes,
    and probabilities differ from each other and from 1. If the values rank the classes worse than chance, the
    slope is 0, and every probability is the share of low runs.

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
        # The optimum is flat: rounding may end the descent before its own criterion does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000).fit(
            np.tile(values / spread, 2)[:, None],
            np.repeat([1, 0], len(values)),
            sample_weight=np.concatenate([target, 1 - target]),
        )
    if fitted.coef_[0, 0] <= 0:
        return Platt(0.0, float(np.log(share / (1 - share))))
    return Platt(float(fitted.coef_[0, 0]) / spread, float(fitted.intercept_[0]))
