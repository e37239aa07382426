"""The command ``nndyn``."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

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


class _PredictionsUnlessNamed(TyperGroup):
    """`nndyn evaluate CORPUS...` is `nndyn evaluate predictions CORPUS...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["predictions", *args]
        return super().parse_args(ctx, args)


evaluate_app = typer.Typer(cls=_PredictionsUnlessNamed, no_args_is_help=True)
app.add_typer(evaluate_app, name="evaluate")


_PIPE_WIDTH = 160


def main() -> None:
    """Runs the command; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except NNDynError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"nndyn: {error}", markup=False)
        sys.exit(1)


def _console() -> Console:
    """Into a file or a pipe, tables are as wide as they need to be: there is no edge to fold them at."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=_PIPE_WIDTH)
    return console


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
    console = _console()
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


_Data = Annotated[
    list[str] | None,
    typer.Option(help="Image folder, or torchvision's CIFAR-10 root; NAME=FOLDER for each of several."),
]
_Download = Annotated[bool, typer.Option(help="Let torchvision download CIFAR-10.")]


@corpus_app.command("train")
def corpus_train(
    preset: Annotated[str, typer.Argument(help="What to train, for example lenet5-digits.")],
    folder: Annotated[Path, typer.Argument(help="Where the records go; an existing corpus is continued.")],
    jobs: Annotated[int | None, typer.Option(help="Processes; one a core unless given.")] = None,
    runs: Annotated[
        int | None, typer.Option(help="So many runs of the corpus, in a fixed random order.")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Train on at most so many images.")] = None,
    test_images: Annotated[int | None, typer.Option(help="Test on at most so many images.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a run.")] = None,
    size: Annotated[int | None, typer.Option(help="Resize images to so many pixels.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bf16.")] = None,
    init_scale: Annotated[
        float | None, typer.Option(help="Multiply initial weights; 2.449 for AlexNet and VGG in short runs.")
    ] = None,
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run of the corpus is low.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Other seeds for all runs.")] = None,
    data: _Data = None,
    download: _Download = False,
    band_share: Annotated[
        float, typer.Option(help="Draw this share from the learning rates at which training moves.")
    ] = 0.7,
    backend: Annotated[str, typer.Option(help="loky, or ray or dask for a cluster.")] = "loky",
    minutes: Annotated[
        float | None, typer.Option(help="Start no run that would not have ended after so many minutes.")
    ] = None,
    redo_failed: Annotated[bool, typer.Option(help="Train the runs that failed once more.")] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda to train packs of runs on a card.")] = "cpu",
    pack: Annotated[int | None, typer.Option(help="Runs that a process trains at a time.")] = None,
    pack_mode: Annotated[
        str | None, typer.Option(help="stacked, stacked-bmm or side-by-side; by network unless given.")
    ] = None,
) -> None:
    """Train the runs of a preset that the folder does not hold yet, on all cores; kill it at any time.

    Example: `nndyn corpus train lenet5-cifar10 corpora/lenet5-cifar10 --data cifar10 --images 20000 --epochs
        25`, or `nndyn corpus train zoo corpora/zoo --runs 400 --data cifar10=C10 --data imagenet100=IN100`
    """
    from lightning_nndyn.corpus import run_corpus

    run_corpus(
        preset, folder, jobs=jobs, runs=runs, images=images, test_images=test_images, epochs=epochs,
        size=size, precision=precision, init_scale=init_scale, low_threshold=low_threshold, seed=seed,
        data=_folders(data), download=download, minutes=minutes, band_share=band_share, backend=backend,
        redo_failed=redo_failed, device=device, pack=pack, pack_mode=pack_mode,
    )  # fmt: skip


def _folders(data: list[str] | None) -> str | dict[str, str] | None:
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
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders or parquet files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
) -> None:
    """Say how far corpora are and what they hold.

    Example: `nndyn corpus status pretrained_predictors/*.parquet --json`
    """
    from lightning_nndyn.corpus import corpus_status

    found = [corpus_status(corpus) for corpus in corpora]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if as_markdown:
        typer.echo(status_markdown(found))
        return
    table = Table()
    for column in _STATUS_COLUMNS:
        table.add_column(column, justify="left" if column == "corpus" else "right")
    for row in found:
        table.add_row(*_status_cells(row))
    _console().print(table)


_STATUS_COLUMNS = (
    "corpus", "runs", "epochs", "images", "accuracy", "low", "trainable", "diverged", "failed", "hours",
)  # fmt: skip


def status_markdown(found: list[dict[str, Any]]) -> str:
    """The table as Markdown, and below it how far each corpus is from the paper's protocol."""
    rows = [list(_STATUS_COLUMNS), ["---"] * len(_STATUS_COLUMNS), *map(_status_cells, found)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    told = [f"- {row['corpus']}: {'; '.join(row['departures'])}." for row in found]
    return "\n".join([table, "", "Departures from the paper's protocol:", *told])


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
    data: _Data = None,
    download: _Download = False,
) -> None:
    """Train random runs of a corpus once more and compare; exit status 1 if one comes out different.

    "identical" is to the last bit, wall times aside; "close" starts from the same weights, ends in the same
    way and with about the same accuracy, as on another processor.

    Example: `nndyn corpus verify pretrained_predictors/lenet5-digits.parquet`
    """
    from lightning_nndyn.corpus import verify_corpus

    different = 0
    for found in verify_corpus(corpus, runs=runs, seed=seed, data=_folders(data), download=download):
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
        typer.Option(help="Leave out the raw material of late snapshots until the file is no larger."),
    ] = None,
) -> None:
    """Write a corpus folder's records into one parquet file.

    Example: `nndyn corpus export corpora/resnet44-cifar10 resnet44-cifar10.parquet --max-mb 20`
    """
    from lightning_nndyn.corpus import export_parquet

    horizon = export_parquet(folder, file, max_mb=max_mb)
    kept = "" if math.isinf(horizon) else f", with raw material per layer up to epoch {horizon:g}"
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB{kept}")


@corpus_app.command("import")
def corpus_import(
    file: Annotated[Path, typer.Argument(help="Parquet file that was exported from a corpus.")],
    folder: Annotated[Path, typer.Argument(help="Corpus folder, new or of the same settings.")],
) -> None:
    """Put the records of a parquet file into a corpus folder, to go on with it there.

    Example: `nndyn corpus import corpora/zoo.parquet zoo`, then `nndyn corpus train zoo zoo ...`
    """
    from lightning_nndyn.corpus import import_parquet

    typer.echo(f"{folder}: {import_parquet(file, folder)} records imported")


@app.command()
def fit(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Corpus folders or parquet files, and last where to write NAME.skops."),
    ],
    runs: Annotated[
        Path | None, typer.Option(help="Fit to your own runs: the folder they were logged under.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Your runs' validation accuracy; the callback's monitor unless given.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it; the corpora's names unless given.")
    ] = None,
    low_threshold: Annotated[
        float | None, typer.Option(help="Accuracy below which a run is low; the preset's unless given.")
    ] = None,
    low_share: Annotated[
        float | None, typer.Option(help="Instead, a share of the best accuracy on the same data.")
    ] = None,
    classifier: Annotated[str, typer.Option(help="forest; or svm or mlp, as in the paper.")] = "forest",
    regressor: Annotated[str, typer.Option(help="forest; or svr or linear.")] = "forest",
    features: Annotated[str, typer.Option(help="For svm and mlp: degree, eigenvector or both.")] = "both",
    scale: Annotated[
        str, typer.Option(help="For svm and mlp: relative, or raw as in the paper.")
    ] = "relative",
    form: Annotated[str, typer.Option(help="For svm and mlp: plain, linear or exponential.")] = "plain",
    max_epoch: Annotated[float, typer.Option(help="Latest time of decision.")] = 5,
    seed: Annotated[int, typer.Option(help="Of folds, forests and the MLP's weights.")] = 0,
) -> None:
    """Fit a predictor, print its cross-validated scores, and save it with its card.

    Example: `nndyn fit pretrained_predictors/lenet5-digits.parquet my-predictor`, or
        `nndyn fit --runs lightning_logs --metric val_acc my-predictor`
    """
    from lightning_nndyn.evaluation import fit_predictor, fit_runs

    *corpora, output = paths
    settings: dict[str, Any] = dict(
        low_threshold=low_threshold, low_share=low_share, classifier=classifier, regressor=regressor,
        features=features, scale=scale, form=form, max_epoch=max_epoch, seed=seed,
    )  # fmt: skip
    if (runs is None) == (not corpora):
        raise typer.BadParameter(
            "give corpora and then the output, or --runs FOLDER and the output: nndyn fit CORPUS OUTPUT"
        )
    if runs is not None:
        predictor = fit_runs(runs, metric=metric, name=name, **settings)
    else:
        predictor = fit_predictor(corpora, name=name, **settings)
    _console().print(_score_table(predictor))
    predictor.save(output)
    typer.echo(
        f"{output}.skops and {output}.json: {predictor.card['runs']} runs of {predictor.card['corpus']}"
    )


@app.command()
def predict(
    checkpoints: Annotated[list[Path], typer.Argument(help="Checkpoint files, or folders with such.")],
    predictor: Annotated[str, typer.Option(help="A shipped predictor's name, or a path.")] = "universal",
    model: Annotated[
        str | None, typer.Option(help="package.module:name that makes the network, for other checkpoints.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="Shape of one input, for example 3x32x32.")
    ] = None,
) -> None:
    """Say of checkpoints how accurate their runs will end.

    Those of runs with the callback carry what it takes. For others name the model; a folder's checkpoints are
    then one run, and begin with one that was saved before the first step.

    Example: `nndyn predict lightning_logs/version_0/checkpoints --predictor lenet5-digits`
    """
    from lightning_nndyn.evaluation import predict_checkpoints
    from lightning_nndyn.predictor import load_predictor

    loaded = load_predictor(predictor)
    sizes = None if input_shape is None else _shape(input_shape)
    table = Table(title=f"{predictor}: low is {loaded.bar}")
    for column in ("checkpoint", "after", "accuracy", "of the best", "p_low", "known", "note"):
        table.add_column(column, overflow="fold")
    for scored in predict_checkpoints(checkpoints, loaded, model=model, shape=sizes):
        table.add_row(*_scored_cells(scored.file, scored.verdict, scored.why))
    _console().print(table)


def _scored_cells(file: Path, verdict: Any, why: str) -> list[str]:
    if verdict is None:
        return [str(file), "-", "-", "-", "-", "-", why]
    relative = "-" if verdict.relative_accuracy is None else f"{verdict.relative_accuracy:.0%}"
    return [
        str(file),
        f"{verdict.epoch:g}",
        f"{verdict.predicted_accuracy:.1%}",
        relative,
        f"{verdict.p_low:.2f}",
        "yes" if verdict.in_domain else "no",
        verdict.note,
    ]


@app.command()
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
    seed: Annotated[int, typer.Option(help="Of the orders in which other rules meet the runs.", min=0)] = 0,
) -> None:
    """Make one HTML page about recorded runs: what was stopped, or would have been, when and why.

    The page is one file and loads nothing. Other rules (ASHA, Hyperband, the median rule) are held against
    the callback where Optuna is installed.

    Example: `nndyn report lightning_logs --output report.html`
    """
    from lightning_nndyn.report import write_report

    written = write_report(
        runs, output, metric=metric, low_threshold=low_threshold, low_share=low_share, title=title, seed=seed
    )
    for reason in written.unreadable:
        typer.echo(f"left out: {reason}", err=True)
    typer.echo(f"{written.file}: {written.summary.runs} runs, {written.size / 1e6:.2f} MB")


@app.command()
def sweep(
    plan: Annotated[Path, typer.Argument(help="YAML file: what to train, the search space, how many runs.")],
    trials: Annotated[
        int | None, typer.Option(help="Runs that are to end in all; the file's number unless given.", min=1)
    ] = None,
) -> None:
    """Search hyperparameters: runs that the sweep's own finished runs say will end low are stopped.

    Goes on with a sweep that was cut. Several of these commands on one file work side by side. A `race` part
    makes a race of it: all runs are trained for a sixteenth of an epoch, the most promising longer.

    Example: `nndyn sweep examples/sweep.yaml`
    """
    from dataclasses import replace

    from rich.live import Live

    from lightning_nndyn.study import load_plan
    from lightning_nndyn.study import sweep as run_sweep
    from lightning_nndyn.study.table import mean_seconds, trials_table

    found = load_plan(plan)
    wanted = replace(found, trials=trials or found.trials)
    if wanted.race is not None:
        _race(wanted)
        return

    def shown(study: Any) -> Any:
        known = study.get_trials(deepcopy=False)
        return trials_table(known, wanted.trials, wanted.direction, mean_seconds(known))

    console = _console()
    if not console.is_terminal:  # a live table in a file would be printed over and over
        console.print(shown(run_sweep(wanted)))
        return
    with Live(console=console, auto_refresh=False) as live:
        run_sweep(wanted, lambda study: live.update(shown(study), refresh=True))


def _race(plan: Any) -> None:
    from rich.live import Live

    from lightning_nndyn.study.race import race_of
    from lightning_nndyn.study.race.table import race_table

    console = _console()
    if not console.is_terminal:
        console.print(race_table(race_of(plan)))
        return
    with Live(console=console, auto_refresh=False) as live:
        live.update(race_table(race_of(plan, lambda race: live.update(race_table(race), refresh=True))))


_Cache = Annotated[
    Path, typer.Option(help="Finished parts, to go on with after a cut; delete it after changes of code.")
]
_Minutes = Annotated[
    float | None, typer.Option(help="Begin no part after so many; the same command goes on.")
]


@evaluate_app.callback()
def evaluate_what() -> None:
    """Measure on recorded runs: how good predictions are, and what stopping by them saves in a sweep.

    Example: `nndyn evaluate pretrained_predictors/*.parquet corpora/*.parquet --output docs --jobs 2`,
        short for `nndyn evaluate predictions ...`; or `nndyn evaluate sweep corpora/*.parquet --output docs`
    """


@evaluate_app.command("predictions")
def evaluate_corpora(
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders or parquet files.")],
    output: Annotated[Path, typer.Option(help="Folder for rows, tables and figures.")] = Path(
        "nndyn-results"
    ),
    method: Annotated[
        list[str] | None, typer.Option(help="Give several times for several; all unless given.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Cross-validations, with other folds.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of folds, learners and intervals.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    cache: _Cache = Path("nndyn-evaluation-cache"),
    minutes: _Minutes = None,
) -> None:
    """Compare what predicts final accuracy: weights, curves, both, hyperparameters, on held-out runs.

    Example: `nndyn evaluate pretrained_predictors/*.parquet corpora/*.parquet --output docs --jobs 2`
    """
    from lightning_nndyn.evaluation import evaluate

    rows = evaluate(
        corpora, output, methods=method, repeats=repeats, seed=seed, jobs=jobs, cache=cache, minutes=minutes,
        said=typer.echo,
    )  # fmt: skip
    if rows is not None:
        typer.echo(f"{output / 'results.md'}: {len(rows)} numbers")


@evaluate_app.command("sweep")
def evaluate_sweep(
    corpora: Annotated[list[Path], typer.Argument(help="Corpus folders or parquet files.")],
    output: Annotated[Path, typer.Option(help="Folder for rows, tables and figure.")] = Path("nndyn-results"),
    sweeps: Annotated[int, typer.Option(help="Random orders of each corpus.", min=1)] = 200,
    size: Annotated[int, typer.Option(help="Runs in a sweep.", min=2)] = 50,
    seed: Annotated[int, typer.Option(help="Of orders, folds and forests.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    cache: _Cache = Path("nndyn-replay-cache"),
    minutes: _Minutes = None,
) -> None:
    """Replay corpora as sweeps in random order: what Optuna's pruners, patience, others and we save and miss.

    Example: `nndyn evaluate sweep pretrained_predictors/*.parquet corpora/*.parquet --output docs --jobs 2`
    """
    from lightning_nndyn.evaluation import replay_sweeps

    outcomes = replay_sweeps(
        corpora, output, count=sweeps, size=size, seed=seed, jobs=jobs, cache=cache, minutes=minutes,
        said=typer.echo,
    )  # fmt: skip
    if outcomes is not None:
        typer.echo(f"{output / 'replay.md'}: {len(outcomes)} rows")


def _score_table(predictor: Any) -> Table:
    card = predictor.card
    title = f"{card['corpus']}: held-out scores, low is {predictor.bar}"
    table = Table(title=title, caption="majority: the share of the more frequent class")
    for column in (
        "after",
        "reads",
        "snapshots",
        "runs",
        "low or not",
        "majority",
        "mean error",
        "R2",
        "Spearman",
    ):
        table.add_column(column, justify="right")
    for row in card["scores"]:
        fitted = ["-" if row[key] is None else f"{row[key]:.2f}" for key in ("r2", "spearman")]
        rates = [f"{row[key]:.1%}" for key in ("accuracy", "majority")]
        error = f"{100 * row['mae']:.1f} points"
        kind = {"weights": "weights", "fused": "weights + curve"}[row["kind"]]
        table.add_row(f"{row['time']:g}", kind, row["reads"], str(row["runs"]), *rates, error, *fitted)
    return table


if __name__ == "__main__":
    main()
