"""Recorded runs as a table for a terminal: ``nndyn report --text``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from lightning_nndyn.callback.record_file import FINISHED
from lightning_nndyn.evaluation.report.formatting import counted, epochs, why
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun
from lightning_nndyn.evaluation.report.records import RecordedRuns
from lightning_nndyn.study.live_table import runs_table

_STYLES = {"stopped": "yellow", FINISHED: "green"}


def text_table(found: RecordedRuns) -> Group:
    """A row for each run, the best first: epochs, the best value, what became of it, and why."""
    runs = sorted(found.runs, key=_rank)
    names = _without_common_folder([run.label for run in runs])
    columns = ["run", "hyperparameters", "epochs", f"best {found.metric}".strip(), "state", "why"]
    rows = [[Text(name), *_cells(run)] for name, run in zip(names, runs, strict=True)]
    if not any(run.differs for run in runs):
        columns, rows = [columns[0], *columns[2:]], [[row[0], *row[2:]] for row in rows]
    return runs_table(columns, rows, _totals(runs))


def _rank(run: RecordedRun) -> tuple[bool, float]:
    best = run.best_value
    return best is None, 0.0 if best is None else best if run.mode == "min" else -best


def _without_common_folder(labels: Sequence[str]) -> list[str]:
    """The labels without the folders that all of them begin with."""
    if any(map(os.path.isabs, labels)):  # of several drives
        return [*labels]
    common = os.path.commonpath([os.path.dirname(label) for label in labels])
    return [os.path.relpath(label, common) if common else label for label in labels]


def _cells(run: RecordedRun) -> list[Text]:
    planned = "" if run.planned is None else f" of {epochs(run.planned)}"
    state = "would stop" if run.flagged_to_stop else run.status
    return [
        Text(run.differs),
        Text(f"{epochs(run.epochs)}{planned}"),
        Text("" if run.best_value is None else f"{run.best_value:.4g}"),
        Text(state, style=_STYLES.get(state, "")),
        Text(why(run)),
    ]


def _totals(runs: Sequence[RecordedRun]) -> str:
    stopped, flagged = (
        sum(flags) for flags in zip(*((r.stopped, r.flagged_to_stop) for r in runs), strict=True)
    )
    parts = [f"{counted(len(runs), 'run')}: {stopped} stopped"]
    if flagged:
        parts[0] += f", {flagged} would have been"
    known = [run for run in runs if run.planned is not None]
    if known:
        trained, planned = sum(run.epochs for run in known), sum(run.planned or 0.0 for run in known)
        parts.append(f"{epochs(trained)} of {epochs(planned)} planned epochs trained")
    return "; ".join(parts)
