"""What a sweep's stopping saved and lost, once the truth about the stopped runs is known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lightning_nndyn.cli.demo.training import Trained
from lightning_nndyn.corpus.run_config import RunConfig


@dataclass(frozen=True)
class Outcome:
    """One configuration of the sweep.

    Attributes:
        config: what was trained.
        first: the run with the callback.
        truth: the run without it, where the callback has stopped the first; else the first itself.
    """

    config: RunConfig
    first: Trained
    truth: Trained

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
        """Whether the second pass went through the same accuracies as the first, to the last digit."""
        seen = self.first.accuracies
        return self.truth.accuracies[: len(seen)] == seen


@dataclass(frozen=True)
class Summary:
    """The sweep as a whole; ``good`` runs end at or above ``bar``."""

    outcomes: Sequence[Outcome]
    bar: float

    @property
    def good(self) -> list[Outcome]:
        """Runs that end, or would have ended, at or above the bar."""
        return [outcome for outcome in self.outcomes if outcome.accuracy >= self.bar]

    @property
    def stopped(self) -> list[Outcome]:
        """Runs that the callback has stopped."""
        return [outcome for outcome in self.outcomes if outcome.first.stopped]

    @property
    def lost(self) -> list[Outcome]:
        """Good runs that were stopped by mistake."""
        return [outcome for outcome in self.good if outcome.first.stopped]

    @property
    def best(self) -> Outcome:
        """The run with the highest true accuracy."""
        return max(self.outcomes, key=lambda outcome: outcome.accuracy)

    @property
    def spent(self) -> float:
        """Epochs trained with the callback."""
        return sum(outcome.first.epochs for outcome in self.outcomes)

    @property
    def whole(self) -> int:
        """Epochs of the same sweep without stopping."""
        return sum(outcome.config.epochs for outcome in self.outcomes)

    def lines(self) -> list[str]:
        """The sweep in words and numbers."""
        low = len(self.outcomes) - len(self.good)
        caught = len(self.stopped) - len(self.lost)
        kept = "lost" if self.best.first.stopped else "kept"
        errors = [abs(o.predicted - o.accuracy) for o in self.outcomes if o.predicted is not None]
        return [
            f"epochs trained: {self.spent:.1f} of {self.whole}, {1 - self.spent / self.whole:.0%} saved",
            f"low runs stopped: {caught} of {low} (final accuracy below {self.bar:.0%})",
            f"good runs stopped by mistake: {len(self.lost)} of {len(self.good)}",
            f"best run: {kept} ({self.best.accuracy:.1%}, learning rate {self.best.config.learning_rate:g})",
            f"last prediction against truth: {100 * sum(errors) / max(len(errors), 1):.1f} points mean error",
        ]


def table_of(outcomes: Sequence[Outcome], bar: float) -> Table:
    """A table with one line a configuration, by learning rate; 80 columns wide at most."""
    table = Table(title="LeNet on digits: what the callback did, and what would have come")
    for name in ("learning rate", "dropout", "trained", "predicted", "true final", "saved"):
        table.add_column(name, justify="right", no_wrap=True)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.config.learning_rate):
        epochs, stopped = outcome.first.epochs, outcome.first.stopped
        mistake = stopped and outcome.accuracy >= bar
        if mistake:
            table.caption = "* a good run, stopped by mistake"
        table.add_row(
            f"{outcome.config.learning_rate:g}",
            f"{outcome.config.dropout:.3f}",
            f"stopped {epochs:.2f}" if stopped else f"to {epochs:g}",
            "-" if outcome.predicted is None else f"{outcome.predicted:.1%}",
            f"{outcome.accuracy:.1%}{' *' if mistake else ''}",
            f"{outcome.config.epochs - epochs:.1f}" if stopped else "",
        )
    return table


def write_csv(outcomes: Sequence[Outcome], file: Path) -> None:
    """The same table for programs; accuracies are fractions."""
    names = ("learning_rate", "dropout", "seed", "stopped", "epochs", "predicted", "accuracy", "reason")
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for outcome in outcomes:
            config, first = outcome.config, outcome.first
            reason = first.callback.decision.reason if first.callback is not None else ""
            writer.writerow(
                (
                    *(config.learning_rate, config.dropout, config.seed, first.stopped, first.epochs),
                    *(outcome.predicted, outcome.accuracy, reason),
                )
            )
