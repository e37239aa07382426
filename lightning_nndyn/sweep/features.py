"""How a sweep's runs become rows of numbers, comparable whatever their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_nndyn.predictor.features import Array
from lightning_nndyn.sweep.rank_transform import NormalScores
from lightning_nndyn.sweep.run import Reading, SweepRun

GROUPS = ("hyperparameters", "weights", "curve", "predictor")
"""What a run is known by, each with length scales of its own."""

_COMPONENTS = 4  # of the movement's hundred numbers, which mostly say the same
_FARTHEST = 3.0  # in standard deviations of the known runs: what explodes says no more than that it does
_TINY = 1e-9
_LOG_FROM = 20.0  # largest over smallest value, from which on a parameter counts by its logarithm


class Parameters:
    """Hyperparameters as numbers of unit scale; learned from the runs of a sweep.

    A number becomes one column, on a logarithmic scale where the sweep's values span more than a factor of
    20; all else one column for each of its values. A parameter that only some runs have gets one more column.

    Args:
        known: of each run.
    """

    def __init__(self, known: Sequence[Mapping[str, Any]]) -> None:
        names = sorted({name for params in known for name in params})
        self._columns = [_column(name, [params.get(name) for params in known]) for name in names]

    def __call__(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Rows, shape [n, columns]."""
        parts = [column([one.get(column.name) for one in params]) for column in self._columns]
        return np.hstack([np.empty((len(params), 0)), *parts])


class _Number:
    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        self.log = known.min() > 0 and known.max() / known.min() >= _LOG_FROM
        level = self._level(known)
        self.centre, self.spread = level.mean(), level.std() or 1.0
        self.sometimes = len(known) < len(values)

    def __call__(self, values: Sequence[Any]) -> Array:
        # Of [16, "auto"] the runs so far may have had the number alone.
        values = [value if _is_number(value) else None for value in values]
        there = np.array([value is not None for value in values])
        level = np.full(len(values), self.centre)
        level[there] = self._level(np.array([v for v in values if v is not None], dtype=np.float64))
        column = np.clip((level - self.centre) / self.spread, -_FARTHEST, _FARTHEST)[:, None]
        return np.hstack([column, 2.0 * there[:, None]]) if self.sometimes else column

    def _level(self, values: Array) -> Array:
        return np.log(np.maximum(values, np.finfo(np.float64).tiny)) if self.log else values


class _Choice:
    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self.known = sorted({repr(value) for value in values})

    def __call__(self, values: Sequence[Any]) -> Array:
        return np.array([[float(repr(value) == one) for one in self.known] for value in values]) * np.sqrt(2)


def _column(name: str, values: Sequence[Any]) -> _Number | _Choice:
    known = [value for value in values if value is not None]
    numbers = all(map(_is_number, known))
    finite = numbers and known and bool(np.isfinite(np.array(known, dtype=np.float64)).all())
    return _Number(name, values) if finite else _Choice(name, values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Inputs:
    """Rows of runs at one time, in `GROUPS`; learned from the finished runs that were read then.

    Curves and what a predictor says are taken by their ranks among the finished runs; the movement of the
    weights, which is bounded as it is, by its principal components.

    Args:
        runs: finished ones.
        time: at which all of them were read; 0 for before training, when hyperparameters are all there is.
    """

    def __init__(self, runs: Sequence[SweepRun], time: float) -> None:
        self.time = time
        self.parameters = Parameters([run.params for run in runs])
        readings = [_read(run, time) for run in runs]
        self._weights = _Components([reading.weights for reading in readings])
        self._curve = _Ranks([reading.curve for reading in readings])
        self._known = _Ranks([_known(reading) for reading in readings])

    def __call__(self, runs: Sequence[SweepRun]) -> list[Array]:
        """One array for each of `GROUPS`, shape [runs, columns]."""
        readings = [_read(run, self.time) for run in runs]
        return [
            self.parameters([run.params for run in runs]),
            self._weights([reading.weights for reading in readings]),
            self._curve([reading.curve for reading in readings]),
            self._known([_known(reading) for reading in readings]),
        ]


class _Ranks:
    """Columns that all known runs have, by their ranks."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.width = _common_width(rows)
        self._scores = [NormalScores(column) for column in _table(rows, self.width).T]

    def __call__(self, rows: Sequence[Sequence[float]]) -> Array:
        """Shape [rows, width]; the middle of the known ones where a row has another width."""
        table = _table(rows, self.width)
        for place, score in enumerate(self._scores):
            table[:, place] = score(table[:, place])
        return np.nan_to_num(table)


class _Components:
    """The first principal components of many columns that say much the same."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.width = _common_width(rows)
        table = _table(rows, self.width)
        self._centre, self._spread = table.mean(axis=0), table.std(axis=0) + _TINY
        _, lengths, axes = np.linalg.svd(self._scaled(table), full_matrices=False)
        # To unit scale as a whole: the first component, which says most, stays the longest.
        longest = lengths.max(initial=_TINY)
        self._axes = axes[:_COMPONENTS].T * (np.sqrt(len(rows)) / longest)

    def __call__(self, rows: Sequence[Sequence[float]]) -> Array:
        """Shape [rows, components]; the middle of the known ones where a row has another width."""
        return np.nan_to_num(self._scaled(_table(rows, self.width))) @ self._axes

    def _scaled(self, table: Array) -> Array:
        return np.clip((table - self._centre) / self._spread, -_FARTHEST, _FARTHEST)


def _common_width(rows: Sequence[Sequence[float]]) -> int:
    """0 where rows differ: what only some have cannot be compared."""
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0


def _table(rows: Sequence[Sequence[float]], width: int) -> Array:
    """Shape [rows, width]; NaN for rows of another width."""
    filled = [row if len(row) == width else [np.nan] * width for row in rows]
    return np.array(filled, dtype=np.float64).reshape(len(rows), width)


def _read(run: SweepRun, time: float) -> Reading:
    return run.at(time) or Reading(time)


def _known(reading: Reading) -> tuple[float, ...]:
    return () if reading.known is None else (reading.known,)
