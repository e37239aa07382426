"""Tables and figures of false-stop rates."""

from __future__ import annotations

from pathlib import Path

from made_up_corpora import three

from lightning_nndyn.evaluation.benchmark.false_stop_rates import unknown_rows
from lightning_nndyn.evaluation.benchmark.false_stop_tables import draw_reliability, false_stop_chapters
from lightning_nndyn.evaluation.benchmark.few_own_runs import own_rows
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.tables import chapters_report
from lightning_nndyn.evaluation.dataset import concatenate


def test_readers_get_tables_and_a_picture(tmp_path: Path, splits: list[Row]) -> None:
    union = concatenate(three(), "universal")
    rows = [
        *splits,
        *unknown_rows(union, union.populations == "one on one", "without one on one"),
        *own_rows(union, three()[0]),
    ]
    text = chapters_report("", false_stop_chapters(rows))
    for title in ("Good runs that were stopped", "never seen", "Thirty runs", "Probabilities"):
        assert title in text
    draw_reliability(rows, tmp_path)
    assert (tmp_path / "one-reliability.png").stat().st_size > 5000
    assert chapters_report("", false_stop_chapters([])) == ""
