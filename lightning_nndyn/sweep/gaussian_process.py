"""Gaussian-process regression on groups of features, chosen by what it says of runs left out one at a time.

The leave-one-out predictions of a Gaussian process come in closed form with its fit (Rasmussen and Williams,
2006, section 5.4.2): a sweep's few finished runs serve both to learn from and to measure by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_nndyn.predictor.features import Array

_SCALES = (0.0, 0.1, 0.3, 1.0, 3.0)  # inverse length scales of a group; 0 leaves it out
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)  # variances, in units of the signal's
_ROUNDS = 2  # over all groups, each time with the others as they are
_TINY = 1e-9

CHOSEN = 5
"""Numbers that are chosen to suit the runs: the spread, the noise, and what the length scales amount to."""


@dataclass(frozen=True)
class Process:
    """A fitted Gaussian process with a squared-exponential kernel.

    Attributes:
        groups: the features it was fitted to, each of shape [n, columns].
        scales: inverse length scale of each group.
        noise: variance of the noise, in units of the signal's.
        offset: mean of the targets.
        spread: standard deviation of the signal.
        inverse: of the kernel matrix with its noise, shape [n, n].
        weights: that matrix times the targets, shape [n].
        score: mean log density of the left-out targets, nats.
    """

    groups: Sequence[Array]
    scales: tuple[float, ...]
    noise: float
    offset: float
    spread: float
    inverse: Array
    weights: Array
    score: float

    def __call__(self, groups: Sequence[Array]) -> tuple[Array, Array]:
        """Means and standard deviations, noise included, for runs given by their groups; shape [m] each."""
        near = np.exp(-0.5 * _distances(groups, self.groups, self.scales))
        mean = self.offset + near @ self.weights
        variance = 1 + self.noise - np.einsum("ij,jk,ik->i", near, self.inverse, near)
        return mean, self.spread * np.sqrt(np.maximum(variance, self.noise))

    def left_out(self) -> tuple[Array, Array]:
        """Errors (target less prediction) and standard deviations of runs, each left out; shape [n] each."""
        diagonal = np.diagonal(self.inverse)
        return self.weights / diagonal, self.spread / np.sqrt(diagonal)


def fit_process(groups: Sequence[Array], targets: Array, start: Sequence[float] | None = None) -> Process:
    """Fit, with length scales and noise chosen one after the other by the left-out runs' log density.

    Args:
        groups: features in groups, each [n, columns] and of unit scale.
        targets: shape [n].
        start: inverse length scales to begin with; None for 0.3 each.
    """
    scales = tuple(start) if start is not None else (0.3,) * len(groups)
    squares = [_squares(group, group) for group in groups]
    best = _best_noise(squares, scales, targets)
    for _ in range(_ROUNDS):
        before = best.scales
        for place in range(len(groups)):
            tried = [_changed(best.scales, place, scale) for scale in _SCALES]
            found = [_best_noise(squares, one, targets) for one in tried if one != best.scales]
            best = max([best, *found], key=lambda choice: choice.score)
        if best.scales == before:
            break
    return best.process(groups, targets)


def _changed(scales: tuple[float, ...], place: int, scale: float) -> tuple[float, ...]:
    return (*scales[:place], scale, *scales[place + 1 :])


class _Choice(NamedTuple):
    """Length scales with the noise that is best for them."""

    score: float
    scales: tuple[float, ...]
    noise: float
    spread: float
    weights: Array
    shrunk: Array
    vectors: Array

    def process(self, groups: Sequence[Array], targets: Array) -> Process:
        inverse = (self.vectors * self.shrunk) @ self.vectors.T
        offset = float(targets.mean())
        return Process(
            groups, self.scales, self.noise, offset, self.spread, inverse, self.weights, self.score
        )


def _best_noise(squares: Sequence[Array], scales: tuple[float, ...], targets: Array) -> _Choice:
    """All noises share one eigendecomposition of the kernel matrix, and are tried at once: [noises, n]."""
    distances = sum((scale**2 * square for scale, square in zip(scales, squares, strict=True)), 0.0)
    kernel = np.exp(-0.5 * np.broadcast_to(distances, (len(targets), len(targets))))
    values, vectors = np.linalg.eigh(kernel)
    shrunk = 1 / (np.maximum(values, 0) + np.array(_NOISES)[:, None])
    diagonals = shrunk @ (vectors**2).T
    weights = (shrunk * (vectors.T @ (targets - targets.mean()))) @ vectors.T
    # As for any variance, less the numbers that were chosen to make it small.
    squared = (weights**2 / diagonals).sum(axis=1) / max(1, len(targets) - CHOSEN)
    spreads = np.sqrt(squared) + _TINY
    # With the spread at its best, the log density is this but for a constant.
    scores = 0.5 * np.log(diagonals).mean(axis=1) - np.log(spreads)
    best = int(scores.argmax())
    return _Choice(
        float(scores[best]),
        scales,
        float(_NOISES[best]),
        float(spreads[best]),
        weights[best],
        shrunk[best],
        vectors,
    )


def _distances(one: Sequence[Array], other: Sequence[Array], scales: Sequence[float]) -> Array:
    total = np.zeros((len(one[0]), len(other[0])))
    for a, b, scale in zip(one, other, scales, strict=True):
        if scale:
            total += scale**2 * _squares(a, b)
    return total


def _squares(one: Array, other: Array) -> Array:
    """Squared distances between rows, shape [m, n]."""
    products = one @ other.T
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * products
    return np.asarray(np.maximum(squares, 0))
