"""What is low and what is good, among the runs of a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.errors import ReportError
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun

SHARE = 0.5
"""The share of the best accuracy from which on a run is good, where no record tells another bar."""


@dataclass(frozen=True)
class Bar:
    """What a run must reach to be good.

    Attributes:
        low_threshold: an accuracy.
        low_share: instead of it, a share of the best accuracy among the runs of as many classes.
        origin: where it is from, in words.
        best: for each number of classes the best accuracy of all runs.
    """

    low_threshold: float | None
    low_share: float | None
    origin: str
    best: dict[int, float]

    def of(self, classes: int) -> float:
        """The accuracy from which on a run is good."""
        if self.low_share is None:
            return float(self.low_threshold or 0)
        guess = 1 / classes
        return guess + self.low_share * max(0.0, self.best.get(classes, guess) - guess)

    def good(self, run: RecordedRun) -> bool | None:
        """Whether a run has ended good; None where that is not known.

        A run that did not come to its end is known to be good if it was so when it ended.
        """
        if run.best is None:
            return None
        reached = run.best >= self.of(run.classes)
        return reached if run.finished or reached else None

    def __str__(self) -> str:
        """In words, after "low is "."""
        if self.low_share is not None:
            return f"below {100 * self.low_share:g} % of the way from guessing to the best run"
        return f"below {100 * float(self.low_threshold or 0):g} % accuracy"


def bar_of(runs: Sequence[RecordedRun], low_threshold: float | None, low_share: float | None) -> Bar:
    """The bar that was given, else the one most records name, else a share of the best.

    Raises:
        ReportError: both are given, or one is not within (0, 1).
    """
    given = {"low_threshold": low_threshold, "low_share": low_share}
    for name, value in given.items():
        if value is not None and not 0 < value < 1:
            raise ReportError(f"{name}={value} is not a fraction in (0, 1), such as 0.4")
    if None not in given.values():
        raise ReportError(f"low_threshold={low_threshold} and low_share={low_share}: give one of them")
    best: dict[int, float] = {}
    for run in runs:
        best[run.classes] = max(best.get(run.classes, 0.0), run.best or 0.0)
    if low_threshold is not None or low_share is not None:
        return Bar(low_threshold, low_share, "as was asked for", best)
    named = Counter(
        json.dumps([run.policy.get("low_threshold"), run.policy.get("low_share")])
        for run in runs
        if run.policy
    )
    if not named:
        return Bar(None, SHARE, "as no record tells the predictor's", best)
    ((most, count),) = named.most_common(1)
    origin = "the predictor's" if len(named) == 1 else f"that of the predictor of {count} runs"
    threshold, share = json.loads(most)
    return Bar(threshold, share, origin, best)
