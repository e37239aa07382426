"""How good the predictions were at each time, over the runs whose end is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.evaluation.report.run import Run


@dataclass(frozen=True)
class Forecast:
    """Predictions at one time.

    Attributes:
        time: in epochs.
        runs: that had a verdict then, and whose end is known.
        error: their mean absolute error, a fraction.
        rank: Spearman's correlation of predicted and final accuracy; None with fewer than three runs, or
            where all are alike.
    """

    time: float
    runs: int
    error: float
    rank: float | None


def forecasts(runs: Sequence[Run]) -> list[Forecast]:
    """For each time at which some run with a known end had a verdict."""
    said: dict[float, list[tuple[float, float]]] = {}
    for run in runs:
        if run.finished and run.best is not None:
            for verdict in run.verdicts:
                said.setdefault(verdict.epoch, []).append((verdict.predicted_accuracy, run.best))
    return [_forecast(time, np.array(said[time])) for time in sorted(said)]


def _forecast(time: float, pairs: np.ndarray) -> Forecast:
    predicted, true = pairs.T
    return Forecast(time, len(pairs), float(np.abs(predicted - true).mean()), _rank(predicted, true))


def _rank(one: np.ndarray, other: np.ndarray) -> float | None:
    if len(one) < 3:
        return None
    places = [_places(values) for values in (one, other)]
    if min(place.std() for place in places) == 0:
        return None
    return float(np.corrcoef(np.stack(places))[0, 1])


def _places(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
