"""The house style: labels in the colours of what they name, apart from each other."""

import re
from pathlib import Path

import pytest

from lightning_nndyn.evaluation.figures import COLOURS, draw_lines, draw_points

pytestmark = pytest.mark.needs("matplotlib")


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_colours_stand_out_on_light_and_on_dark_pages() -> None:
    dark = luminance("#1e2129")  # of the site
    for colour in (*COLOURS, "#808080"):
        assert 1.05 / (luminance(colour) + 0.05) >= 3 and (luminance(colour) + 0.05) / (dark + 0.05) >= 3


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    lines = {"weights": [(0.25, 0.4), (1.0, 0.6)], "accuracy": [(1.0, 0.6)]}
    groups = {"nothing": {"a": (30.0, 0.6)}, "all": {"b": (31.0, 0.6), "c": (80.0, 0.0)}}
    for name in ("one", "two"):
        draw_lines(lines, tmp_path / name / "lines.svg", x="epochs", y="rank")
        draw_points(groups, tmp_path / name / "points.svg", x="epochs", y="missed")
    for file in ("lines.svg", "points.svg"):
        text = (tmp_path / "one" / file).read_text()
        assert text == (tmp_path / "two" / file).read_text()
        assert COLOURS[0].lower() in text and COLOURS[1].lower() in text
        assert not re.search("fill: #ffffff", text)  # the page shows through
