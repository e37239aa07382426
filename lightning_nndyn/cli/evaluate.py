"""``nndyn evaluate``: of predictions, and of stopping in sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lightning_nndyn.cli.console import Corpora
from lightning_nndyn.cli.corpus import Data, folders


class _PredictionsUnlessNamed(TyperGroup):
    """`nndyn evaluate CORPUS...` is `nndyn evaluate predictions CORPUS...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["predictions", *args]
        return super().parse_args(ctx, args)


evaluate_app = typer.Typer(cls=_PredictionsUnlessNamed, no_args_is_help=True)

_Cache = Annotated[
    Path,
    typer.Option(help="Finished parts, to continue after an interruption; delete after changes of code."),
]
_Minutes = Annotated[
    float | None, typer.Option(help="Begin no part after so many; the same command continues.")
]


@evaluate_app.callback()
def evaluate_what() -> None:
    """Measure on recorded runs how good predictions are, and what stopping by them saves in a sweep.

    Example: `nndyn evaluate sweep lenet5-digits --output results`. Without a command, `nndyn evaluate
        lenet5-digits --output results` is `nndyn evaluate predictions lenet5-digits --output results`.
    """


@evaluate_app.command("predictions")
def evaluate_corpora(
    corpora: Corpora,
    output: Annotated[Path, typer.Option(help="Folder for rows and summary.")] = Path("nndyn-results"),
    method: Annotated[
        list[str] | None, typer.Option(help="May be given several times; all unless given.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Number of cross-validations.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of folds, learners and intervals.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    cache: _Cache = Path("nndyn-evaluation-cache"),
    minutes: _Minutes = None,
) -> None:
    """Compare methods that predict the final accuracy of held-out runs, from weights, curves and both.

    Example: `nndyn evaluate lenet5-digits --output results --jobs 2`
    """
    from lightning_nndyn.evaluation import evaluate

    rows = evaluate(
        corpora, output, methods=method, repeats=repeats, seed=seed, jobs=jobs, cache=cache, minutes=minutes,
        on_progress=typer.echo,
    )  # fmt: skip
    if rows is not None:
        typer.echo(f"{output / 'predictions.md'}: a summary of {len(rows)} numbers")


@evaluate_app.command("unrolled")
def evaluate_unrolled(
    corpora: Corpora,
    output: Annotated[Path, typer.Option(help="Folder for readings and rows.")] = Path("nndyn-results"),
    runs: Annotated[int, typer.Option(help="Runs of each corpus, in a fixed random order.", min=1)] = 80,
    epochs: Annotated[int, typer.Option(help="Last epoch that is trained.", min=1)] = 15,
    seed: Annotated[int, typer.Option(help="Of folds, learners and intervals.", min=0)] = 0,
    cache: _Cache = Path("nndyn-unrolled-cache"),
    data: Data = None,
    minutes: _Minutes = None,
) -> None:
    """Train recorded runs once more, read their unrolled graphs, and compare what these tell of the end.

    Each run is compared with its record; exit status 1 if one is different. It is left out then.

    Example: `nndyn evaluate unrolled lenet5-digits --output results --runs 250`
    """
    from lightning_nndyn.evaluation.paper.unrolled_classification import classify_unrolled
    from lightning_nndyn.evaluation.paper.unrolled_readings import read_unrolled

    different = read_unrolled(
        corpora, output, folder=cache, runs=runs, epochs=epochs, data=folders(data), minutes=minutes,
        on_progress=typer.echo,
    )  # fmt: skip
    rows = classify_unrolled(corpora, output, seed=seed)
    typer.echo(f"{output / 'unrolled.parquet'}: {len(rows)} numbers")
    if different:
        typer.echo(f"{different} runs differ from their records and were left out", err=True)
        raise typer.Exit(1)


@evaluate_app.command("cohort")
def evaluate_cohort(
    corpora: Corpora,
    output: Annotated[Path, typer.Option(help="Folder for rows.")] = Path("nndyn-results"),
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    cache: _Cache = Path("nndyn-cohort-cache"),
    minutes: _Minutes = None,
) -> None:
    """Replay sweeps of networks and data that nobody has recorded: `keep=` beside Optuna's pruners.

    Runs are ranked by models that have seen neither the family of the network nor the data set.

    Example: `nndyn evaluate cohort lenet5-digits corpora/sweeps --output results --jobs 2`
    """
    from lightning_nndyn.evaluation import compare_ways

    rows = compare_ways(corpora, output, jobs=jobs, cache=cache, minutes=minutes, on_progress=typer.echo)
    if rows is not None:
        typer.echo(f"{output / 'cohort.parquet'}: {len(rows)} numbers")


@evaluate_app.command("sweep")
def evaluate_sweep(
    corpora: Corpora,
    output: Annotated[Path, typer.Option(help="Folder for rows and summary.")] = Path("nndyn-results"),
    sweeps: Annotated[int, typer.Option(help="Number of sweeps of each corpus.", min=1)] = 200,
    size: Annotated[int, typer.Option(help="Runs in a sweep.", min=2)] = 50,
    seed: Annotated[int, typer.Option(help="Of orders, folds and forests.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    cache: _Cache = Path("nndyn-replay-cache"),
    minutes: _Minutes = None,
) -> None:
    """Replay corpora as sweeps in random order: what Optuna's pruners, patience and our rules save and miss.

    Example: `nndyn evaluate sweep lenet5-digits --output results --jobs 2`
    """
    from lightning_nndyn.evaluation import replay_sweeps

    rows = replay_sweeps(
        corpora, output, count=sweeps, size=size, seed=seed, jobs=jobs, cache=cache, minutes=minutes,
        on_progress=typer.echo,
    )  # fmt: skip
    if rows is not None:
        typer.echo(f"{output / 'replay.md'}: a summary of {len(rows)} rows")
