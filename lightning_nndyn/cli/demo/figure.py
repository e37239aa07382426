"""The demo's picture: predicted accuracy over epochs, and predicted against true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn.cli.demo.summary import Outcome
from lightning_nndyn.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(outcomes: Sequence[Outcome], bar: float, file: Path) -> None:
    """Writes the picture as PNG.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "The picture") from error
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    over_epochs, against_truth = figure.subplots(1, 2, width_ratios=(3, 2))
    colour = colormaps["viridis"]
    for outcome in outcomes:
        _line(over_epochs, outcome, colour(outcome.accuracy))
    _label_epochs(over_epochs)
    _scatter(against_truth, outcomes, bar, colour)
    figure.suptitle("LeNet on digits: final accuracy, predicted from the weights as they move")
    figure.savefig(file)


def _line(axes: Axes, outcome: Outcome, colour: Any) -> None:
    verdicts = outcome.first.callback.verdicts if outcome.first.callback is not None else []
    if not verdicts:
        return
    epochs = [verdict.epoch for verdict in verdicts]
    predicted = [100 * verdict.predicted_accuracy for verdict in verdicts]
    axes.plot(epochs, predicted, color=colour, linewidth=1.5)
    if outcome.first.stopped:
        axes.plot(epochs[-1], predicted[-1], marker="X", markersize=9, color=colour, markeredgecolor="black")
    else:
        axes.plot(epochs[-1], predicted[-1], marker="o", markersize=4, color=colour)


def _label_epochs(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    ticks = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 5)
    axes.set_xticks(ticks, ["1/16", "1/8", "1/4", "1/2", "1", "2", "3", "5"])
    axes.minorticks_off()
    axes.set(xlabel="epoch", ylabel="predicted final accuracy, %", ylim=(0, 103))
    axes.set_title("predictions (a cross: stopped there; colour: true accuracy)", fontsize=10)
    axes.grid(alpha=0.3)


def _scatter(axes: Axes, outcomes: Sequence[Outcome], bar: float, colour: Any) -> None:
    for outcome in outcomes:
        if outcome.predicted is not None:
            axes.plot(
                100 * outcome.accuracy,
                100 * outcome.predicted,
                marker="X" if outcome.first.stopped else "o",
                markersize=9,
                color=colour(outcome.accuracy),
                markeredgecolor="black",
            )
    axes.plot((0, 100), (0, 100), color="grey", linewidth=1)
    axes.axvline(100 * bar, color="grey", linestyle=":", linewidth=1)
    axes.text(100 * bar, 3, "low | good", ha="center", fontsize=8, color="grey", backgroundcolor="white")
    axes.set(xlabel="true final accuracy, %", ylabel="last prediction, %", xlim=(0, 103), ylim=(0, 103))
    axes.grid(alpha=0.3)
