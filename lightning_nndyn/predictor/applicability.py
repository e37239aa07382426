"""The area of applicability of a model (Meyer and Pebesma, 2021): how far a run is from those of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.array_file import check_array
from lightning_nndyn.signature.snapshot import Array

N_NEIGHBOURS = 7
N_COLUMNS = 24
"""The most important columns count: the others hardly change a prediction."""
N_QUANTILES = 199
"""Of the held-out distances, which are kept instead of the distances if there are more of these."""

_TINY = 1e-9


@dataclass(frozen=True)
class ApplicabilityArea:
    """The runs of a fit, in units in which distances matter to the prediction.

    Attributes:
        columns: which numbers of a row count, shape [k].
        centre: their medians, shape [k].
        weight: importance by interquartile range, shape [k].
        points: the fit's runs, centred and weighted, shape [n, k].
        held_out: distances of held-out runs from the others, ascending.
    """

    columns: NDArray[np.int64]
    centre: Array
    weight: Array
    points: NDArray[np.float32]
    held_out: Array

    @property
    def _unit(self) -> float:
        """The median distance of held-out runs."""
        return float(self.held_out[len(self.held_out) // 2]) or _TINY

    def distance(self, row: Array) -> float:
        """Mean distance of a row to the nearest runs; 1 is the median of held-out runs."""
        point = (row[self.columns] - self.centre) * self.weight
        return _mean_distance_to_nearest(self.points, point) / self._unit

    def p_value(self, distance: float) -> float:
        """Share of runs, held-out ones and this one, that are as far away: conformal, small out of domain."""
        farther = int((self.held_out >= distance * self._unit).sum())
        return (farther + 1) / (len(self.held_out) + 1)

    def to_arrays(self) -> dict[str, Any]:
        """The arrays by name, to be saved."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> ApplicabilityArea:
        """The inverse of `to_arrays`.

        Raises:
            TypeError, ValueError: an array is missing or unfit.
        """
        found = cls(**arrays)
        check_array(found.columns, "i", (None,), 0)
        count = len(found.columns)
        check_array(found.centre, "f", (count,))
        check_array(found.weight, "f", (count,))
        check_array(found.points, "f", (None, count))
        check_array(found.held_out, "f", (None,), 0)
        if (np.diff(found.held_out) < 0).any():
            raise ValueError("its distances do not ascend")
        return found


def fit_applicability(x: Array, importances: Array, folds: NDArray[np.int64]) -> ApplicabilityArea:
    """Keep the runs' rows, and measure how far each is from the runs of other folds.

    Args:
        x: one row a run, shape [n, columns].
        importances: of each column to the model, shape [columns].
        folds: the fold of each run, shape [n]; a group of similar runs is in one.
    """
    columns = np.sort(np.argsort(-importances, kind="stable")[:N_COLUMNS]).astype(np.int64)
    chosen = x[:, columns]
    low, centre, high = np.quantile(chosen, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high - low > _TINY, high - low, chosen.std(axis=0) + _TINY)
    weight = np.asarray(importances, dtype=np.float64)[columns] / spread
    points = ((chosen - centre) * weight).astype(np.float32)
    distances = np.sort(
        [
            _mean_distance_to_nearest(points[folds != fold], point)
            for fold, point in zip(folds, points, strict=True)
        ]
    )
    if len(distances) > N_QUANTILES:
        distances = np.quantile(distances, np.linspace(0, 1, N_QUANTILES))
    return ApplicabilityArea(columns, centre, weight, points, np.asarray(distances, dtype=np.float64))


def _mean_distance_to_nearest(points: NDArray[np.float32], point: Array) -> float:
    squares = ((points.astype(np.float64) - point) ** 2).sum(axis=1)
    nearest = np.partition(squares, min(N_NEIGHBOURS, len(squares)) - 1)[:N_NEIGHBOURS]
    return float(np.sqrt(nearest).mean())
