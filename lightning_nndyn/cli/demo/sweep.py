"""The demo's two passes: the sweep with the callback, then the stopped runs once more to the end."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lightning.pytorch import Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.cli.demo.configurations import demo_configurations
from lightning_nndyn.cli.demo.figure import draw
from lightning_nndyn.cli.demo.summary import Outcome, Summary, table_of, write_csv
from lightning_nndyn.cli.demo.training import Trained, has_tensorboard, train
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.training.data import ImageData, load_digits_data
from lightning_nndyn.errors import MissingExtraError, PredictorError
from lightning_nndyn.predictor import Predictor, load_predictor


def run_demo(
    runs: int = 16,
    *,
    predictor: str = "lenet5-digits",
    max_false_stop_rate: float = 0.05,
    output: Path | str = "nndyn-demo",
    seed: int = 0,
) -> Summary:
    """Sweeps LeNet on digits over learning rates and dropouts, and tells what stopping saved and lost.

    Args:
        runs: configurations.
        predictor: name or path of the predictor.
        max_false_stop_rate: the callback's.
        output: folder for logs, table and picture; an existing one is kept, and the next free name taken.
        seed: other configurations and seeds.

    Returns:
        The outcomes, with the truth about stopped runs.

    Raises:
        ArtefactError: if the predictor cannot be loaded.
    """
    console = Console(soft_wrap=True, highlight=False)
    bar = _bar(load_predictor(predictor))
    folder = _fresh(Path(output))
    data, configs = load_digits_data(), demo_configurations(runs, seed)
    started = time.monotonic()
    with _Show(console, "sweep", configs) as show:
        firsts = []
        for config in configs:
            callback = GraphDynamicsCallback(
                predictor=predictor, max_false_stop_rate=max_false_stop_rate, verbose=False
            )
            firsts.append(train(config, data, callback, folder, show.batch))
            show.finished(config, firsts[-1])
    middle = time.monotonic()
    outcomes = _with_truth(console, data, configs, firsts)
    summary = Summary(outcomes, bar)
    console.print(table_of(outcomes, bar))
    for line in summary.lines():
        console.print(line)
    again = sum(outcome.truth.epochs for outcome in summary.stopped)
    repeated = sum(outcome.repeated for outcome in summary.stopped)
    console.print(
        f"second pass, for the truth about stopped runs: {again:.0f} epochs; it repeated what the first "
        f"had seen in {repeated} of {len(summary.stopped)} runs"
    )
    console.print(
        f"time: {middle - started:.0f} s for the sweep, {time.monotonic() - middle:.0f} s for the rest"
    )
    _write(console, folder, outcomes, bar)
    return summary


def _bar(predictor: Predictor) -> float:
    """The accuracy below which a run is low."""
    if predictor.low_threshold is None:
        raise PredictorError(
            f"the predictor of {predictor.card['corpus']} calls a run low by its share of the best accuracy; "
            "the demo needs one with an accuracy, such as lenet5-digits"
        )
    return predictor.low_threshold


def _with_truth(
    console: Console, data: ImageData, configs: list[RunConfig], firsts: list[Trained]
) -> list[Outcome]:
    """Trains the stopped runs to the end, from their seeds and without the callback."""
    stopped = [config for config, first in zip(configs, firsts, strict=True) if first.stopped]
    outcomes = []
    with _Show(console, "truth", stopped) as show:
        for config, first in zip(configs, firsts, strict=True):
            truth = train(config, data, None, None, show.batch) if first.stopped else first
            if first.stopped:
                show.finished(config, truth)
            outcomes.append(Outcome(config, first, truth))
    return outcomes


def _write(console: Console, folder: Path, outcomes: list[Outcome], bar: float) -> None:
    write_csv(outcomes, folder / "sweep.csv")
    console.print(f"table: {folder / 'sweep.csv'}")
    try:
        draw(outcomes, bar, folder / "predictions.png")
        console.print(f"picture: {folder / 'predictions.png'}")
    except MissingExtraError as error:
        console.print(f"no picture: {error}", markup=False)
    if has_tensorboard():
        console.print(f"TensorBoard: tensorboard --logdir {folder / 'tensorboard'}")
    else:
        console.print("no TensorBoard logs: pip install 'lightning-nndyn[tensorboard]'", markup=False)
    console.print(f"CSV logs: {folder / 'csv'}")


def _fresh(folder: Path) -> Path:
    """The folder, or the next free name after it: what an earlier demo has left is not overwritten."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    os.makedirs(free)
    return free


class _Show:
    """A bar of runs and epochs on a terminal, and a line for each finished run everywhere."""

    def __init__(self, console: Console, name: str, configs: list[RunConfig]) -> None:
        self._console, self._name = console, name
        self._total, self._done = len(configs), 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        epochs = configs[0].epochs if configs else 0
        self._runs = self._progress.add_task(f"{name}: runs", total=self._total)
        self._epochs = self._progress.add_task("epochs", total=epochs)

    def __enter__(self) -> _Show:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def batch(self, trainer: Trainer) -> None:
        """Called after each batch."""
        predicted = trainer.callback_metrics.get("nndyn/predicted_accuracy")
        hope = "" if predicted is None else f", predicted {float(predicted):.0%}"
        self._progress.update(self._epochs, completed=trainer.current_epoch + 1, description=f"epochs{hope}")

    def finished(self, config: RunConfig, trained: Trained) -> None:
        """Called after each run."""
        self._done += 1
        self._progress.update(self._runs, completed=self._done)
        what = f"learning rate {config.learning_rate:<8g} dropout {config.dropout:.3f}"
        if trained.stopped and trained.callback is not None:
            ended = f"stopped: {trained.callback.decision.reason}"
        else:
            ended = f"finished at {max(trained.accuracies):.1%}"
        self._console.print(f"{self._name} {self._done:>2}/{self._total}  {what}  {ended}")
