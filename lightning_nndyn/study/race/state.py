"""How far a race is, and how its candidates stand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.study.race.standing import Lap, Rung, order, wanted


@dataclass(frozen=True)
class Race:
    """A race so far.

    Attributes:
        candidates: their hyperparameters.
        rungs: where laps end.
        laps: finished ones, by lap number and candidate.
    """

    candidates: Sequence[Mapping[str, Any]]
    rungs: Sequence[Rung]
    laps: Mapping[tuple[int, int], Lap] = field(default_factory=dict)

    def running(self, number: int) -> list[int]:
        """The candidates of a lap; empty as long as the lap before is not over.

        Args:
            number: of the lap, from 0.
        """
        if number == 0:
            return list(range(len(self.candidates)))
        finished = self.standing(number - 1)
        going = [lap.candidate for lap in finished[: self.kept(number - 1)] if not lap.out]
        return sorted(going)

    def standing(self, number: int) -> list[Lap]:
        """A lap that is over, best first; empty as long as it is not.

        Args:
            number: of the lap, from 0; the one after the last rung is to the run's end.
        """
        laps = [self.laps.get((number, candidate)) for candidate in self.running(number)]
        known = [lap for lap in laps if lap is not None]
        if len(known) < len(laps):
            return []
        if number < len(self.rungs):
            return order(known, self.rungs[number].epochs)
        return sorted(known, key=lambda lap: (bool(lap.out), -_value(lap), lap.candidate))

    def kept(self, number: int) -> int:
        """How many of all candidates a rung lets go on."""
        return wanted(len(self.candidates), self.rungs[number].keep)

    @property
    def best(self) -> int | None:
        """The candidate with the best value at its end; None as long as none has been trained to its end."""
        finished = [
            lap for (number, _), lap in self.laps.items() if number == len(self.rungs) and not lap.out
        ]
        return max(finished, key=lambda lap: (_value(lap), -lap.candidate)).candidate if finished else None

    @property
    def params(self) -> Mapping[str, Any] | None:
        """Hyperparameters of the best."""
        return None if self.best is None else self.candidates[self.best]

    @property
    def value(self) -> float | None:
        """What training the best returned."""
        return None if self.best is None else self.laps[len(self.rungs), self.best].value

    def reason(self, candidate: int) -> str:
        """How far a candidate has come, and why not farther, in one sentence."""
        last = max((number for number, one in self.laps if one == candidate), default=None)
        if last is None:
            return "not begun"
        lap = self.laps[last, candidate]
        if lap.out:
            return lap.out
        if last == len(self.rungs):
            return "trained to its end"
        when = f"after {epochs_in_words(self.rungs[last].epochs)}"
        standing = self.standing(last)
        if not standing:
            return f"waits for the others {when}"
        place = next(at for at, one in enumerate(standing, start=1) if one.candidate == candidate)
        return f"{_ordinal(place)} of {len(standing)} {when}{_by(lap)}; {len(self.running(last + 1))} went on"


def _value(lap: Lap) -> float:
    return -math.inf if lap.value is None or math.isnan(lap.value) else lap.value


def _by(lap: Lap) -> str:
    said = [] if lap.predicted is None else [f"predicted {lap.predicted:.3f}"]
    said += [] if lap.seen is None else [f"seen {lap.seen:.3f}"]
    return f", {' and '.join(said)}" if said else ""


def _ordinal(place: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th") if place % 100 not in (11, 12, 13) else "th"
    return f"{place}{ending}"
