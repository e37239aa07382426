"""A small figure: predicted accuracy over epochs, the validation accuracy beside it, the decision marked.

It is drawn on a canvas of its own, so that neither pyplot's figures nor its backend are touched.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_nndyn.callback.loggers.summary import RunSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_WIDTH = 88
"""Characters in a line of the title."""


@dataclass(frozen=True)
class RunFigure:
    """A figure and the canvas that it is on, a `FigureCanvasAgg`."""

    figure: Figure
    canvas: Any  # its methods carry no types

    def pixels(self) -> NDArray[np.uint8]:
        """Red, green and blue: `[height, width, 3]`."""
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[:, :, :3].copy()


def draw(summary: RunSummary) -> RunFigure:
    """Draws a run's predictions.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    _predictions(axes, summary)
    _accuracies(axes, summary)
    _decision(axes, summary)
    _label(axes, summary)
    # A dollar sign in a metric's name does not begin a formula.
    title = textwrap.fill(summary.text, _WIDTH)
    figure.suptitle(title, fontsize=8, parse_math=False)
    return RunFigure(figure, canvas)


def _predictions(axes: Axes, summary: RunSummary) -> None:
    shown = [v for v in summary.verdicts if math.isfinite(v.predicted_accuracy)]
    points = [(v.epoch, 100 * v.predicted_accuracy) for v in shown]
    out_of_domain = [point for point, verdict in zip(points, shown, strict=True) if not verdict.in_domain]
    blue: dict[str, Any] = {"color": "tab:blue", "marker": "o", "markersize": 4}
    if points:
        axes.plot(*_columns(points), label="predicted final accuracy", **blue)
    if out_of_domain:
        hollow = {**blue, "linestyle": "none", "markerfacecolor": "white"}
        axes.plot(*_columns(out_of_domain), label="of a run that the predictor does not know", **hollow)


def _accuracies(axes: Axes, summary: RunSummary) -> None:
    # A run that is stopped within an epoch is validated there, not at the epoch's end.
    last = summary.epoch if summary.decision == "stop" else math.inf
    known = [(e, value) for e, value in enumerate(summary.accuracies, start=1) if math.isfinite(value)]
    scale = 100 if summary.verdicts else 1
    points = [(min(epoch, last), scale * value) for epoch, value in known]
    if points:
        axes.plot(*_columns(points), color="grey", marker=".", linestyle="--", label=summary.monitor)


def _decision(axes: Axes, summary: RunSummary) -> None:
    if summary.decision != "go on":
        label = "stopped" if summary.decision == "stop" else "would have been stopped"
        axes.axvline(summary.epoch, color="tab:red", linewidth=1.2, label=label)


def _label(axes: Axes, summary: RunSummary) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    if all(verdict.epoch > 0 for verdict in summary.verdicts) and summary.epoch > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.xaxis.set_minor_locator(NullLocator())
    unit = "epoch" if summary.steps is None else f"epoch of {summary.steps} optimizer steps"
    axes.set_xlabel(unit)
    if summary.verdicts:
        axes.set(ylabel="accuracy, %", ylim=(0, 103))
    else:  # then the sweep alone has judged, which takes any metric
        axes.set_ylabel(summary.monitor, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")


def _tick(epoch: float, _: object) -> str:
    return f"{epoch:g}" if epoch >= 1 or not epoch else f"1/{1 / epoch:g}"


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
