"""Rows on disk: nothing is lost, nothing is written twice, and damage is no error."""

from pathlib import Path

import pytest

from lightning_nndyn.evaluation.result_file import read_rows, write_rows

pytestmark = pytest.mark.needs("pyarrow")

ROWS = [{"method": "a", "t": 0.25, "value": None}, {"method": "b", "t": 1.0, "value": 0.1}]


def test_rows_and_notes_come_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "new" / "rows.parquet", ROWS, {"sweeps": 3})
    assert read_rows(tmp_path / "new" / "rows.parquet") == (ROWS, {"sweeps": 3})


def test_a_file_that_holds_the_same_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    write_rows(file, ROWS)
    before = file.stat().st_mtime_ns, file.read_bytes()
    write_rows(file, ROWS)
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    write_rows(file, ROWS, {"sweeps": 3})
    assert read_rows(file)[1] == {"sweeps": 3}


def test_a_missing_or_damaged_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no more")
    assert read_rows(tmp_path / "rows.parquet") == read_rows(tmp_path / "nowhere.parquet") == ([], {})
