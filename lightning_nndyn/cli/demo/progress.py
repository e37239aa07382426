"""The demo's progress: bars of runs and epochs on a terminal, and a line for each finished run everywhere."""

from __future__ import annotations

from lightning.pytorch import Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_nndyn.cli.demo.training import TrainingResult
from lightning_nndyn.corpus.run_config import RunConfig


class DemoProgress:
    """Progress of one pass over the configurations; a context manager.

    Args:
        console: to print on.
        name: of the pass.
        configs: that are trained in it.
    """

    def __init__(self, console: Console, name: str, configs: list[RunConfig]) -> None:
        self._console, self._name = console, name
        self._total, self._done = len(configs), 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        epochs = configs[0].epochs if configs else 0
        self._runs = self._progress.add_task(f"{name}: runs", total=self._total)
        self._epochs = self._progress.add_task("epochs", total=epochs)

    def __enter__(self) -> DemoProgress:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def update(self, trainer: Trainer) -> None:
        """Called after each batch."""
        predicted = trainer.callback_metrics.get("nndyn/predicted_accuracy")
        text = "epochs" if predicted is None else f"epochs, predicted {float(predicted):.0%}"
        self._progress.update(self._epochs, completed=trainer.current_epoch + 1, description=text)

    def finish_run(self, config: RunConfig, result: TrainingResult) -> None:
        """Called after each run."""
        self._done += 1
        self._progress.update(self._runs, completed=self._done)
        what = f"learning rate {config.learning_rate:<8g} dropout {config.dropout:.3f}"
        if result.stopped and result.callback is not None:
            end = f"stopped: {result.callback.decision.reason}"
        else:
            end = f"finished at {max(result.accuracies):.1%}"
        self._console.print(f"{self._name} {self._done:>2}/{self._total}  {what}  {end}")
