"""`nndyn report --text`: a table of recorded runs, on a terminal and in a pipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from report_runs import accuracy, records, write_recorded
from rich.console import Console
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.cli.report_table import text_table
from lightning_nndyn.evaluation.report.records import load


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven runs that were observed, one that was stopped, one that an audit has spared."""
    return write_recorded(tmp_path_factory.mktemp("sweep"))


def printed(folder: Path, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(text_table(load([folder])))
    return console.file.getvalue()


def test_runs_stand_best_first_with_what_became_of_them_and_why(sweep: Path) -> None:
    lines = printed(sweep / "lightning_logs", 200).splitlines()
    rows = [line for line in lines if "version_" in line]
    assert len(rows) == 9 and "best val_accuracy" in lines[1]
    best = sorted((accuracy(one) for one in records(sweep)), reverse=True)
    assert f"{best[0]:.4g}" in rows[0] and f"{best[-1]:.4g}" in rows[-1]
    stopped = [row for row in rows if "│ stopped" in row]
    assert len(stopped) == 1 and "predicted final accuracy" in stopped[0]
    assert sum("│ would stop" in row for row in rows) >= 3
    assert lines[-1].startswith("9 runs: 1 stopped, ") and "planned epochs trained" in lines[-1]


def test_in_80_columns_reasons_stand_below_and_are_whole(sweep: Path) -> None:
    text = printed(sweep / "lightning_logs", 80)
    assert max(map(len, text.splitlines())) <= 80
    joined = " ".join(text.split())
    assert "threshold that was set) after 0.0625 epochs" in joined and "Not stopped:" in joined


def test_the_command_prints_a_table_and_writes_no_page(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["report", "--text", str(sweep)])
    assert found.exit_code == 0 and "9 runs: 1 stopped" in found.output and "\x1b[" not in found.output
    assert not list(tmp_path.iterdir())
    part = CliRunner().invoke(app, ["report", "--text", str(sweep), str(tmp_path)])
    assert part.exit_code == 1 and "9 runs" in part.output and "left out: no records" in part.output


def test_a_metric_that_is_to_fall_is_shown_lowest_first(sweep: Path, tmp_path: Path) -> None:
    for number, file in enumerate(sorted(sweep.rglob("nndyn-*.json"))[:3]):
        record = json.loads(file.read_text())
        record |= {"monitor": "val_loss", "mode": "min", "accuracies": []}
        record["metrics"]["val_loss"] = [3.5 - number, 3.0 - number]
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / file.name).write_text(json.dumps(record))
    rows = [line for line in printed(tmp_path, 200).splitlines() if "│" in line]
    assert [row.split("│")[3].strip() for row in rows] == ["1", "2", "3"]
