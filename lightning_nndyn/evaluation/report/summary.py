"""The runs in numbers: what was trained, saved and lost, and how good predictions were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from lightning_nndyn.callback.audit import (
    AuditedRun,
    FalseStopEstimate,
    estimate_false_stop_rate,
    read_audited_runs,
)
from lightning_nndyn.evaluation.report.low_runs import ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun
from lightning_nndyn.evaluation.report.records import RecordedRuns


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
    varied = len(pairs) >= 3 and min(np.ptp(predicted), np.ptp(true)) > 0
    rank = float(spearmanr(predicted, true).statistic) if varied else None
    return TimeErrors(time, len(pairs), float(np.abs(predicted - true).mean()), rank)
