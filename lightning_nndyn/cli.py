"""The command ``nndyn``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from lightning_nndyn import __version__
from lightning_nndyn.errors import NNDynError

app = typer.Typer(
    help="Tells from a network's weights how accurate a run will end, and stops the ones that end low.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Train and look at corpora: recorded training runs.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")


def main() -> None:
    """Runs the command; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except NNDynError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"nndyn: {error}", markup=False)
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nndyn {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


@app.command()
def demo(
    runs: Annotated[int, typer.Option(help="Configurations in the sweep.", min=1)] = 16,
    predictor: Annotated[str, typer.Option(help="Name or path of a predictor.")] = "lenet5-digits",
    max_false_stop_rate: Annotated[
        float, typer.Option(help="Share of good runs that may be stopped.")
    ] = 0.05,
    output: Annotated[Path, typer.Option(help="Folder for logs, table and picture.")] = Path("nndyn-demo"),
    seed: Annotated[int, typer.Option(help="Draws other configurations.", min=0)] = 0,
) -> None:
    """Sweep LeNet on digits with the real Trainer, and tell what stopping saved and lost.

    Example: `nndyn demo --runs 32 --seed 1`
    """
    from lightning_nndyn.demo import run_demo

    run_demo(runs, predictor=predictor, max_false_stop_rate=max_false_stop_rate, output=output, seed=seed)


@app.command()
def graph(
    model: Annotated[
        str, typer.Argument(help="A network of the paper, or MODULE:FUNCTION that returns one.")
    ],
    num_classes: Annotated[int, typer.Option(help="Outputs of the network.")] = 10,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="Shape of one input, for example 3x32x32.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Names of the chain's layers, with commas.")] = None,
) -> None:
    """Show a network's rolled graph: its layers, nodes, edges, centrality.

    Example: `nndyn graph resnet32`, or `nndyn graph torchvision.models:resnet18 --input 3x224x224`
    """
    import torch

    from lightning_nndyn import eigenvector_centrality, rolled_graph, weighted_degree

    torch.manual_seed(0)
    example = None if input_shape is None else torch.zeros(2, *_shape(input_shape))
    names = None if layers is None else layers.split(",")
    found = rolled_graph(_constructor(model)(num_classes=num_classes), example, layers=names)
    degree, central = weighted_degree(found), eigenvector_centrality(found)
    table = Table(title=f"{model}: {found.num_nodes:,} nodes, {found.num_edges:,} edges")
    for column in ("layer", "nodes", "edges to it", "mean degree", "share of centrality"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    edges = ["", *(f"{block.values.numel():,}" for block in found.blocks)]
    rows = zip(found.layer_names, edges, found.layers(degree), found.layers(central.vector), strict=True)
    for name, count, degrees, vector in rows:
        share = float(vector.double().square().sum())
        table.add_row(name, f"{degrees.numel():,}", count, f"{float(degrees.mean()):.3f}", f"{share:.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"largest eigenvalue {central.eigenvalue:.5g}, {central.iterations} products", highlight=False
    )
    for name, reason in found.left_out.items():
        console.print(f"left out: {name}, {reason}", highlight=False, markup=False)


def _shape(text: str) -> list[int]:
    try:
        return [int(size) for size in text.split("x")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no shape such as 3x32x32") from None


def _constructor(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(":")
    home = module or "lightning_nndyn.models"
    try:
        return getattr(importlib.import_module(home), function)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(
            f"{name!r} is no network: {error}. Take lenet5, alexnet, vgg7, resnet32, resnet44, resnet50, or "
            f"MODULE:FUNCTION such as torchvision.models:resnet18"
        ) from None


@corpus_app.command("train")
def corpus_train(
    preset: Annotated[str, typer.Argument(help="What to train, for example lenet5-digits.")],
    folder: Annotated[Path, typer.Argument(help="Where the records go; an existing corpus is continued.")],
    jobs: Annotated[int | None, typer.Option(help="Processes; one a core unless given.")] = None,
    runs: Annotated[
        int | None, typer.Option(help="So many runs of the grid, in a fixed random order.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Train on at most so many images.")] = None,
    test_images: Annotated[int | None, typer.Option(help="Test on at most so many images.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a run.")] = None,
    size: Annotated[int | None, typer.Option(help="Resize images to so many pixels.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Other seeds for all runs.")] = None,
    data: Annotated[Path | None, typer.Option(help="Image folder, or torchvision's CIFAR-10 root.")] = None,
    download: Annotated[bool, typer.Option(help="Let torchvision download CIFAR-10.")] = False,
    band_share: Annotated[
        float, typer.Option(help="Draw this share from the learning rates at which training moves.")
    ] = 0.0,
    minutes: Annotated[float | None, typer.Option(help="Start no run after so many minutes.")] = None,
) -> None:
    """Train the runs of a preset that the folder does not hold yet, on all cores; kill it at any time.

    Example: `nndyn corpus train lenet5-cifar10 corpora/lenet5-cifar10 --data cifar10 --images 20000 --epochs
        25`
    """
    from lightning_nndyn.corpus import run_corpus

    run_corpus(
        preset, folder, jobs=jobs, runs=runs, images=images, test_images=test_images, epochs=epochs,
        size=size, precision=precision, seed=seed, data=data, download=download, minutes=minutes,
        band_share=band_share,
    )  # fmt: skip


@corpus_app.command("status")
def corpus_state(
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders or parquet files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Say how far corpora are and what they hold.

    Example: `nndyn corpus status pretrained_predictors/*.parquet --json`
    """
    from lightning_nndyn.corpus import corpus_status

    found = [corpus_status(corpus) for corpus in corpora]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table()
    for column in ("corpus", "runs", "epochs", "images", "accuracy", "low", "trainable", "diverged", "hours"):
        table.add_column(column, justify="left" if column == "corpus" else "right")
    for row in found:
        table.add_row(*_status_cells(row))
    Console().print(table)


def _status_cells(row: dict[str, Any]) -> list[str]:
    some = bool(row["runs"])
    return [
        row["corpus"],
        f"{row['runs']} / {row['planned_runs']}",
        str(row["epochs"]),
        f"{row['images']:,}",
        f"{row['lowest_accuracy']:.1%} - {row['highest_accuracy']:.1%}" if some else "-",
        f"{row['low_share']:.0%}" if some else "-",
        str(row["trainable_runs"]),
        str(row["diverged_runs"]),
        f"{row['hours']:.2f}",
    ]


@corpus_app.command("export")
def corpus_export(
    folder: Annotated[Path, typer.Argument(help="Corpus folder.")],
    file: Annotated[Path, typer.Argument(help="Parquet file to write.")],
) -> None:
    """Write a corpus folder's records into one parquet file.

    Example: `nndyn corpus export corpora/lenet5-digits lenet5-digits.parquet`
    """
    from lightning_nndyn.corpus import export_parquet

    export_parquet(folder, file)
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


@app.command()
def fit(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder or parquet file.")],
    output: Annotated[Path, typer.Argument(help="Where to write NAME.skops and NAME.json.")],
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run is low; the preset's unless given.")
    ] = None,
    features: Annotated[str, typer.Option(help="degree, eigenvector or both.")] = "both",
    classifier: Annotated[str, typer.Option(help="svm or mlp.")] = "svm",
    regressor: Annotated[str, typer.Option(help="svr or linear.")] = "svr",
    scale: Annotated[str, typer.Option(help="relative, or raw as in the paper.")] = "relative",
    form: Annotated[str, typer.Option(help="plain, linear or exponential.")] = "plain",
    max_epoch: Annotated[float, typer.Option(help="Latest time of decision.")] = 5,
    seed: Annotated[int, typer.Option(help="Of folds and the MLP's weights.")] = 0,
) -> None:
    """Fit a predictor to a corpus, print its cross-validated scores, and save it with its card.

    Example: `nndyn fit pretrained_predictors/lenet5-digits.parquet my-predictor`
    """
    from lightning_nndyn.evaluation import fit_predictor

    predictor = fit_predictor(
        corpus, low_threshold=low_threshold, features=features, classifier=classifier, regressor=regressor,
        scale=scale, form=form, max_epoch=max_epoch, seed=seed,
    )  # fmt: skip
    Console().print(_score_table(predictor.card))
    predictor.save(output)
    typer.echo(
        f"{output}.skops and {output}.json: {predictor.card['runs']} runs of {predictor.card['corpus']}"
    )


def _score_table(card: dict[str, Any]) -> Table:
    title = f"{card['corpus']}: held-out scores, low is below {card['low_threshold']:.0%}"
    table = Table(title=title, caption="majority: the share of the more frequent class")
    for column in ("after", "reads", "runs", "low or not", "majority", "mean error", "R2", "Spearman"):
        table.add_column(column, justify="right")
    for row in card["scores"]:
        fitted = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("r2", "spearman")]
        rates = [f"{row[key]:.1%}" for key in ("accuracy", "majority")]
        error = f"{100 * row['mae']:.1f} points"
        table.add_row(f"{row['time']:g}", row["reads"], str(row["runs"]), *rates, error, *fitted)
    return table


if __name__ == "__main__":
    main()
