"""The file of a race."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mutations import mutations

from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.race_journal import RungResult, open_journal
from lightning_nndyn.sweep import SweepReading

SETTINGS = {"candidates": [1], "rungs": [[1, 0.5]]}


def test_lines_have_the_keys_of_earlier_releases(tmp_path: Path) -> None:
    line = {
        "candidate": 0, "number": 1, "predicted": 0.25, "seen": 0.5, "value": None, "out": "failed",
        "strange": "too deep", "seconds": 1.5,
    }  # fmt: skip
    result = RungResult(0, 1, 0.25, 0.5, None, "failed", "too deep", 1.5)
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        journal.add(result)
    assert (tmp_path / "r").read_text().splitlines() == [json.dumps(SETTINGS), json.dumps(line)]
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        assert journal.results == {(1, 0): result}


def test_readings_are_kept(tmp_path: Path) -> None:
    readings = (SweepReading(0.0625, (0.1, 1e-9), (2.25,)), SweepReading(0.25))
    result = RungResult(0, 0, readings=readings)
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        journal.add(result)
    line = json.loads((tmp_path / "r").read_text().splitlines()[1])
    assert line["readings"][1] == {"time": 0.25, "weights": [], "curve": []}
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        assert journal.results == {(0, 0): result}


@pytest.mark.parametrize("strange", [1, None, [1], [{"time": "x"}], [{"time": 1.0, "weights": [None]}]])
def test_strange_readings_are_named(tmp_path: Path, strange: object) -> None:
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        journal.add(RungResult(0, 0))
    with (tmp_path / "r").open("a") as file:
        file.write(json.dumps({"candidate": 1, "number": 0, "readings": strange}) + "\n")
    with pytest.raises(SweepError, match="is no result of a race"), open_journal(tmp_path / "r", SETTINGS):
        pass


def test_another_race_s_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "r"
    with open_journal(file, SETTINGS) as journal:
        journal.add(RungResult(0, 0, 0.5))
        with (
            pytest.raises(SweepError, match="another process runs this race"),
            open_journal(file, SETTINGS),
        ):
            pass
    before = file.read_bytes()
    with (
        pytest.raises(SweepError, match=r"other rungs: \[\[1, 0.5\]\] there, \[\[2, 0.5\]\] here"),
        open_journal(file, {"candidates": [1], "rungs": [[2, 0.5]]}),
    ):
        pass
    file.write_bytes(before + b"not JSON\n")
    with pytest.raises(SweepError, match="is no race's file"), open_journal(file, {}):
        pass
    assert file.read_bytes() == before + b"not JSON\n"
    file.write_bytes(before + b'{"epoch": 1}\n')
    with (
        pytest.raises(SweepError, match=r'holds {"epoch": 1}, which is no result of a race'),
        open_journal(file, SETTINGS),
    ):
        pass
    with pytest.raises(SweepError, match="cannot be opened"), open_journal(tmp_path, {}):
        pass


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    with open_journal(tmp_path / "r", SETTINGS) as journal:
        journal.add(RungResult(0, 0, 0.5, 0.25, 0.5, "", "", 1.5))
    first, line = (tmp_path / "r").read_text().splitlines()
    refused = 0
    for _, mutated in mutations(json.loads(line)):
        (tmp_path / "r").write_text(f"{first}\n{json.dumps(mutated)}\n")
        try:
            with open_journal(tmp_path / "r", SETTINGS) as journal:
                assert len(journal.results) == 1
        except SweepError as error:
            refused += 1
            assert str(tmp_path / "r") in str(error)
    assert refused > 80
    for strange in ("[" * 10**5, "[]", "null", '"text"', "\\xff"):
        (tmp_path / "r").write_text(f"{first}\n{strange}\n")
        with (
            pytest.raises(SweepError, match=r"is no race's file|is no result"),
            open_journal(tmp_path / "r", SETTINGS),
        ):
            pass
