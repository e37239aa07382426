"""The record of a run: what it holds, and that it reads back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from callback_runs import BATCHES, Digits, curve_reader, trainer, watcher
from lightning.pytorch.loggers import CSVLogger

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import read_record


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


def test_the_record_reads_back_to_what_the_callback_knows(tmp_path: Path) -> None:
    callback = curve_reader()
    run = trainer(callback, logger=CSVLogger(tmp_path), max_epochs=2)
    run.fit(Digits(seed=3, validate=True))
    (file,) = tmp_path.rglob("nndyn-*.json")
    assert file.parent == Path(run.log_dir) and file.name == f"nndyn-{callback.session.record.run}.json"
    found = Record.from_dict(read_record(file))
    assert (found.history, found.verdicts) == (callback.history, callback.verdicts)
    assert found.decision == callback.decision and found.training == callback.session.record.training
    assert found.curve() == callback.session.record.curve()
    content = read_record(file)
    assert (content["status"], content["monitor"], content["action"]) == (
        "finished",
        "val_accuracy",
        "observe",
    )
    assert (content["optimizer"], content["steps_per_epoch"], content["max_epochs"]) == ("sgd", BATCHES, 2)
    assert content["metrics"] == {"val_accuracy": pytest.approx(callback.session.record.accuracies)}
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_diverged_run_has_a_record_too(tmp_path: Path) -> None:
    callback = watcher(action="observe", record=tmp_path)
    trainer(callback, max_epochs=1).fit(Digits(1e20))
    (found,) = map(Record.from_dict, records(tmp_path))
    assert not found.history[-1].finite and found.verdicts == callback.verdicts


def test_gaps_between_validations_are_bridged_and_the_last_one_is_left_open() -> None:
    gap = math.nan
    record = Record(accuracies=[gap, gap, 0.7, gap, 0.9, gap], classes=10)
    assert record.curve().accuracies[:5] == pytest.approx([0.3, 0.5, 0.7, 0.8, 0.9])
    assert math.isnan(record.curve().accuracies[5])
