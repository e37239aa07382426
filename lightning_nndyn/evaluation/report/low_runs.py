"""Which recorded runs are low and which are good (Table 2 of the paper)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.errors import PredictorError, ReportError
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun
from lightning_nndyn.predictor.low_accuracy import LowAccuracyRule

DEFAULT = LowAccuracyRule(share=0.5)
"""The rule where neither an argument nor a record names one."""


@dataclass(frozen=True)
class ReportRule:
    """The low-accuracy rule, and the best accuracies that it is relative to.

    Attributes:
        rule: the rule.
        origin: who set it, in words.
        best: the best accuracy of all runs, by number of classes.
    """

    rule: LowAccuracyRule
    origin: str
    best: dict[int, float]

    def lowest_good_accuracy(self, classes: int) -> float:
        """The accuracy at and above which a run is good."""
        guess = 1 / classes
        return self.rule.lowest_good_accuracy(self.best.get(classes, guess), guess)

    def good(self, run: RecordedRun) -> bool | None:
        """Whether a run has ended good; None if that is not known.

        A run that was stopped is known to be good if it was good when it was stopped.
        """
        if run.best is None:
            return None
        reached = run.best >= self.lowest_good_accuracy(run.classes)
        return reached if run.finished or reached else None

    def __str__(self) -> str:
        """In words, after "low is "."""
        if self.rule.share is not None:
            return f"below {100 * self.rule.share:g} % of the way from guessing to the best run"
        return f"below {100 * float(self.rule.threshold or 0):g} % accuracy"


def report_rule(
    runs: Sequence[RecordedRun], low_threshold: float | None, low_share: float | None
) -> ReportRule:
    """The rule that was given, else the one that most records name, else `DEFAULT`.

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
        return ReportRule(LowAccuracyRule(low_threshold, low_share), "as was asked for", best)
    named = Counter(rule for run in runs if (rule := _recorded_rule(run)) is not None)
    if not named:
        return ReportRule(DEFAULT, "as no record tells the predictor's", best)
    ((most, count),) = named.most_common(1)
    origin = "the predictor's" if len(named) == 1 else f"that of the predictor of {count} runs"
    return ReportRule(most, origin, best)


def _recorded_rule(run: RecordedRun) -> LowAccuracyRule | None:
    """The rule of the predictor that judged a run; None if its record names none, or one that is no rule."""
    try:
        return LowAccuracyRule(run.policy.get("low_threshold"), run.policy.get("low_share"))
    except (PredictorError, TypeError):
        return None
