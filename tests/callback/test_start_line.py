"""The one line at a run's start says where the record goes, as a user would type it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from callback_runs import Digits, trainer, watcher
from digits_runs import GOOD

from lightning_nndyn.callback.start_line import _from_here


def test_the_record_is_named_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    callback = watcher(monitor="val_accuracy", verbose=True, record=tmp_path / "logs")
    with caplog.at_level("INFO"):
        trainer(callback, max_epochs=1).fit(Digits(GOOD, validate=True))
    (file,) = (tmp_path / "logs").glob("nndyn-*.json")
    (line,) = [record.message for record in caplog.records if "record: " in record.message]
    assert (
        line.endswith(f"record: {file.relative_to(tmp_path)}")
        and Path(line.partition("record: ")[2]).exists()
    )


def test_a_record_elsewhere_keeps_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, file = tmp_path / "here", tmp_path / "logs" / "nndyn-1.json"
    here.mkdir()
    monkeypatch.chdir(here)
    assert _from_here(file) == file


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a working directory from being deleted")
def test_a_working_directory_that_was_deleted_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    assert _from_here(tmp_path / "nndyn-1.json") == tmp_path / "nndyn-1.json"
    monkeypatch.undo()
