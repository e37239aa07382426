"""A cohort: the runs of a sweep that were read at the same time, each number by its rank among them.

A loss or a movement of the weights means something else in each network and on each data set. Its rank among
runs of the same sweep means the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lightning_nndyn.signature.relative import movement_names
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep.run import SweepReading, SweepRun

WEIGHT_INPUTS = (
    "distance:mean:size:start",
    "distance:min:size:start",
    "distance:max:size:start",
    "distance:shallowest:size:start",
    "distance:deepest:size:start",
    "frobenius:mean:signed:start",
    "frobenius:deepest:signed:start",
    "degree_mean:mean:signed:start",
    "degree_mean:deepest:signed:start",
    "degree_variation:mean:signed:start",
    "degree_variation:deepest:signed:start",
    "degree_skewness:signed:start",
    "eigenvector_mass:std:size:start",
    "eigenvector_mass:deepest:signed:start",
    "eigenvector_std:signed:start",
    "eigenvalue:signed:start",
)
"""The movement's numbers that are compared, of `movement_names`: many more say nearly the same."""

CURVE_INPUTS = ("loss:mean", "loss:lately", "metric:last", "metric:best", "metric:change")
"""The numbers of a reading's curve."""

RATE_INPUTS = ("learning_rate", "learning_rate:same_optimizer")
"""The learning rate's rank among all runs, and among those with the same optimizer."""

CONTEXT_INPUTS = ("time", "runs", "has_weights", "has_metric")
"""What is the same for all runs of a cohort."""

INPUTS = WEIGHT_INPUTS + CURVE_INPUTS + RATE_INPUTS + CONTEXT_INPUTS
"""The columns of `cohort_table`."""

_SINCE_START = [name for name in movement_names() if name.endswith(":start")]
_WEIGHT_COLUMNS = [_SINCE_START.index(name) for name in WEIGHT_INPUTS]
_LATEST_WEIGHTS = 4.0  # epochs: of later weights no recorded sweep tells
_CURVE_COLUMNS = {2: slice(2), 3: slice(2, 5), 5: slice(5)}  # losses alone, a metric alone, both
_RATES, _OPTIMIZERS = ("lr", "learning_rate"), ("optimizer", "optim", "opt")  # names of hyperparameters
_TIMES, _RUNS = 8.0, 4.0  # scales of the logarithms of time and number of runs


def cohort_table(runs: Sequence[SweepRun], time: float) -> Array:
    """The inputs of a ranking model: normal scores among the runs, 0 for what is not known of all.

    Args:
        runs: those of a sweep that were read at the time.
        time: of the readings.

    Returns:
        Shape [runs, len(INPUTS)].
    """
    readings = [run.at(time) or SweepReading(time) for run in runs]
    compared = time <= _LATEST_WEIGHTS
    weights = _filled([r.weights if compared else () for r in readings], {len(_SINCE_START): slice(None)})
    curve = _filled([reading.curve for reading in readings], _CURVE_COLUMNS)
    has_metric = np.isfinite(curve[:, 2:]).any()
    context = [np.log2(time) / _TIMES, np.log(len(runs)) / _RUNS, np.isfinite(weights).any(), has_metric]
    return np.column_stack(
        [
            known_scores(weights[:, _WEIGHT_COLUMNS]),
            known_scores(curve),
            _rate_scores([run.params for run in runs]),
            np.tile(np.array(context, dtype=np.float64), (len(runs), 1)),
        ]
    )


def has_diverged(runs: Sequence[SweepRun], time: float) -> NDArray[np.bool_]:
    """Which runs have readings without any number, where others have some; shape [runs]."""
    empty = [not (reading and (reading.weights or reading.curve)) for reading in (r.at(time) for r in runs)]
    return np.array(empty) & (not all(empty))


def normal_scores(table: Array) -> Array:
    """Each column's ranks as quantiles of the normal distribution; equal values have the mean of their ranks.

    Args:
        table: finite numbers, shape [n, columns].

    Returns:
        The shape of `table`.
    """
    return np.asarray(ndtri((ranks(table) + 0.5) / len(table)))


def ranks(table: Array) -> Array:
    """Ranks from 0 in each column, shape of `table`; equal values have their mean rank."""
    order = np.argsort(table, axis=0, kind="stable")
    ordered = np.take_along_axis(table, order, axis=0)
    positions = np.arange(len(table))[:, None]
    differs = ordered[1:] != ordered[:-1]
    edge = np.ones((1, table.shape[1]), dtype=bool)
    first = np.maximum.accumulate(np.where(np.vstack([edge, differs]), positions, 0), axis=0)
    last_from_end = np.where(np.vstack([differs, edge]), positions, len(table))[::-1]
    last = np.minimum.accumulate(last_from_end, axis=0)[::-1]
    found = np.empty(table.shape)
    np.put_along_axis(found, order, (first + last) / 2, axis=0)
    return found


def known_scores(table: Array) -> Array:
    """`normal_scores` of the columns' known numbers; 0, their median, for NaN."""
    scores = np.zeros(table.shape)
    known = np.isfinite(table)
    whole = known.all(axis=0)
    scores[:, whole] = normal_scores(table[:, whole])
    for column in np.flatnonzero(~whole):
        rows = known[:, column]
        if rows.any():
            scores[rows, column] = normal_scores(table[rows, column, None])[:, 0]
    return scores


def _filled(rows: Sequence[Sequence[float]], columns: Mapping[int, slice]) -> Array:
    """A table of rows of different lengths.

    Args:
        rows: numbers of each run.
        columns: for each length that counts, the columns that such a row fills.

    Returns:
        Shape [rows, columns]; NaN where nothing is known.
    """
    table = np.full((len(rows), max(columns)), np.nan)
    for index, row in enumerate(rows):
        if len(row) in columns:
            table[index, columns[len(row)]] = row
    return np.where(np.isfinite(table), table, np.nan)


def _rate_scores(params: Sequence[Mapping[str, Any]]) -> Array:
    """The columns `RATE_INPUTS`, shape [runs, 2]."""
    rates = np.array([_number(_named(run, _RATES)) for run in params])
    scores = np.zeros((len(params), 2))
    scores[:, 0] = known_scores(rates[:, None])[:, 0]
    optimizers = np.array([str(_named(run, _OPTIMIZERS)) for run in params])
    for optimizer in np.unique(optimizers):
        same = optimizers == optimizer
        scores[same, 1] = known_scores(rates[same, None])[:, 0]
    return scores


def _named(params: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first hyperparameter that has one of the names, whatever group it belongs to; None without one."""
    for name in sorted(params):
        if name.replace(".", "/").rpartition("/")[2].lower() in names:
            return params[name]
    return None


def _number(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) < 1e300 else np.nan
