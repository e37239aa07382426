"""The file of rows, and the summary."""

from pathlib import Path

import pytest

from lightning_nndyn.evaluation import Row
from lightning_nndyn.evaluation.benchmark.results import (
    knows,
    published_parts,
    rank_lines,
    write_results,
    write_summary,
)

pytestmark = pytest.mark.needs("pyarrow", "matplotlib")


def row(method: str, t: float = 1.0, value: float | None = 0.5, band: str = "trainable") -> Row:
    return Row("c", band, method, t, "spearman", value, None, None, 30)


def test_parts_come_back_from_their_file_the_empty_ones_too(tmp_path: Path) -> None:
    parts = {"a": [row("fused"), row("fused", value=None)], "b": [], "c": [row("losses")]}
    write_results(parts, tmp_path)
    found = published_parts(tmp_path)
    assert {key: [Row(**one) for one in part["rows"]] for key, part in found.items()} == parts
    assert published_parts(tmp_path / "nowhere") == {}


def test_rows_say_what_their_method_knows() -> None:
    assert knows(row("power-law")) == knows(row("loss-sum", band="without sgd")) == "nothing"
    assert knows(row("fused")) == knows(row("own-30", band="own sweep")) == "network and data"
    assert knows(row("fused", band="without sgd")) == knows(row("universal", band="own sweep"))
    assert knows(row("graph-paper-svm", band="from lenet5-digits")) == "network or data"
    assert knows(row("mean-of-high")) is None


def test_a_summary_shows_a_few_methods_or_those_that_were_asked_for(tmp_path: Path) -> None:
    found = [row(name, value=value) for name, value in (("curves", 0.6), ("graph-v2", 0.7), ("losses", 0.1))]
    assert rank_lines(found, 1.0) == {"c": {"graph-v2": 0.7, "curves": 0.6}}
    assert rank_lines(found[2:], 1.0) == {"c": {"losses": 0.1}}
    page = write_summary(found, tmp_path).read_text()
    assert "| corpus | weights | losses and curve |" in page and "| c | 0.70 | 0.60 |" in page
    assert (tmp_path / "predictions-c.svg").exists() and "](predictions-c.svg)" in page


def test_a_summary_of_runs_that_were_stopped_has_intervals(splits: list[Row], tmp_path: Path) -> None:
    page = write_summary(splits, tmp_path).read_text()
    assert "| corpus | good runs stopped, % | low runs stopped, % |" in page and " to " in page
    assert "svg" not in page
