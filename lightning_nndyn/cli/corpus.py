"""``nndyn corpus``: train corpora, and look at them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lightning_nndyn.cli.console import Corpora, new_console
from lightning_nndyn.errors import CorpusError

corpus_app = typer.Typer(help="Train and look at corpora: recorded training runs.", no_args_is_help=True)

Data = Annotated[
    list[str] | None,
    typer.Option(help="Image folder, or torchvision's CIFAR-10 root; NAME=FOLDER for each of several."),
]
_Download = Annotated[bool, typer.Option(help="Let torchvision download CIFAR-10.")]


@corpus_app.command("train")
def corpus_train(
    preset: Annotated[str, typer.Argument(help="What to train, for example lenet5-digits.")],
    folder: Annotated[Path, typer.Argument(help="Where the records go; an existing corpus is continued.")],
    jobs: Annotated[
        int | None, typer.Option(help="Runs side by side, each in a process: one a core, or one on a GPU.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Number of runs, from the start of a fixed random order.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Largest number of training images.")] = None,
    test_images: Annotated[int | None, typer.Option(help="Largest number of test images.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a run.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width in pixels to resize images to.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16.")] = None,
    init_scale: Annotated[
        float | None, typer.Option(help="Multiply initial weights; 2.449 for AlexNet and VGG in short runs.")
    ] = None,
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run of the corpus is low.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Changes the seeds of all runs.")] = None,
    data: Data = None,
    download: _Download = False,
    band_share: Annotated[
        float, typer.Option(help="Share of runs with learning rates at which networks learn.")
    ] = 0.7,
    backend: Annotated[str, typer.Option(help="loky, or ray or dask for a cluster.")] = "loky",
    minutes: Annotated[
        float | None, typer.Option(help="Start no run that would not have ended after so many minutes.")
    ] = None,
    redo_failed: Annotated[bool, typer.Option(help="Train the runs that failed once more.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda to train on a GPU, which --jobs share.")] = "cpu",
) -> None:
    """Train the runs of a preset that the folder does not hold yet, on all cores; kill it at any time.

    Example: `nndyn corpus train lenet5-digits corpora/lenet5-digits --runs 4`; with images of your own
        `nndyn corpus train lenet5-cifar10 corpora/lenet5-cifar10 --data cifar10 --images 20000 --epochs 25`
    """
    from lightning_nndyn.corpus import RunOptions, run_corpus

    options = RunOptions(
        jobs=jobs, runs=runs, data=folders(data), download=download, backend=backend, minutes=minutes,
        band_share=band_share, redo_failed=redo_failed, device=device,
    )  # fmt: skip
    run_corpus(
        preset, folder, options, images=images, test_images=test_images, epochs=epochs, size=size,
        precision=precision, init_scale=init_scale, low_threshold=low_threshold, seed=seed,
    )  # fmt: skip


def folders(data: list[str] | None) -> str | dict[str, str] | None:
    """One folder, or a folder for each data set that is named."""
    if not data:
        return None
    if len(data) == 1 and "=" not in data[0]:
        return data[0]
    pairs = [item.partition("=") for item in data]
    if not all(name and folder for name, _, folder in pairs):
        raise typer.BadParameter(f"--data {' '.join(data)}: with several, give each as NAME=FOLDER")
    return {name: folder for name, _, folder in pairs}


@corpus_app.command("status")
def corpus_state(
    corpora: Corpora,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
) -> None:
    """Print how many runs corpora have, and their accuracies.

    Example: `nndyn corpus status lenet5-digits --json`
    """
    from lightning_nndyn.corpus import corpus_status

    statuses = []
    for corpus in corpora:
        try:
            statuses.append(corpus_status(corpus))
        except CorpusError as error:
            typer.echo(f"left out: {error}", err=True)
    if as_json:
        typer.echo(json.dumps(statuses, indent=1))
    elif as_markdown:
        typer.echo(status_markdown(statuses))
    elif statuses:
        new_console().print(_status_table(statuses))
    if len(statuses) < len(corpora):
        raise typer.Exit(1)


def _status_table(statuses: list[dict[str, Any]]) -> Table:
    table = Table()
    for column in _STATUS_COLUMNS:
        table.add_column(column, justify="left" if column == "corpus" else "right")
    for row in statuses:
        table.add_row(*_status_cells(row))
    return table


_STATUS_COLUMNS = (
    "corpus", "runs", "epochs", "images", "accuracy", "low", "trainable", "diverged", "failed", "hours",
)  # fmt: skip


def status_markdown(statuses: list[dict[str, Any]]) -> str:
    """The table as Markdown, and below it how far each corpus is from the paper's protocol."""
    rows = [list(_STATUS_COLUMNS), ["---"] * len(_STATUS_COLUMNS), *map(_status_cells, statuses)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    departures = [f"- {row['corpus']}: {'; '.join(row['departures'])}." for row in statuses]
    return "\n".join([table, "", "Departures from the paper's protocol:", *departures])


def _status_cells(row: dict[str, Any]) -> list[str]:
    some = row["low_share"] is not None
    return [
        row["corpus"],
        f"{row['runs']} / {row['planned_runs']}",
        str(row["epochs"]),
        f"{row['images']:,}",
        f"{row['lowest_accuracy']:.1%} - {row['highest_accuracy']:.1%}" if some else "-",
        f"{row['low_share']:.0%}" if some else "-",
        str(row["trainable_runs"]),
        str(row["diverged_runs"]),
        str(row["failed_runs"]),
        f"{row['hours']:.2f}",
    ]


@corpus_app.command("verify")
def corpus_verify(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder or parquet file.")],
    runs: Annotated[int, typer.Option(help="How many runs.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Draws other runs.", min=0)] = 0,
    data: Data = None,
    download: _Download = False,
) -> None:
    """Train random runs of a corpus again and compare; exit status 1 if one is different.

    "identical": equal to the last bit, except for wall times. "close": the same initial weights, the same end
    and about the same accuracy, as on another processor.

    Example: `nndyn corpus verify lenet5-digits`
    """
    from lightning_nndyn.corpus import verify_corpus

    different = 0
    for found in verify_corpus(corpus, runs=runs, seed=seed, data=folders(data), download=download):
        different += found.verdict == "different"
        recorded = f"{found.recorded_accuracy:.2%} recorded with torch {found.torch}"
        typer.echo(f"run {found.index}: {found.verdict}; best accuracy {recorded}, {found.accuracy:.2%} now")
    if different:
        raise typer.Exit(1)


@corpus_app.command("export")
def corpus_export(
    folder: Annotated[Path, typer.Argument(help="Corpus folder.")],
    file: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    max_mb: Annotated[
        float | None,
        typer.Option(help="Leave out the numbers per layer of late snapshots until the file is no larger."),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Leave nothing out, but write several files, each no larger.")
    ] = False,
) -> None:
    """Write a corpus folder's records into one parquet file, or into several.

    Example: `nndyn corpus export corpora/lenet5-digits digits.parquet --max-mb 20`, in several files with
        `--split`
    """
    from lightning_nndyn.corpus import export_parquet, export_parts

    if split:
        if max_mb is None:
            raise typer.BadParameter("--split: say how large a file may be, with --max-mb")
        for part in export_parts(folder, file, max_mb=max_mb):
            typer.echo(f"{part}: {part.stat().st_size / 1e6:.1f} MB")
        return
    horizon = export_parquet(folder, file, max_mb=max_mb)
    kept = "" if math.isinf(horizon) else f", with numbers per layer up to epoch {horizon:g}"
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB{kept}")


@corpus_app.command("import")
def corpus_import(
    file: Annotated[Path, typer.Argument(help="Parquet file that was exported from a corpus.")],
    folder: Annotated[Path, typer.Argument(help="Corpus folder, new or of the same settings.")],
) -> None:
    """Put the records of a parquet file into a corpus folder, to continue the corpus there.

    Example: `nndyn corpus import lenet5-digits digits`, then `nndyn corpus train lenet5-digits digits`
    """
    from lightning_nndyn.corpus import import_parquet

    typer.echo(f"{folder}: {import_parquet(file, folder)} records imported")
