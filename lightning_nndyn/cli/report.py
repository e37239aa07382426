"""``nndyn report``: an HTML page about recorded runs, or a table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lightning_nndyn.cli.console import new_console


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that runs were logged under, or records (nndyn-*.json).")
    ],
    output: Annotated[Path, typer.Option(help="The page to write; an older one is replaced.")] = Path(
        "report.html"
    ),
    metric: Annotated[
        str | None, typer.Option(help="The validation accuracy; the callback's monitor unless given.")
    ] = None,
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run is low; the predictor's unless given.")
    ] = None,
    low_share: Annotated[
        float | None, typer.Option(help="Instead, a share of the best accuracy of these runs.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Training runs",
    seed: Annotated[int, typer.Option(help="Of the orders in which other rules replay the runs.", min=0)] = 0,
    text: Annotated[bool, typer.Option("--text", help="Print a table here, and write no page.")] = False,
) -> None:
    """Make one HTML page about recorded runs: what was stopped, or would have been, when and why.

    The page is one file and loads nothing. Other rules (ASHA, Hyperband, the median rule) are compared with
    the callback if Optuna is installed.

    Example: `nndyn report lightning_logs --output report.html`, or `nndyn report lightning_logs --text`
    """
    if text:
        return _print_table(runs, metric)
    from lightning_nndyn.evaluation.report import write_report

    written = write_report(
        runs, output, metric=metric, low_threshold=low_threshold, low_share=low_share, title=title, seed=seed
    )
    for reason in written.unreadable:
        typer.echo(f"left out: {reason}", err=True)
    typer.echo(f"{written.file}: {written.summary.runs} runs, {written.size / 1e6:.2f} MB")
    if not written.all_used:
        raise typer.Exit(1)


def _print_table(runs: list[Path], metric: str | None) -> None:
    from lightning_nndyn.cli.report_table import text_table
    from lightning_nndyn.evaluation.report.records import load

    found = load(runs, metric)
    for reason in (*found.unreadable.values(), *found.missing):
        typer.echo(f"left out: {reason}", err=True)
    new_console().print(text_table(found))
    if not found.all_used:
        raise typer.Exit(1)
