"""Feature vectors of a sweep's runs, comparable whatever the units of hyperparameters and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep.run import SweepReading, SweepRun

GROUPS = ("hyperparameters", "weights", "curve", "predictor")
"""Groups of features, each with a length scale of its own."""

_COMPONENTS = 4  # of the movement's hundred numbers, which are strongly correlated
_CLIP = 3.0  # standard deviations: how far off an exploding run is carries no information
_TINY = 1e-9
_LARGEST = 10**300
_LOG_RATIO = 20.0  # of largest to smallest value, from which on a hyperparameter is taken by its logarithm


class RunFeatures:
    """Features of runs at one time, in `GROUPS`; fitted to the finished runs that were read at that time.

    Hyperparameters are encoded by `ParameterEncoder`. Learning curves and a predictor's predictions are
    replaced by their ranks among the finished runs (`RankTransform`), the weights' movement by its principal
    components.

    Args:
        runs: finished ones.
        time: at which all of them were read; 0 for before training, when only hyperparameters are known.
    """

    def __init__(self, runs: Sequence[SweepRun], time: float) -> None:
        self.time = time
        self._parameters = ParameterEncoder([run.params for run in runs])
        readings = self._readings(runs)
        self._weights = _PrincipalComponents([reading.weights for reading in readings])
        self._curve = _Ranks([reading.curve for reading in readings])
        self._predictor = _Ranks([_prior_prediction(reading) for reading in readings])

    def __call__(self, runs: Sequence[SweepRun]) -> list[Array]:
        """One array for each of `GROUPS`, shape [runs, columns]."""
        readings = self._readings(runs)
        return [
            self._parameters([run.params for run in runs]),
            self._weights([reading.weights for reading in readings]),
            self._curve([reading.curve for reading in readings]),
            self._predictor([_prior_prediction(reading) for reading in readings]),
        ]

    def _readings(self, runs: Sequence[SweepRun]) -> list[SweepReading]:
        return [run.at(self.time) or SweepReading(self.time) for run in runs]


class RankTransform:
    """Maps values to the normal quantiles of their ranks among known values.

    The result is bounded and has no unit: a run that explodes is no farther out than the last known one.

    Args:
        known: values, shape [n].
    """

    def __init__(self, known: Array) -> None:
        self.values, counts = np.unique(known, return_counts=True)
        ranks = np.cumsum(counts) - counts / 2  # ties share their mean rank
        self.quantiles = ndtri(ranks / len(known))

    def __call__(self, values: Array) -> Array:
        """Quantiles; linear between known values, constant beyond them."""
        return np.interp(values, self.values, self.quantiles)

    def inverse(self, quantiles: Array) -> Array:
        """Values that have such quantiles."""
        return np.interp(quantiles, self.quantiles, self.values)


class ParameterEncoder:
    """Hyperparameters as numbers of unit scale, fitted to the runs of a sweep.

    A number becomes one column, on a logarithmic scale if the sweep's values span more than a factor of 20.
    Anything else becomes one column for each of its values. A number that only some runs have gets one more
    column, which says whether it is there.

    Args:
        known: hyperparameters of each run.
    """

    def __init__(self, known: Sequence[Mapping[str, Any]]) -> None:
        names = sorted({name for params in known for name in params})
        self._columns = [_column(name, [params.get(name) for params in known]) for name in names]

    def __call__(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Rows, shape [n, columns]."""
        parts = [column([run.get(column.name) for run in params]) for column in self._columns]
        return np.hstack([np.empty((len(params), 0)), *parts])


class _NumericColumn:
    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        self.log = known.min() > 0 and known.max() / known.min() >= _LOG_RATIO
        scaled = self._scale(known)
        self.mean, self.std = scaled.mean(), scaled.std() or 1.0
        self.optional = len(known) < len(values)

    def __call__(self, values: Sequence[Any]) -> Array:
        # A hyperparameter with the choices [16, "auto"] is numeric as long as only 16 has been drawn.
        present = np.array([_is_number(value) for value in values])
        scaled = np.full(len(values), self.mean)
        scaled[present] = self._scale(np.array([v for v in values if _is_number(v)], dtype=np.float64))
        column = np.clip((scaled - self.mean) / self.std, -_CLIP, _CLIP)[:, None]
        return np.hstack([column, 2.0 * present[:, None]]) if self.optional else column

    def _scale(self, values: Array) -> Array:
        return np.log(np.maximum(values, np.finfo(np.float64).tiny)) if self.log else values


class _CategoricalColumn:
    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self.known = sorted({repr(value) for value in values})

    def __call__(self, values: Sequence[Any]) -> Array:
        matches = [[float(repr(value) == known) for known in self.known] for value in values]
        return np.array(matches) * np.sqrt(2)  # two different values are at a distance of 2


def _column(name: str, values: Sequence[Any]) -> _NumericColumn | _CategoricalColumn:
    known = [value for value in values if value is not None]
    numeric = all(map(_is_number, known))
    finite = numeric and known and bool(np.isfinite(np.array(known, dtype=np.float64)).all())
    return _NumericColumn(name, values) if finite else _CategoricalColumn(name, values)


def _is_number(value: Any) -> bool:
    too_large = isinstance(value, int) and abs(value) > _LARGEST  # for a float
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not too_large


class _Ranks:
    """Columns that all known runs have, each by its ranks."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.width = _common_width(rows)
        self._transforms = [RankTransform(column) for column in _table(rows, self.width).T]

    def __call__(self, rows: Sequence[Sequence[float]]) -> Array:
        """Shape [rows, width]; 0, the median of the known runs, where a row has another width."""
        table = _table(rows, self.width)
        for index, transform in enumerate(self._transforms):
            table[:, index] = transform(table[:, index])
        return np.nan_to_num(table)


class _PrincipalComponents:
    """The first principal components of many correlated columns."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.width = _common_width(rows)
        table = _table(rows, self.width)
        self._mean, self._std = table.mean(axis=0), table.std(axis=0) + _TINY
        _, lengths, axes = np.linalg.svd(self._scale(table), full_matrices=False)
        # One factor for all: the first component, which carries most information, stays the longest.
        longest = lengths.max(initial=_TINY)
        self._axes = axes[:_COMPONENTS].T * (np.sqrt(len(rows)) / longest)

    def __call__(self, rows: Sequence[Sequence[float]]) -> Array:
        """Shape [rows, components]; 0, the mean of the known runs, where a row has another width."""
        return np.nan_to_num(self._scale(_table(rows, self.width))) @ self._axes

    def _scale(self, table: Array) -> Array:
        return np.clip((table - self._mean) / self._std, -_CLIP, _CLIP)


def _common_width(rows: Sequence[Sequence[float]]) -> int:
    """0 where rows differ in width: columns that only some runs have cannot be compared."""
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0


def _table(rows: Sequence[Sequence[float]], width: int) -> Array:
    """Shape [rows, width]; NaN for rows of another width."""
    filled = [row if len(row) == width else [np.nan] * width for row in rows]
    return np.array(filled, dtype=np.float64).reshape(len(rows), width)


def _prior_prediction(reading: SweepReading) -> tuple[float, ...]:
    return () if reading.prior_prediction is None else (reading.prior_prediction,)
