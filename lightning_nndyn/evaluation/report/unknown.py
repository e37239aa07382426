"""What is not known about the runs, in sentences: a report must not look surer than it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lightning_nndyn.callback.record_file import INTERRUPTED, RUNNING
from lightning_nndyn.evaluation.report.bar import SHARE, Bar
from lightning_nndyn.evaluation.report.formatting import counted
from lightning_nndyn.evaluation.report.records import Collection
from lightning_nndyn.evaluation.report.run import Run

_NAMED = 3  # runs in a sentence


def unknowns(found: Collection, bar: Bar) -> list[str]:
    """One sentence for each thing that is not known."""
    runs = found.runs
    return [*_of_files(found), *_of_outcomes(runs), *_of_accuracies(found), *_of_judges(runs, bar)]


def _of_files(found: Collection) -> Iterator[str]:
    if found.unreadable:
        yield f"{counted(len(found.unreadable), 'record')} cannot be read, as listed at the page's end."
    if found.doubles:
        yield (
            f"{counted(found.doubles, 'record')} of runs that were resumed are left out: of each run the "
            "longest record counts."
        )


def _of_outcomes(runs: Sequence[Run]) -> Iterator[str]:
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


def _of_accuracies(found: Collection) -> Iterator[str]:
    why = Counter(run.no_accuracy for run in found.runs if run.no_accuracy)
    for reason, count in why.most_common(_NAMED):
        yield f"{counted(count, 'run')} without validation accuracy: {reason}.{_way_out(found)}"
    monitors = Counter(run.monitor for run in found.runs if run.monitor)
    if len(monitors) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in monitors.most_common())
        yield f"The runs have different monitors: {listed}. This page reads {found.metric} of all of them."


def _way_out(found: Collection) -> str:
    names = sorted({name for run in found.runs for name in run.logged} - {found.metric})
    return f" --metric names another of those that were logged: {', '.join(names)}." if names else ""


def _of_judges(runs: Sequence[Run], bar: Bar) -> Iterator[str]:
    silent = sum(not run.verdicts for run in runs)
    if silent:
        yield f"{counted(silent, 'run')} had no verdict: no predictor, or an end before its first time."
    strangers = sum(bool(run.verdicts) and not run.verdicts[-1].in_domain for run in runs)
    if strangers:
        yield (
            f"{counted(strangers, 'run')} whose last verdict is that of a stranger to the predictor: nothing "
            "is stopped for it, and the prediction is not to be trusted."
        )
    predictors = Counter(run.predictor for run in runs if run.predictor)
    if len(predictors) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in predictors.most_common())
        yield f"More than one predictor judged these runs: {listed}."
    if bar.low_share == SHARE and not any(run.policy for run in runs):
        yield (
            f"No record tells what is low: it is taken to be {bar}. --low-threshold or --low-share says it."
        )
