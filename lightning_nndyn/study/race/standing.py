"""Who goes on after a lap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import rankdata


class Rung(NamedTuple):
    """Where a lap ends.

    Attributes:
        epochs: after so many.
        keep: share of all candidates that goes on, at least one.
    """

    epochs: float
    keep: float


@dataclass(frozen=True)
class Lap:
    """What became of one candidate in one lap.

    Attributes:
        candidate: its place among all, from 0.
        number: of the lap, from 0; the one after the last rung is to the run's end.
        predicted: final accuracy (of a predictor over several data sets: as a share of the best), a fraction;
            None where nothing could be said.
        seen: best validation accuracy so far, a fraction; None before there was one.
        value: what training returned, of the last lap.
        out: why the candidate cannot go on: it has failed or diverged; empty if it can.
        strange: why the predictor does not know such a run; empty if it does.
        seconds: that the lap took.
    """

    candidate: int
    number: int
    predicted: float | None = None
    seen: float | None = None
    value: float | None = None
    out: str = ""
    strange: str = ""
    seconds: float = 0.0


def wanted(count: int, keep: float) -> int:
    """How many of all candidates a rung lets go on."""
    return max(1, round(keep * count))


def order(laps: Sequence[Lap], epochs: float) -> list[Lap]:
    """The laps of one rung, best first; of equal ones in the order of the candidates.

    Within the first epoch by the predicted accuracy: the accuracy that is seen in it depends on little but
    the learning rate. From then on by the mean of two ranks, of the predicted and of the seen accuracy. What
    nothing is predicted of comes first, what is out comes last.
    """
    scores = _ranks([lap.predicted for lap in laps], math.inf)
    if epochs >= 1:
        seen = _ranks([lap.seen for lap in laps], -math.inf)
        scores = [one + other for one, other in zip(scores, seen, strict=True)]
    places = sorted(range(len(laps)), key=lambda at: (bool(laps[at].out), -scores[at], laps[at].candidate))
    return [laps[at] for at in places]


def _ranks(values: Sequence[float | None], unknown: float) -> list[float]:
    """Ties share their mean rank; larger is better."""
    return [float(rank) for rank in rankdata([unknown if value is None else value for value in values])]
