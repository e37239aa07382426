"""Numbers in words, the same all over the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lightning_nndyn.evaluation.report.low_runs import ReportRule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun

GOOD, LOW, UNKNOWN = "good", "low", "unknown"
"""How a run has ended, in the page's data and colours."""

OUTCOMES = {GOOD: "good", LOW: "low", UNKNOWN: "not known"}


def counted(count: int, noun: str) -> str:
    """How many of something: "1 run", "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 1) -> str:
    """A fraction: "97.8 %"."""
    return f"{100 * share:.{digits}f} %"


def number(value: float) -> str:
    """At most two digits after the point: "12.25", "12"."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def epochs(time: float) -> str:
    """A time: "0.0625", "3"."""
    return f"{time:.4f}".rstrip("0").rstrip(".")


def outcome(run: RecordedRun, rule: ReportRule) -> str:
    """How a run has ended."""
    return {True: GOOD, False: LOW, None: UNKNOWN}[rule.good(run)]


def outcomes_of(runs: Sequence[RecordedRun], rule: ReportRule) -> Counter[str]:
    """How many runs have ended how."""
    return Counter(outcome(run, rule) for run in runs)


def table_filters(run: RecordedRun, rule: ReportRule) -> str:
    """The choices of the table's filter that show a run, joined by spaces."""
    ended, stop = outcome(run, rule), run.decision.stop
    shown = {"decided": stop, "mistakes": stop and ended == GOOD, "unknown": ended == UNKNOWN}
    return " ".join(name for name, member in shown.items() if member)


def why(run: RecordedRun) -> str:
    """The reason of a run's decision, and why it was not carried out."""
    reason = run.decision.reason if run.verdicts or run.decision.stop else "there was no verdict"
    return f"{reason}. Not stopped: {run.exempt}" if run.exempt else reason


def decided(run: RecordedRun) -> str:
    """What was decided of a run, and why."""
    if run.decision.stop:
        return f"{fate(run)}: {run.decision.reason}"
    return run.decision.reason if run.verdicts else fate(run)


def fate(run: RecordedRun) -> str:
    """What was decided of a run."""
    if run.stopped and run.decision.stop:
        return "stopped"
    if not run.verdicts and not run.decision.stop:
        return "no verdict"
    if not run.decision.stop:
        return "goes on"
    return "would stop, but exempt" if run.exempt else "would stop"
