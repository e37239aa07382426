"""The runs in numbers: what was trained, what was or would have been saved, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.callback.audit import (
    AuditedRun,
    FalseStopEstimate,
    estimate_false_stop_rate,
    read_audited_runs,
)
from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.run import Run


@dataclass(frozen=True)
class Audit:
    """What the audit's ledger says of these runs.

    Attributes:
        rate: the false-stop rate in the field.
        ended: how many of the runs it has an entry for.
        condemned: how many of these were to be stopped, and went on.
    """

    rate: FalseStopEstimate
    ended: int
    condemned: int


@dataclass(frozen=True)
class Summary:
    """Runs in numbers; epochs are those of the records.

    Attributes:
        statuses: how many runs ended how.
        epochs: trained in all.
        saved: by stopping runs, for those that had a planned end.
        would_save: what stopping would have saved in runs that went on.
        no_plan: stopped runs of which it is not known how long they were to be trained.
        known: runs whose final accuracy is known.
        good: those of them that ended good.
        good_condemned: those of these that were to be stopped.
        good_stopped: stopped runs that were good already when they were stopped.
        low_condemned: runs known to be low that were to be stopped.
        audit: what the audit's ledger says; None without one.
    """

    statuses: Counter[str]
    epochs: float
    saved: float
    would_save: float
    no_plan: int
    known: int
    good: int
    good_condemned: int
    good_stopped: int
    low_condemned: int
    audit: Audit | None

    @property
    def runs(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


def summarise(found: Collection, bar: Bar) -> Summary:
    """Counts."""
    runs = found.runs
    known = [run for run in runs if run.finished]
    good = [run for run in known if bar.good(run)]
    stopped = [run for run in runs if run.stopped]
    return Summary(
        statuses=Counter(run.status for run in runs),
        epochs=sum(run.epochs for run in runs),
        saved=sum(run.saved or 0 for run in stopped),
        would_save=sum(run.saved or 0 for run in runs if run.condemned),
        no_plan=sum(run.saved is None for run in stopped),
        known=len(known),
        good=len(good),
        good_condemned=sum(run.condemned for run in good),
        good_stopped=sum(bar.good(run) is True for run in stopped),
        low_condemned=sum(run.condemned for run in known) - sum(run.condemned for run in good),
        audit=_audit(found, runs, bar),
    )


def _audit(found: Collection, runs: Sequence[Run], bar: Bar) -> Audit | None:
    names = {run.name for run in runs}
    ended: dict[str, AuditedRun] = {}
    for folder in found.folders:
        ended |= {one.run: one for one in read_audited_runs(folder) if one.run in names}
    if not ended:
        return None
    entries = list(ended.values())
    rate = estimate_false_stop_rate(entries, bar.low_threshold, bar.low_share)
    return Audit(rate, len(entries), sum(one.flagged_to_stop for one in entries))
