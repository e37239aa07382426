"""Gaussian-process regression on groups of features, with hyperparameters chosen by leave-one-out.

The leave-one-out predictions of a Gaussian process follow in closed form from its fit (Rasmussen and
Williams, 2006, section 5.4.2). So the few finished runs of a sweep serve for fitting and for model selection
alike.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightning_nndyn.signature.snapshot import Array

_SCALES = (0.0, 0.1, 0.3, 1.0, 3.0)  # inverse length scales of a group; 0 leaves the group out
_FIRST_SCALE = 0.3
_NOISES = (0.03, 0.1, 0.3, 1.0, 3.0)  # variances, in units of the signal's
_ROUNDS = 2  # of coordinate descent over the groups
_PENALTY = 2.0  # nats of all left-out targets together that a group must gain, as chance gains some
_TINY = 1e-9

NUM_HYPERPARAMETERS = 5
"""Fitted hyperparameters, subtracted from the degrees of freedom: signal, noise, and three for the scales."""

# The number of threads belongs to the process: without a lock, the second of two threads that set it at once
# would restore the number that the first has set.
_BLAS_LOCK = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run linear algebra on one thread: a sweep's matrices are small, and other trials need the cores."""
    from threadpoolctl import threadpool_limits

    with _BLAS_LOCK, threadpool_limits(1, user_api="blas"):
        yield


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted Gaussian process with a squared-exponential kernel.

    Attributes:
        groups: the features it was fitted to, each of shape [n, columns].
        scales: inverse length scale of each group.
        noise: variance of the noise, in units of the signal's.
        offset: mean of the targets.
        signal_std: standard deviation of the signal.
        inverse: of the kernel matrix with its noise, shape [n, n].
        weights: that inverse times the centred targets, shape [n].
    """

    groups: Sequence[Array]
    scales: tuple[float, ...]
    noise: float
    offset: float
    signal_std: float
    inverse: Array
    weights: Array

    @classmethod
    def fit(
        cls, groups: Sequence[Array], targets: Array, scales: Sequence[float] | None = None
    ) -> GaussianProcess:
        """Choose length scales and noise by the log density of the left-out targets, one group at a time.

        A group that gains little is left out: the best of many scales would fit chance.

        Args:
            groups: features in groups, each of shape [n, columns] and of unit scale.
            targets: shape [n].
            scales: inverse length scales to begin with; None for 0.3 each.
        """
        first = tuple(scales) if scales is not None else (_FIRST_SCALE,) * len(groups)
        squares = [_squared_distances(group, group) for group in groups]
        best = _fit_noise(squares, first, targets)
        for _ in range(_ROUNDS):
            before = best.scales
            for index in np.flatnonzero([group.shape[1] for group in groups]):
                tried = [(*best.scales[:index], scale, *best.scales[index + 1 :]) for scale in _SCALES]
                found = [_fit_noise(squares, other, targets) for other in tried if other != best.scales]
                best = max([best, *found], key=lambda candidate: candidate.score)
            if best.scales == before:
                break
        inverse = (best.vectors * best.shrunk) @ best.vectors.T
        offset = float(targets.mean())
        return cls(groups, best.scales, best.noise, offset, best.signal_std, inverse, best.weights)

    def predict(self, groups: Sequence[Array]) -> tuple[Array, Array]:
        """Means and standard deviations, noise included, for m new runs; shape [m] each.

        Args:
            groups: their features, as for `fit`.
        """
        distances = np.zeros((len(groups[0]), len(self.groups[0])))
        for new, known, scale in zip(groups, self.groups, self.scales, strict=True):
            if scale:
                distances += scale**2 * _squared_distances(new, known)
        kernel = np.exp(-0.5 * distances)
        mean = self.offset + kernel @ self.weights
        variance = 1 + self.noise - np.einsum("ij,jk,ik->i", kernel, self.inverse, kernel)
        return mean, self.signal_std * np.sqrt(np.maximum(variance, self.noise))

    def leave_one_out(self) -> tuple[Array, Array]:
        """Errors (target less prediction) and standard deviations of left-out runs; shape [n] each."""
        diagonal = np.diagonal(self.inverse)
        return self.weights / diagonal, self.signal_std / np.sqrt(diagonal)


class _Candidate(NamedTuple):
    """Length scales with the noise that is best for them.

    `score` is the mean log density of the left-out targets, in nats, up to a constant and less the penalty;
    `shrunk` are the inverse eigenvalues of the kernel matrix with noise, `vectors` its eigenvectors.
    """

    score: float
    scales: tuple[float, ...]
    noise: float
    signal_std: float
    weights: Array
    shrunk: Array
    vectors: Array


def _fit_noise(squares: Sequence[Array], scales: tuple[float, ...], targets: Array) -> _Candidate:
    """Try all noises at once: they share one eigendecomposition of the kernel. Arrays are [noises, n]."""
    distances = sum((scale**2 * square for scale, square in zip(scales, squares, strict=True)), 0.0)
    kernel = np.exp(-0.5 * np.broadcast_to(distances, (len(targets), len(targets))))
    values, vectors = np.linalg.eigh(kernel)
    shrunk = 1 / (np.maximum(values, 0) + np.array(_NOISES)[:, None])
    diagonals = shrunk @ (vectors**2).T
    weights = (shrunk * (vectors.T @ (targets - targets.mean()))) @ vectors.T
    variances = (weights**2 / diagonals).sum(axis=1) / max(1, len(targets) - NUM_HYPERPARAMETERS)
    signal_stds = np.sqrt(variances) + _TINY
    # The log density, with the signal's variance at its optimum.
    scores = 0.5 * np.log(diagonals).mean(axis=1) - np.log(signal_stds)
    scores -= _PENALTY * np.count_nonzero(scales) / len(targets)
    best = int(scores.argmax())
    score, std = float(scores[best]), float(signal_stds[best])
    return _Candidate(score, scales, _NOISES[best], std, weights[best], shrunk[best], vectors)


def _squared_distances(rows: Array, others: Array) -> Array:
    """Squared Euclidean distances between rows, shape [m, n]."""
    products = rows @ others.T
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2 * products
    return np.asarray(np.maximum(squares, 0))
