"""The state of a race: its rungs, the ranking at each of them, and who goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from scipy.stats import rankdata

from lightning_nndyn.predictor.policy import epochs_in_words
from lightning_nndyn.study.race_journal import RungResult
from lightning_nndyn.sweep import SweepRun, rank


class Rung(NamedTuple):
    """A time at which candidates are ranked.

    Attributes:
        epochs: of training.
        keep: share of all candidates that goes on; one candidate at least.
    """

    epochs: float
    keep: float


RUNGS = (Rung(1 / 16, 0.5), Rung(1 / 4, 0.25), Rung(1.0, 0.06))
"""Half of all go on after a sixteenth of the first epoch, a quarter after a quarter of it, 6 % after it."""


@dataclass(frozen=True)
class RaceResult:
    """The state of a race, also while it is running.

    Attributes:
        candidates: their hyperparameters.
        rungs: at which they are ranked.
        results: by rung and candidate; the rung after the last one stands for training to the end.
    """

    candidates: Sequence[Mapping[str, Any]]
    rungs: Sequence[Rung]
    results: Mapping[tuple[int, int], RungResult] = field(default_factory=dict)
    _rankings: dict[int, list[RungResult]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def laps(self) -> Mapping[tuple[int, int], RungResult]:
        """The name of `results` in earlier releases."""
        return self.results

    def running(self, rung: int) -> list[int]:
        """The candidates that are trained to a rung; empty as long as the rung before is not complete.

        After the first rung these are the best of the rung before. For one that has failed since, the next
        one goes on. To the end go also those of which more was measured at their rungs than of any that has
        come to its end.
        """
        if rung == 0:
            return list(range(len(self.candidates)))
        promoted: list[int] = []
        for result in self.ranking(rung - 1):
            failures = [one for one in promoted if self._has_failed(rung, one)]
            if result.failure or len(promoted) - len(failures) == self.keep_count(rung - 1):
                break
            promoted.append(result.candidate)
        if rung == len(self.rungs):
            promoted += self._underrated(promoted)
        return sorted(promoted)

    def _has_failed(self, rung: int, candidate: int) -> bool:
        result = self.results.get((rung, candidate))
        return result is not None and bool(result.failure)

    def _underrated(self, finalists: Sequence[int]) -> list[int]:
        """Paused candidates that were better at their rungs than all that have come to their end."""
        end = len(self.rungs)
        found = [one for rung, one in self.results if rung == end and one not in finalists]
        while all((end, candidate) in self.results for candidate in [*finalists, *found]):
            known = [self.results[end, candidate] for candidate in [*finalists, *found]]
            best = [one.best_accuracy for one in known if not one.failure and one.best_accuracy is not None]
            others = [one for one in range(len(self.candidates)) if one not in (*finalists, *found)]
            paused = [self.last(one) for one in others]
            better = [one for one in paused if one and best and _measured(one) > max(best)]
            if not better:
                break
            found.append(max(better, key=_measured).candidate)
        return found

    def ranking(self, rung: int) -> list[RungResult]:
        """The results of a rung, best first; empty as long as it is not complete.

        Where readings are kept, `lightning_nndyn.sweep.rank` compares the candidates with each other. Else
        the predicted accuracy ranks within the first epoch: the accuracy that is measured there depends on
        little but the learning rate. From then on the mean of two ranks does, of the predicted and of the
        best measured accuracy; after the last rung the final value. Candidates without a prediction come
        first, failed ones last, equal ones in their given order.
        """
        if rung not in self._rankings:
            if not (found := self._ranked(rung)):
                return []
            self._rankings[rung] = found  # does not change any more
        return list(self._rankings[rung])

    def _ranked(self, rung: int) -> list[RungResult]:
        known = [self.results.get((rung, candidate)) for candidate in self.running(rung)]
        results = [result for result in known if result is not None]
        if len(results) < len(known):
            return []
        if rung == len(self.rungs):
            scores = [_final_value(result) for result in results]
        elif any(result.readings for result in results):
            scores = rank([SweepRun(self.candidates[one.candidate], one.readings) for one in results])
        else:
            scores = _ranks([result.predicted for result in results], math.inf)
            if self.rungs[rung].epochs >= 1:
                measured = _ranks([result.best_accuracy for result in results], -math.inf)
                scores = [one + other for one, other in zip(scores, measured, strict=True)]

        def key(index: int) -> tuple[bool, float, int]:
            return bool(results[index].failure), -scores[index], results[index].candidate

        return [results[index] for index in sorted(range(len(results)), key=key)]

    def keep_count(self, rung: int) -> int:
        """How many of all candidates go on after a rung."""
        return max(1, round(self.rungs[rung].keep * len(self.candidates)))

    @property
    def best(self) -> int | None:
        """The candidate with the best final value; None before one has been trained to its end."""
        end = len(self.rungs)
        finished = [found for (rung, _), found in self.results.items() if rung == end and not found.failure]
        if not finished:
            return None
        return min(finished, key=lambda result: (-_final_value(result), result.candidate)).candidate

    @property
    def params(self) -> Mapping[str, Any] | None:
        """Hyperparameters of the best candidate."""
        return None if self.best is None else self.candidates[self.best]

    @property
    def value(self) -> float | None:
        """What training the best candidate returned."""
        return None if self.best is None else self.results[len(self.rungs), self.best].value

    def last(self, candidate: int) -> RungResult | None:
        """A candidate's result at the last rung that it has reached; None before the first."""
        reached = [result for (_, other), result in self.results.items() if other == candidate]
        return max(reached, key=lambda result: result.rung, default=None)

    def reason(self, candidate: int) -> str:
        """How far a candidate has come, and why not farther, in one sentence."""
        last = self.last(candidate)
        if last is None:
            return "not begun"
        if last.failure:
            return last.failure
        if last.rung == len(self.rungs):
            return "trained to its end"
        when = f"after {epochs_in_words(self.rungs[last.rung].epochs)}"
        ranking = [result.candidate for result in self.ranking(last.rung)]
        if not ranking:
            return f"waits for the others {when}"
        rank = _ordinal(ranking.index(candidate) + 1)
        num_kept = len(self.running(last.rung + 1))
        return f"{rank} of {len(ranking)} {when}{_accuracies(last)}; {num_kept} went on"


Race = RaceResult


def _final_value(result: RungResult) -> float:
    return -math.inf if result.value is None or math.isnan(result.value) else result.value


def _measured(result: RungResult) -> float:
    accuracy = result.best_accuracy
    return -math.inf if result.failure or accuracy is None else accuracy


def _ranks(values: Sequence[float | None], missing: float) -> list[float]:
    """Ties share their mean rank; larger is better."""
    return [float(rank) for rank in rankdata([missing if value is None else value for value in values])]


def _accuracies(result: RungResult) -> str:
    parts = [] if result.predicted is None else [f"predicted {result.predicted:.3f}"]
    parts += [] if result.best_accuracy is None else [f"seen {result.best_accuracy:.3f}"]
    return f", {' and '.join(parts)}" if parts else ""


def _ordinal(rank: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th") if rank % 100 not in (11, 12, 13) else "th"
    return f"{rank}{ending}"
