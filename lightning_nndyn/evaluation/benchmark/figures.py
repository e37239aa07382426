"""Figures of an evaluation: methods over time, and how well probabilities are calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.evaluation.benchmark.false_stop_rates import NUM_BINS, RELIABILITY
from lightning_nndyn.evaluation.benchmark.scores import Row, distinct, select
from lightning_nndyn.evaluation.benchmark.tables import PERCENTAGES, TITLES, epochs_text

_COLOURS, _STYLES = 10, ("-", "--", ":")


def draw(rows: Sequence[Row], corpus: str, band: str, metric: str, file: Path) -> None:
    """Draw methods over time with their intervals.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = subplots()
    chosen = select(rows, corpus=corpus, band=band, metric=metric)
    times = sorted({row.t for row in chosen})
    for number, method in enumerate(distinct(chosen, "method")):
        style = _STYLES[number // _COLOURS % len(_STYLES)]  # there are more methods than colours
        scale = 100 if metric in PERCENTAGES else 1
        line_with_interval(
            axes, select(chosen, method=method), times, scale, {"alpha": 0.08}, ls=style, label=method
        )
    axes.set_xticks(range(len(times)), [epochs_text(time) for time in times])
    axes.set(xlabel="decision after epochs", ylabel=TITLES[metric], title=f"{corpus}, {band} runs")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


def line_with_interval(
    axes: Any, rows: Sequence[Row], times: Sequence[float], scale: float, band: dict[str, Any], **line: Any
) -> None:
    """Draw the values of rows at evenly spaced times, and their intervals as a band of the same colour."""
    known = [row for row in rows if row.value is not None]
    x = [times.index(row.t) for row in known]
    values, low, high = (
        [scale * (getattr(row, name) or 0) for row in known] for name in ("value", "low", "high")
    )
    (drawn,) = axes.plot(x, values, **line)
    axes.fill_between(x, low, high, color=drawn.get_color(), **band)


def draw_reliability(rows: Sequence[Row], folder: Path) -> None:
    """Draw the share of low runs against their predicted probability, one figure for each corpus.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    chosen = [row for row in rows if row.metric.startswith(RELIABILITY) and row.value is not None]
    for corpus in distinct(chosen, "corpus"):
        figure, axes = subplots(size=(5, 4.5))
        axes.plot([0, 1], [0, 1], ":", color="grey", label="as promised")
        own = select(chosen, corpus=corpus)
        for method, time in distinct(own, "method", "t"):
            points = sorted(
                (float(row.metric.removeprefix(RELIABILITY)), row.value or 0)
                for row in select(own, method=method, t=time)
            )
            axes.plot(*zip(*points, strict=True), "o-", label=f"{method}, after {epochs_text(time)}")
        axes.set(xlabel="probability of ending low", ylabel="share that did", title=corpus)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks([step / NUM_BINS for step in range(NUM_BINS + 1)])
        axes.legend(fontsize="small")
        save(figure, folder / f"{corpus}-reliability.png")


def subplots(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 4.5)) -> tuple[Any, Any]:
    """A matplotlib figure of that size in inches, and its axes, an array where there are several.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing results") from error
    figure: Any = Figure(figsize=size)
    return figure, figure.subplots(rows, columns)


def save(figure: Any, file: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    figure.savefig(file, dpi=120, bbox_inches="tight", metadata={"Software": None})
