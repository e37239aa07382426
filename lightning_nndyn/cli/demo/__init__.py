"""``nndyn demo``: a sweep of LeNet on digits by the real Trainer, with and without the callback.

In: a predictor. Out: a table of what stopping saved and lost, logs and a figure. `configurations` says what
is trained, `training` trains it, `progress` shows it, `summary` counts what was saved and lost, `figure`
draws it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.cli.demo.configurations import demo_configurations
from lightning_nndyn.cli.demo.figure import draw
from lightning_nndyn.cli.demo.progress import DemoProgress
from lightning_nndyn.cli.demo.summary import DemoRun, DemoSummary, summary_table, write_csv
from lightning_nndyn.cli.demo.training import TrainingResult, has_tensorboard, train
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import ImageData, load_digits_data
from lightning_nndyn.errors import MissingExtraError, PredictorError
from lightning_nndyn.predictor import Predictor, load_predictor

__all__ = ["demo", "run_demo"]


def demo(
    runs: Annotated[int, typer.Option(help="Configurations in the sweep.", min=1)] = 16,
    predictor: Annotated[str, typer.Option(help="Name or path of a predictor.")] = "lenet5-digits",
    max_false_stop_rate: Annotated[
        float, typer.Option(help="Share of good runs that may be stopped.")
    ] = 0.05,
    output: Annotated[Path, typer.Option(help="Folder for logs, table and figure.")] = Path("nndyn-demo"),
    seed: Annotated[int, typer.Option(help="Draws other configurations.", min=0)] = 0,
) -> None:
    """Sweep LeNet on digits with the real Trainer, and show what stopping saved and lost.

    Example: `nndyn demo --runs 32 --seed 1`
    """
    run_demo(runs, predictor=predictor, max_false_stop_rate=max_false_stop_rate, output=output, seed=seed)


def run_demo(
    runs: int = 16,
    *,
    predictor: str = "lenet5-digits",
    max_false_stop_rate: float = 0.05,
    output: Path | str = "nndyn-demo",
    seed: int = 0,
) -> DemoSummary:
    """Sweep LeNet on digits over learning rates and dropouts, and print what stopping saved and lost.

    Args:
        runs: configurations.
        predictor: name or path of the predictor.
        max_false_stop_rate: the callback's.
        output: folder for logs, table and figure; an existing one is kept, and the next free name taken.
        seed: of the configurations and their seeds.

    Returns:
        The runs, with the true final accuracies of the stopped ones.

    Raises:
        ArtefactError: the predictor cannot be loaded.
        PredictorError: it has no fixed accuracy below which a run is low.
    """
    console = Console(soft_wrap=True, highlight=False)
    threshold = _low_threshold(load_predictor(predictor))
    folder = _new_folder(Path(output))
    data, configs = load_digits_data(), demo_configurations(runs, seed)
    started = time.monotonic()
    with DemoProgress(console, "sweep", configs) as progress:
        firsts = []
        for config in configs:
            callback = GraphDynamicsCallback(
                predictor=predictor, max_false_stop_rate=max_false_stop_rate, verbose=False
            )
            firsts.append(train(config, data, callback, folder, progress.update))
            progress.finish_run(config, firsts[-1])
    middle = time.monotonic()
    summary = DemoSummary(_train_stopped_again(console, data, configs, firsts), threshold)
    console.print(summary_table(summary))
    for line in summary.lines():
        console.print(line)
    again = sum(run.truth.epochs for run in summary.stopped)
    repeated = sum(run.repeated for run in summary.stopped)
    console.print(
        f"second pass, for the truth about stopped runs: {again:.0f} epochs; it repeated what the first "
        f"had seen in {repeated} of {len(summary.stopped)} runs"
    )
    console.print(
        f"time: {middle - started:.0f} s for the sweep, {time.monotonic() - middle:.0f} s for the rest"
    )
    _write(console, folder, summary)
    return summary


def _low_threshold(predictor: Predictor) -> float:
    """The accuracy below which a run is low."""
    if predictor.low_threshold is None:
        raise PredictorError(
            f"the predictor of {predictor.card['corpus']} calls a run low by its share of the best accuracy; "
            "the demo needs one with an accuracy, such as lenet5-digits"
        )
    return predictor.low_threshold


def _train_stopped_again(
    console: Console, data: ImageData, configs: list[RunConfig], firsts: list[TrainingResult]
) -> list[DemoRun]:
    """Train the stopped runs to the end, from their seeds and without the callback: what would have come?"""
    pairs = list(zip(configs, firsts, strict=True))
    runs = []
    with DemoProgress(console, "truth", [config for config, first in pairs if first.stopped]) as progress:
        for config, first in pairs:
            truth = first
            if first.stopped:
                truth = train(config, data, None, None, progress.update)
                progress.finish_run(config, truth)
            runs.append(DemoRun(config, first, truth))
    return runs


def _write(console: Console, folder: Path, summary: DemoSummary) -> None:
    write_csv(summary.runs, folder / "sweep.csv")
    console.print(f"table: {folder / 'sweep.csv'}")
    try:
        draw(summary, folder / "predictions.png")
        console.print(f"picture: {folder / 'predictions.png'}")
    except MissingExtraError as error:
        console.print(f"no picture: {error}", markup=False)
    if has_tensorboard():
        console.print(f"TensorBoard: tensorboard --logdir {folder / 'tensorboard'}")
    else:
        console.print("no TensorBoard logs: pip install 'lightning-nndyn[tensorboard]'", markup=False)
    console.print(f"CSV logs: {folder / 'csv'}")


def _new_folder(folder: Path) -> Path:
    """Create the folder, or the next free name after it, so that an earlier demo is not overwritten."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    free.mkdir(parents=True)
    return free
