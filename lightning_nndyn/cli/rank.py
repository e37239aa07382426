"""``nndyn rank``: recorded runs, the most promising first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lightning_nndyn.cli.console import new_console

if TYPE_CHECKING:
    from lightning_nndyn.evaluation.rank_recorded_runs import RankedRun


def rank(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that runs were logged under, or records (nndyn-*.json).")
    ],
    metric: Annotated[
        str | None, typer.Option(help="A logged metric; what most runs monitor unless given.")
    ] = None,
    mode: Annotated[
        Literal["max", "min"] | None, typer.Option(help="Whether the metric is to grow or to fall.")
    ] = None,
) -> None:
    """Rank recorded runs of one sweep among each other, by how they are expected to end.

    Weights, losses, the metric so far and the learning rate are compared with those of the other runs at the
    same time, whatever the network and the data. Three runs are needed.

    Example: `nndyn rank lightning_logs`
    """
    from rich.table import Table
    from rich.text import Text

    from lightning_nndyn.evaluation.rank_recorded_runs import rank_runs
    from lightning_nndyn.evaluation.report.recorded_run import differing_in_words

    ranking = rank_runs(runs, metric, mode)
    for reason in ranking.left_out.values():
        typer.echo(f"left out: {reason}", err=True)
    console = new_console()
    by = "" if ranking.metric is None else f" by {ranking.metric}"
    table = Table(title=f"{len(ranking.runs)} runs{by}", title_justify="left")
    if not console.is_terminal:
        table.box = None
    texts = ("run", "hyperparameters", "status")
    for column in ("rank", "run", "hyperparameters", "epochs", "best so far", "status"):
        table.add_column(column, justify="left" if column in texts else "right", overflow="fold")
    params, names = differing_in_words([one.run.params for one in ranking.runs]), _names(ranking.runs)
    for place, (one, name, text) in enumerate(zip(ranking.runs, names, params, strict=True), start=1):
        best = "-" if one.best is None else f"{one.best:.4g}"
        table.add_row(str(place), Text(name), Text(text), f"{one.time:g}", best, one.status)
    console.print(table)


def _names(runs: Sequence[RankedRun]) -> list[str]:
    """Their folders, where these tell them apart; else their files."""
    folders = [one.file.parent for one in runs]
    found = folders if len(set(folders)) == len(folders) else [one.file for one in runs]
    common = os.path.commonpath(folders)
    return [os.path.relpath(path, common) for path in found]
