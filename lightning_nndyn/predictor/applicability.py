"""How far a run is from those a model was fitted to (Meyer and Pebesma, 2021: the area of applicability)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.predictor.features import Array

_NEAREST = 7
_COLUMNS = 24  # that have told most: the others hardly change a prediction
_KNOWN = 199  # quantiles of held-out distances that are kept
_TINY = 1e-9


@dataclass(frozen=True)
class Neighbours:
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

    def distance(self, row: Array) -> float:
        """Mean distance of a row to the nearest runs; 1 is the median of held-out runs."""
        place = (row[self.columns] - self.centre) * self.weight
        unit = float(self.held_out[len(self.held_out) // 2]) or _TINY
        return _mean_nearest(self.points, place) / unit

    def p_value(self, distance: float) -> float:
        """Share of held-out runs (and of this one) that are as far away: conformal, small for a stranger."""
        unit = float(self.held_out[len(self.held_out) // 2]) or _TINY
        farther = int((self.held_out >= distance * unit).sum())
        return (farther + 1) / (len(self.held_out) + 1)

    def to_arrays(self) -> dict[str, Any]:
        """The arrays by name, to be saved."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Neighbours:
        """The inverse of `to_arrays`."""
        return cls(**arrays)


def fit_neighbours(x: Array, importances: Array, folds: NDArray[np.int64]) -> Neighbours:
    """Keep the runs' rows [n, columns], and measure how far each is from the runs of other folds.

    Args:
        x: one row a run.
        importances: what each column tells the model, shape [columns].
        folds: the fold of each run, shape [n]; a group of like runs is in one.
    """
    columns = np.sort(np.argsort(-importances, kind="stable")[:_COLUMNS]).astype(np.int64)
    chosen = x[:, columns]
    low, centre, high = np.quantile(chosen, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high - low > _TINY, high - low, chosen.std(axis=0) + _TINY)
    weight = np.asarray(importances, dtype=np.float64)[columns] / spread
    points = ((chosen - centre) * weight).astype(np.float32)
    far = np.sort(
        [_mean_nearest(points[folds != fold], point) for fold, point in zip(folds, points, strict=True)]
    )
    kept = far if len(far) <= _KNOWN else np.quantile(far, np.linspace(0, 1, _KNOWN))
    return Neighbours(columns, centre, weight, points, np.asarray(kept, dtype=np.float64))


def _mean_nearest(points: NDArray[np.float32], place: Array) -> float:
    squares = ((points.astype(np.float64) - place) ** 2).sum(axis=1)
    nearest = np.partition(squares, min(_NEAREST, len(squares)) - 1)[:_NEAREST]
    return float(np.sqrt(nearest).mean())
