"""The demo's figure: predicted accuracy over epochs, and predicted against true accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn.cli.demo.summary import DemoRun, DemoSummary
from lightning_nndyn.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(summary: DemoSummary, file: Path) -> None:
    """Write the figure as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "The picture") from error
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    over_epochs, against_truth = figure.subplots(1, 2, width_ratios=(3, 2))
    colour = colormaps["viridis"]
    for run in summary.runs:
        _line(over_epochs, run, colour(run.accuracy))
    _label_epochs(over_epochs)
    _scatter(against_truth, summary, colour)
    figure.suptitle("LeNet on digits: final accuracy, predicted from the weights as they move")
    figure.savefig(file)


def _line(axes: Axes, run: DemoRun, colour: Any) -> None:
    verdicts = run.first.callback.verdicts if run.first.callback is not None else []
    if not verdicts:
        return
    epochs = [verdict.epoch for verdict in verdicts]
    predicted = [100 * verdict.predicted_accuracy for verdict in verdicts]
    axes.plot(epochs, predicted, color=colour, linewidth=1.5)
    if run.first.stopped:
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


def _scatter(axes: Axes, summary: DemoSummary, colour: Any) -> None:
    for run in summary.runs:
        if run.predicted is not None:
            axes.plot(
                100 * run.accuracy,
                100 * run.predicted,
                marker="X" if run.first.stopped else "o",
                markersize=9,
                color=colour(run.accuracy),
                markeredgecolor="black",
            )
    axes.plot((0, 100), (0, 100), color="grey", linewidth=1)
    threshold = 100 * summary.low_threshold
    axes.axvline(threshold, color="grey", linestyle=":", linewidth=1)
    axes.text(threshold, 3, "low | good", ha="center", fontsize=8, color="grey", backgroundcolor="white")
    axes.set(xlabel="true final accuracy, %", ylabel="last prediction, %", xlim=(0, 103), ylim=(0, 103))
    axes.grid(alpha=0.3)
