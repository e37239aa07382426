"""The house style of figures. It reads on light and on dark pages, for colour-blind readers too.

A figure answers one question, has four lines at most, and names each of them where it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.evaluation.markdown import epochs_text

COLOURS = ("#2E86C8", "#D55E00", "#009E73", "#CC79A7")
"""Okabe's and Ito's, blue a little lighter: each has a contrast of 3 to a white page and to a dark one."""

INK = "#808080"  # of axes and text: as far from white as from black
_SIZE = (6.4, 3.8)  # inches
_LABEL_GAP = 0.06  # between two labels, a share of the axes' height
_LETTER = 0.018  # the width of a letter, a share of the axes' width

Point = tuple[float, float]


def draw_lines(lines: Mapping[str, Sequence[Point]], file: Path, *, x: str, y: str) -> None:
    """Draw values over time; the axis of time is logarithmic.

    Args:
        lines: points (epochs, value) by the line's name, four lines at most.
        file: SVG to write.
        x: title of the horizontal axis.
        y: of the vertical one.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _figure(x, y)
    for colour, points in zip(COLOURS, lines.values(), strict=False):
        axes.plot(*zip(*points, strict=True), color=colour, lw=2, marker="o", ms=4)
    times = sorted({time for points in lines.values() for time, _ in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(times, [epochs_text(time) for time in times])
    axes.minorticks_off()
    ends = {name: points[-1] for name, points in lines.items()}
    _label(axes, ends, dict(zip(ends, COLOURS, strict=False)))
    _save(figure, file)


def draw_points(groups: Mapping[str, Mapping[str, Point]], file: Path, *, x: str, y: str) -> None:
    """Draw named points; those of one group share a colour.

    Args:
        groups: points by their names, by the group's name; four groups at most.
        file: SVG to write.
        x: title of the horizontal axis, which begins at zero.
        y: of the vertical one, which begins at zero.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, axes = _figure(x, y)
    colours: dict[str, str] = {}
    for colour, points in zip(COLOURS, groups.values(), strict=False):
        axes.plot(*zip(*points.values(), strict=True), color=colour, ls="", marker="o", ms=8, clip_on=False)
        colours |= dict.fromkeys(points, colour)
    axes.margins(0.08)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _label(axes, {name: point for points in groups.values() for name, point in points.items()}, colours)
    _save(figure, file)


def _figure(x: str, y: str) -> tuple[Any, Any]:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots", "drawing results") from error
    matplotlib.rcParams["svg.hashsalt"] = "nndyn"  # the same bytes for the same figure
    figure: Any = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=INK, alpha=0.25, lw=0.8)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    return figure, axes


def _label(axes: Any, points: Mapping[str, Point], colours: Mapping[str, str]) -> None:
    """Write names beside points, each in its colour; to the left, above or below where there is no room."""
    to_axes = axes.transData + axes.transAxes.inverted()
    places = {name: to_axes.transform(point) for name, point in points.items()}
    taken = [_Box(x, x, y) for x, y in places.values()]
    for name, (x, y) in sorted(places.items(), key=lambda item: (-item[1][1], item[1][0])):
        box = next(one for one in _boxes_beside(x, y, len(name) * _LETTER) if not one.hits(taken))
        taken.append(box)
        left = box.left > x
        axes.text(
            box.left if left else box.right,
            box.height,
            name,
            transform=axes.transAxes,
            ha="left" if left else "right",
            va="center",
            color=colours[name],
            weight="bold",
        )


class _Box(NamedTuple):
    """Where a name stands, as shares of the axes."""

    left: float
    right: float
    height: float

    def hits(self, others: Iterable[_Box]) -> bool:
        return any(
            other.left < self.right + 0.01
            and self.left < other.right + 0.01
            and abs(other.height - self.height) < 0.95 * _LABEL_GAP
            for other in others
        )


def _boxes_beside(x: float, y: float, width: float) -> Iterator[_Box]:
    """Places for a name beside a point, the nearest first."""
    for step in (0, 1, -1, 2, -2, 3, 4, 5, 6, 7, 8):
        height = y + step * _LABEL_GAP
        if height >= 0.02:  # above the axis
            yield _Box(x + 0.02, x + 0.02 + width, height)
            if x - 0.02 - width >= 0:
                yield _Box(x - 0.02 - width, x - 0.02, height)


def _save(figure: Any, file: Path) -> None:
    """Write an SVG, the same bytes for the same figure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})
