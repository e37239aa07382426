"""What stopping saved and lost in a sweep, once the true final accuracies of the stopped runs are known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lightning_nndyn.cli.demo.training import TrainingResult
from lightning_nndyn.corpus.run_config import RunConfig


@dataclass(frozen=True)
class DemoRun:
    """One configuration of the sweep.

    Attributes:
        config: what was trained.
        first: the run with the callback.
        truth: the run without it, if the callback has stopped the first; else the first itself.
    """

    config: RunConfig
    first: TrainingResult
    truth: TrainingResult

    @property
    def accuracy(self) -> float:
        """The true final accuracy: the best test accuracy of the whole run, a fraction."""
        return max(self.truth.accuracies)

    @property
    def predicted(self) -> float | None:
        """The last prediction, a fraction; None if there was none."""
        verdicts = self.first.callback.verdicts if self.first.callback is not None else []
        return verdicts[-1].predicted_accuracy if verdicts else None

    @property
    def repeated(self) -> bool:
        """Whether the second pass measured the same accuracies as the first, to the last digit."""
        known = self.first.accuracies
        return self.truth.accuracies[: len(known)] == known


@dataclass(frozen=True)
class DemoSummary:
    """The sweep as a whole.

    Attributes:
        runs: all of the sweep.
        low_threshold: accuracy below which a run is low, a fraction; the other runs are good.
    """

    runs: Sequence[DemoRun]
    low_threshold: float

    @property
    def good(self) -> list[DemoRun]:
        """Runs that are good, or would have been without the callback."""
        return [run for run in self.runs if run.accuracy >= self.low_threshold]

    @property
    def stopped(self) -> list[DemoRun]:
        """Runs that the callback has stopped."""
        return [run for run in self.runs if run.first.stopped]

    @property
    def lost(self) -> list[DemoRun]:
        """Good runs that were stopped by mistake."""
        return [run for run in self.good if run.first.stopped]

    @property
    def best(self) -> DemoRun:
        """The run with the highest true accuracy."""
        return max(self.runs, key=lambda run: run.accuracy)

    @property
    def epochs(self) -> float:
        """Epochs that were trained with the callback."""
        return sum(run.first.epochs for run in self.runs)

    @property
    def all_epochs(self) -> int:
        """Epochs of the same sweep without stopping."""
        return sum(run.config.epochs for run in self.runs)

    def lines(self) -> list[str]:
        """The sweep in words and numbers."""
        num_low = len(self.runs) - len(self.good)
        num_low_stopped = len(self.stopped) - len(self.lost)
        kept = "lost" if self.best.first.stopped else "kept"
        errors = [abs(run.predicted - run.accuracy) for run in self.runs if run.predicted is not None]
        low = f"{self.low_threshold:.0%}"
        saved = 1 - self.epochs / self.all_epochs
        return [
            f"epochs trained: {self.epochs:.1f} of {self.all_epochs}, {saved:.0%} saved",
            f"low runs stopped: {num_low_stopped} of {num_low} (final accuracy below {low})",
            f"good runs stopped by mistake: {len(self.lost)} of {len(self.good)}",
            f"best run: {kept} ({self.best.accuracy:.1%}, learning rate {self.best.config.learning_rate:g})",
            f"last prediction against truth: {100 * sum(errors) / max(len(errors), 1):.1f} points mean error",
        ]


def summary_table(summary: DemoSummary) -> Table:
    """A table with one line for each run, by learning rate; 80 columns wide at most."""
    table = Table(title="LeNet on digits: what the callback did, and what would have come")
    for name in ("learning rate", "dropout", "trained", "predicted", "true final", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in sorted(summary.runs, key=lambda run: run.config.learning_rate):
        epochs, stopped = run.first.epochs, run.first.stopped
        mistake = run in summary.lost
        if mistake:
            table.caption = "* a good run, stopped by mistake"
        table.add_row(
            f"{run.config.learning_rate:g}",
            f"{run.config.dropout:.3f}",
            f"stopped {epochs:.2f}" if stopped else f"to {epochs:g}",
            "-" if run.predicted is None else f"{run.predicted:.1%}",
            f"{run.accuracy:.1%}{' *' if mistake else ''}",
            f"{run.config.epochs - epochs:.1f}" if stopped else "",
        )
    return table


def write_csv(runs: Sequence[DemoRun], file: Path) -> None:
    """The same table for programs; accuracies are fractions."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ("learning_rate", "dropout", "seed", "stopped", "epochs", "predicted", "accuracy", "reason")
        )
        for run in runs:
            config, first = run.config, run.first
            reason = first.callback.decision.reason if first.callback is not None else ""
            settings = config.learning_rate, config.dropout, config.seed
            writer.writerow((*settings, first.stopped, first.epochs, run.predicted, run.accuracy, reason))
