"""The runs in numbers: what was trained, saved and lost, how good predictions were, and what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.callback.audit import (
    AuditedRun,
    FalseStopEstimate,
    estimate_false_stop_rate,
    read_audited_runs,
)
from lightning_nndyn.callback.record_file import INTERRUPTED, RUNNING
from lightning_nndyn.evaluation.report.formatting import counted
from lightning_nndyn.evaluation.report.low_runs import DEFAULT, ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun
from lightning_nndyn.evaluation.report.records import RecordedRuns

_NAMED_REASONS = 3  # the commonest reasons that a sentence is written for


@dataclass(frozen=True)
class Audit:
    """The audit file's entries for these runs.

    Attributes:
        rate: false-stop rate estimated from them.
        ended: number of runs with an entry.
        flagged: number of these that were flagged to stop and trained on.
    """

    rate: FalseStopEstimate
    ended: int
    flagged: int


@dataclass(frozen=True)
class Summary:
    """Counts over all runs.

    Attributes:
        statuses: number of runs by status.
        epochs: epochs trained in all runs.
        saved: epochs saved in stopped runs that had a planned end.
        would_save: epochs that stopping would have saved in runs that trained on.
        no_plan: number of stopped runs without a planned end.
        known: number of runs with a known final accuracy.
        good: number of these that ended good.
        good_flagged: number of good runs that were flagged to stop.
        good_stopped: number of stopped runs that were good when they were stopped.
        low_flagged: number of low runs that were flagged to stop.
        audit: the audit file's entries; None if there are none.
    """

    statuses: Counter[str]
    epochs: float
    saved: float
    would_save: float
    no_plan: int
    known: int
    good: int
    good_flagged: int
    good_stopped: int
    low_flagged: int
    audit: Audit | None

    @property
    def runs(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


def summarise(found: RecordedRuns, rule: ReportRule) -> Summary:
    """Counts."""
    runs = found.runs
    known = [run for run in runs if run.finished]
    good = [run for run in known if rule.good(run)]
    stopped = [run for run in runs if run.stopped]
    return Summary(
        statuses=Counter(run.status for run in runs),
        epochs=sum(run.epochs for run in runs),
        saved=sum(run.saved or 0 for run in stopped),
        would_save=sum(run.saved or 0 for run in runs if run.flagged_to_stop),
        no_plan=sum(run.saved is None for run in stopped),
        known=len(known),
        good=len(good),
        good_flagged=sum(run.flagged_to_stop for run in good),
        good_stopped=sum(rule.good(run) is True for run in stopped),
        low_flagged=sum(run.flagged_to_stop for run in known) - sum(run.flagged_to_stop for run in good),
        audit=_audit(found, runs, rule),
    )


def _audit(found: RecordedRuns, runs: Sequence[RecordedRun], rule: ReportRule) -> Audit | None:
    names = {run.name for run in runs}
    ended: dict[str, AuditedRun] = {}
    for folder in found.folders:
        ended |= {one.run: one for one in read_audited_runs(folder) if one.run in names}
    if not ended:
        return None
    entries = list(ended.values())
    rate = estimate_false_stop_rate(entries, rule.rule.threshold, rule.rule.share)
    return Audit(rate, len(entries), sum(one.flagged_to_stop for one in entries))


@dataclass(frozen=True)
class TimeErrors:
    """How far predictions made at one time were from the truth.

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


def prediction_errors(runs: Sequence[RecordedRun]) -> list[TimeErrors]:
    """For each time at which some run with a known end had a verdict."""
    pairs_at: dict[float, list[tuple[float, float]]] = {}
    for run in runs:
        if run.finished and run.best is not None:
            for verdict in run.verdicts:
                pairs_at.setdefault(verdict.epoch, []).append((verdict.predicted_accuracy, run.best))
    return [_errors_at(time, np.array(pairs_at[time])) for time in sorted(pairs_at)]


def _errors_at(time: float, pairs: np.ndarray) -> TimeErrors:
    predicted, true = pairs.T
    return TimeErrors(time, len(pairs), float(np.abs(predicted - true).mean()), _spearman(predicted, true))


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    if len(one) < 3:
        return None
    ranks = [_ranks(values) for values in (one, other)]
    if min(values.std() for values in ranks) == 0:
        return None
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def unknowns(found: RecordedRuns, rule: ReportRule) -> list[str]:
    """One sentence for each thing that is not known."""
    runs = found.runs
    return [*_of_files(found), *_of_outcomes(runs), *_of_accuracies(found), *_of_verdicts(runs, rule)]


def _of_files(found: RecordedRuns) -> Iterator[str]:
    if found.unreadable:
        yield f"{counted(len(found.unreadable), 'record')} cannot be read, as listed at the page's end."
    if found.doubles:
        yield (
            f"{counted(found.doubles, 'record')} of runs that were resumed are left out: of each run the "
            "longest record counts."
        )


def _of_outcomes(runs: Sequence[RecordedRun]) -> Iterator[str]:
    stopped = [run for run in runs if run.stopped]
    if stopped:
        yield (
            f"How {counted(len(stopped), 'stopped run')} would have ended is not known: they count as "
            "neither good nor low, unless they were good already when they were stopped."
        )
    no_plan = sum(run.saved is None for run in stopped)
    if no_plan:
        yield (
            f"How long {counted(no_plan, 'stopped run')} would have been trained is not known (no "
            "max_epochs, or time counted in steps): what stopping them saved is not counted."
        )
    for status, why in (
        (INTERRUPTED, "interrupted"),
        (RUNNING, "still training, or killed"),
    ):
        some = sum(run.status == status for run in runs)
        if some:
            yield f"{counted(some, 'run')} of which the end is not known: {why}."


def _of_accuracies(found: RecordedRuns) -> Iterator[str]:
    why = Counter(run.no_accuracy for run in found.runs if run.no_accuracy)
    for reason, count in why.most_common(_NAMED_REASONS):
        yield f"{counted(count, 'run')} without validation accuracy: {reason}.{_way_out(found)}"
    monitors = Counter(run.monitor for run in found.runs if run.monitor)
    if len(monitors) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in monitors.most_common())
        yield f"The runs have different monitors: {listed}. This page reads {found.metric} of all of them."


def _way_out(found: RecordedRuns) -> str:
    names = sorted({name for run in found.runs for name in run.logged} - {found.metric})
    return f" --metric names another of those that were logged: {', '.join(names)}." if names else ""


def _of_verdicts(runs: Sequence[RecordedRun], rule: ReportRule) -> Iterator[str]:
    silent = sum(not run.verdicts for run in runs)
    if silent:
        yield f"{counted(silent, 'run')} had no verdict: no predictor, or an end before its first time."
    out_of_domain = sum(bool(run.verdicts) and not run.verdicts[-1].in_domain for run in runs)
    if out_of_domain:
        yield (
            f"{counted(out_of_domain, 'run')} whose last verdict is out of the predictor's domain: "
            "nothing is stopped for it, and the prediction is not to be trusted."
        )
    predictors = Counter(run.predictor for run in runs if run.predictor)
    if len(predictors) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in predictors.most_common())
        yield f"More than one predictor judged these runs: {listed}."
    if rule.rule == DEFAULT and not any(run.policy for run in runs):
        yield (
            f"No record tells what is low: it is taken to be {rule}. --low-threshold or --low-share says it."
        )
