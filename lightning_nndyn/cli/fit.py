"""``nndyn fit``: a predictor from corpora, or from the user's own runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lightning_nndyn.cli.console import new_console

_DEPRECATED = typer.Option(hidden=True, help="A setting of the paper's models, for one more release.")


def fit(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Corpora (folders, parquet files, lenet5-digits); last the output: NAME for NAME.skops."
        ),
    ],
    runs: Annotated[
        Path | None, typer.Option(help="Fit to your own runs: the folder they were logged under.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Your runs' validation accuracy; the callback's monitor unless given.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the predictor; the corpora's names unless given.")
    ] = None,
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run is low; the preset's unless given.")
    ] = None,
    low_share: Annotated[
        float | None, typer.Option(help="Instead, a share of the best accuracy on the same data.")
    ] = None,
    cohort: Annotated[
        bool, typer.Option("--cohort", help="Fit what ranks the runs of any sweep: OUTPUT.npz.")
    ] = False,
    curve: Annotated[
        bool,
        typer.Option("--curve", help="Fit what predicts by the curve alone, for any network: OUTPUT.npz."),
    ] = False,
    max_epoch: Annotated[float, typer.Option(help="Latest time of decision.")] = 5,
    seed: Annotated[int, typer.Option(help="Of folds and forests.")] = 0,
    classifier: Annotated[str | None, _DEPRECATED] = None,
    regressor: Annotated[str | None, _DEPRECATED] = None,
    features: Annotated[str | None, _DEPRECATED] = None,
    scale: Annotated[str | None, _DEPRECATED] = None,
    form: Annotated[str | None, _DEPRECATED] = None,
) -> None:
    """Fit a predictor, print its cross-validated scores, and save it with its card.

    Example: `nndyn fit lenet5-digits my-predictor`, or
        `nndyn fit --runs lightning_logs --metric val_acc my-predictor`
    """
    from lightning_nndyn.evaluation import fit_predictor, fit_runs

    *corpora, output = paths
    if cohort or curve:
        if not corpora:
            raise typer.BadParameter(
                "give corpora and then the output, such as nndyn fit --curve CORPUS OUTPUT"
            )
        (_fit_cohort if cohort else _fit_curve)(corpora, output)
        return
    settings: dict[str, Any] = dict(
        low_threshold=low_threshold, low_share=low_share, max_epoch=max_epoch, seed=seed
    )
    paper = dict(classifier=classifier, regressor=regressor, features=features, scale=scale, form=form)
    given = {option: value for option, value in paper.items() if value is not None}
    if given:
        options = ", ".join(f"--{option}" for option in given)
        typer.echo(f"{options}: deprecated; use lightning_nndyn.predictor.PaperPredictor in Python", err=True)
    settings |= given
    if (runs is None) == (not corpora):
        raise typer.BadParameter(
            "give corpora and then the output, or --runs FOLDER and the output: nndyn fit CORPUS OUTPUT"
        )
    if runs is not None:
        predictor = fit_runs(runs, metric=metric, name=name, **settings)
    else:
        predictor = fit_predictor(corpora, name=name, **settings)
    new_console().print(_score_table(predictor))
    predictor.save(output)
    typer.echo(
        f"{output}.skops and {output}.json: {predictor.card['runs']} runs of {predictor.card['corpus']}"
    )
    typer.echo(_what_it_can_stop(predictor))


def _what_it_can_stop(predictor: Any) -> str:
    """How many of its held-out low runs the predictor stops, by default and with a rate that is worth it."""
    from lightning_nndyn.predictor.policy import (
        DEFAULT_RATE,
        good_runs_needed,
        low_runs_stopped,
        smallest_rate,
        worthwhile_rate,
    )

    found = list(predictor.card["calibration"].values())[-1]
    good, low = max(found["good_maxima"], key=len), found["low_maxima"]
    caught, needed = low_runs_stopped(good, low, DEFAULT_RATE), good_runs_needed(DEFAULT_RATE)
    says = f"{len(good)} of its runs are good: by default it stops {caught} of {len(low)} held-out low runs"
    if len(good) < needed:
        kept = f"; {smallest_rate(len(good)):.1%} is the least with {len(good)}" if good else ""
        says += f" (to stop at most {DEFAULT_RATE:.0%} of good runs can be promised from {needed} on{kept})"
    rate = worthwhile_rate(good, low)
    if rate is None or rate <= DEFAULT_RATE:
        return says
    return f"{says}; with max_false_stop_rate={rate:g} it stops {low_runs_stopped(good, low, rate)}"


def _fit_cohort(corpora: list[Path], output: Path) -> None:
    from lightning_nndyn.evaluation.cohort import fit_standing_model, load_recorded_sweeps, save_with_card

    sweeps = load_recorded_sweeps(corpora)
    save_with_card(fit_standing_model(sweeps), sweeps, output)
    runs = sum(len(sweep.runs) for sweep in sweeps)
    typer.echo(f"{output}.npz and {output}.json: {runs} runs of {len(sweeps)} sweeps and grids")


def _fit_curve(corpora: list[Path], output: Path) -> None:
    from lightning_nndyn.evaluation.cohort import load_recorded_sweeps
    from lightning_nndyn.evaluation.fit_curve_model import curve_rows, fit_curve_model, save_curve_model

    sweeps = load_recorded_sweeps(corpora)
    rows = curve_rows(sweeps)
    save_curve_model(fit_curve_model(rows), rows, sweeps, output)
    typer.echo(f"{output}.npz and {output}.json: {len(rows.low)} runs of {len(sweeps)} sweeps and grids")


def _score_table(predictor: Any) -> Table:
    card = predictor.card
    title = f"{card['corpus']}: held-out scores, low is {predictor.low_rule}"
    table = Table(title=title, caption="majority: the share of the more frequent class")
    columns = "after", "reads", "snapshots", "runs", "low or not", "majority", "mean error", "R2", "Spearman"
    for column in columns:
        table.add_column(column, justify="right")
    for row in card["scores"]:
        fitted = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("r2", "spearman")]
        rates = [f"{row[key]:.1%}" for key in ("accuracy", "majority")]
        error = f"{100 * row['mae']:.1f} points"
        kind = {"weights": "weights", "fused": "weights + curve"}[row["kind"]]
        table.add_row(f"{row['time']:g}", kind, row["reads"], str(row["runs"]), *rates, error, *fitted)
    return table
