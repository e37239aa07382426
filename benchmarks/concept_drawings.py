"""The drawings of the pages of concepts: which nodes a graph has, and what joins them.

Usage: python benchmarks/concept_drawings.py

Writes docs/concepts/*.svg. Colours are those of the house's figures, and read on light and on dark pages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from lightning_nndyn.evaluation.figures import COLOURS, INK

FOLDER = Path(__file__).parent.parent / "docs" / "concepts"

BLUE, RED, GREEN, _ = COLOURS
_HEIGHT = 30  # of a box, pixels
_LETTER = 7.6  # the width of a letter
_MARGIN = 12


@dataclass(frozen=True)
class Box:
    """A node or a layer, by the middle of its box."""

    x: float
    y: float
    text: str
    colour: str = INK
    dashed: bool = False

    @property
    def half_width(self) -> float:
        """From the middle to the left or right side."""
        return len(self.text) * _LETTER / 2 + 10


@dataclass(frozen=True)
class Arrow:
    """What leads from one box to another; its text stands above the line, `at` a share of its length."""

    start: str
    end: str
    text: str = ""
    colour: str = INK
    at: float = 0.5


@dataclass(frozen=True)
class Drawing:
    """Boxes by their names, arrows between them, and titles (x, y, text)."""

    boxes: Mapping[str, Box]
    arrows: Sequence[Arrow]
    titles: Sequence[tuple[float, float, str]] = ()
    heads: bool = True

    def svg(self) -> str:
        """The drawing as an SVG file's text."""
        sides = [
            side for box in self.boxes.values() for side in (box.x - box.half_width, box.x + box.half_width)
        ]
        heights = [box.y for box in self.boxes.values()]
        left, right = min(sides) - _MARGIN, max(sides) + _MARGIN
        top = min([*(y - _HEIGHT / 2 for y in heights), *(y - 12 for _, y, _ in self.titles)]) - _MARGIN
        bottom = max(heights) + _HEIGHT / 2 + _MARGIN
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" '
                f'viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}"'
                f' width="{right - left:g}" font-family="sans-serif" font-size="14" text-anchor="middle">',
                *(line for arrow in self.arrows for line in self._arrow(arrow)),
                *(line for box in self.boxes.values() for line in _box(box)),
                *(_text(x, y, text, INK) for x, y, text in self.titles),
                "</svg>\n",
            ]
        )

    def _arrow(self, arrow: Arrow) -> Iterator[str]:
        start, end = self.boxes[arrow.start], self.boxes[arrow.end]
        x, y = start.x + start.half_width, start.y
        to_x, to_y = end.x - end.half_width, end.y
        yield (
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" '
            f'stroke="{arrow.colour}" stroke-width="1.8"/>'
        )
        angle = math.degrees(math.atan2(to_y - y, to_x - x))
        if self.heads:
            yield (
                f'<path d="M0 0 l-9 -4.5 v9 z" fill="{arrow.colour}" '
                f'transform="translate({to_x:g} {to_y:g}) rotate({angle:.1f})"/>'
            )
        if arrow.text:
            middle = f"{x + arrow.at * (to_x - x):.1f} {y + arrow.at * (to_y - y):.1f}"
            yield (
                f'<text y="-6" font-size="13" fill="{arrow.colour}" '
                f'transform="translate({middle}) rotate({angle:.1f})">{escape(arrow.text)}</text>'
            )


def _box(box: Box) -> Iterator[str]:
    dashes = ' stroke-dasharray="5 4"' if box.dashed else ""
    yield (
        f'<rect x="{box.x - box.half_width:g}" y="{box.y - _HEIGHT / 2:g}" width="{2 * box.half_width:g}" '
        f'height="{_HEIGHT}" rx="8" fill="none" stroke="{box.colour}" stroke-width="1.8"{dashes}/>'
    )
    yield _text(box.x, box.y + 5, box.text, box.colour)


def _text(x: float, y: float, text: str, colour: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}">{escape(text)}</text>'


def _rolled() -> Drawing:
    """Input channels, two filters and two neurons; three of the edges say what they weigh."""
    columns = [
        (0, ("red", "green", "blue"), (0, 80, 160)),
        (270, ("filter 1", "filter 2"), (30, 130)),
        (560, ("neuron 1", "neuron 2"), (30, 130)),
    ]
    colours = (INK, BLUE, RED)
    boxes = {
        name: Box(x, y, name, colour)
        for (x, names, heights), colour in zip(columns, colours, strict=True)
        for name, y in zip(names, heights, strict=True)
    }
    says = {
        ("red", "filter 1"): "norm of K[1, red]",
        ("blue", "filter 2"): "norm of K[2, blue]",
        ("filter 1", "neuron 1"): "norm of W[1, filter 1]",
    }
    layers = [names for _, names, _ in columns]
    arrows = [
        Arrow(start, end, says.get((start, end), ""), boxes[end].colour)
        for sources, targets in itertools.pairwise(layers)
        for start in sources
        for end in targets
    ]
    titles = [(0, -38, "input"), (270, -38, "convolution"), (560, -38, "linear layer")]
    return Drawing(boxes, arrows, titles, heads=False)


def _block(*arrows: Arrow, left_out: bool) -> Drawing:
    """A residual block with a projection beside it."""
    boxes = {
        "input": Box(0, 80, "input"),
        "conv1": Box(130, 80, "conv1", BLUE),
        "project": Box(
            320, 0, "project: left out" if left_out else "project", INK if left_out else BLUE, left_out
        ),
        "conv2": Box(250, 80, "conv2", BLUE),
        "conv3": Box(390, 80, "conv3", BLUE),
        "fc": Box(580, 80, "fc", BLUE),
    }
    main = [("input", "conv1"), ("conv1", "conv2"), ("conv2", "conv3")]
    return Drawing(boxes, [*(Arrow(*ends, colour=BLUE) for ends in main), *arrows])


def _concatenation() -> Drawing:
    boxes = {
        "down": Box(0, 0, "down, 4 channels", BLUE),
        "below": Box(0, 80, "below, 4 channels", RED),
        "up": Box(360, 40, "up, reads both"),
    }
    return Drawing(boxes, [Arrow("down", "up", "K[:, :4]", BLUE), Arrow("below", "up", "K[:, 4:]", RED)])


def _attention() -> Drawing:
    boxes = {"x": Box(0, 90, "x"), "out": Box(480, 90, "output projection")}
    boxes |= {
        name: Box(130, y, name, colour)
        for name, y, colour in (("queries", 0, BLUE), ("keys", 90, BLUE), ("values", 180, RED))
    }
    says = {"queries": "norm over the head", "keys": "norm over the head", "values": "|W|, one input each"}
    arrows = [Arrow("x", name, colour=boxes[name].colour) for name in says]
    arrows += [Arrow(name, "out", text, boxes[name].colour, at=0.4) for name, text in says.items()]
    return Drawing(boxes, arrows)


def _ranking() -> Drawing:
    boxes = {
        "runs": Box(0, 40, "runs at 1/4 epoch"),
        "ranks": Box(160, 40, "ranks"),
        "cohort": Box(265, 40, "cohort"),
        "standing": Box(415, 40, "expected standing"),
        "on": Box(660, 0, "goes on", BLUE),
        "stop": Box(660, 80, "stops", RED),
    }
    arrows = [Arrow("runs", "ranks"), Arrow("ranks", "cohort"), Arrow("cohort", "standing")]
    arrows += [Arrow("standing", "on", "in the best share", BLUE), Arrow("standing", "stop", "below", RED)]
    return Drawing(boxes, arrows)


DRAWINGS = {
    "rolled": _rolled(),
    "chain": _block(Arrow("conv3", "fc", "norms of W", BLUE), left_out=True),
    "dataflow": _block(
        Arrow("conv1", "project", colour=BLUE),
        Arrow("conv3", "fc", "|W|", BLUE),
        Arrow("project", "fc", "|W|, the same", BLUE),
        left_out=False,
    ),
    "concatenation": _concatenation(),
    "attention": _attention(),
    "ranking": _ranking(),
}
"""Drawings by the names of their files."""


if __name__ == "__main__":
    for name, drawing in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(drawing.svg(), encoding="utf-8")
