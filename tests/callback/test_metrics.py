"""The metrics that a model logs, by epochs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import Digits, trainer, watcher

from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.evaluation import load_runs


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


def test_metrics_are_those_after_each_epoch(tmp_path: Path) -> None:
    class Late(Digits):
        """Has nothing to log in its first epoch, and nothing finite in its second."""

        def on_train_epoch_end(self) -> None:
            if self.current_epoch:
                self.log("late", [math.inf, 2.5][self.current_epoch - 1])

    trainer(watcher(None, record=tmp_path)).fit(Late())
    (found,) = records(tmp_path)
    assert found["metrics"] == {"late": [None, None, 2.5]}


def test_an_epoch_without_validation_has_no_metric_and_lies_on_the_line_between(tmp_path: Path) -> None:
    """The Trainer goes on showing the last validation's; with `monitor` it was always known to be old."""
    for monitor in ("val_accuracy", None):
        callback = watcher(None, monitor=monitor, record=tmp_path / str(monitor))
        trainer(callback, max_epochs=6, check_val_every_n_epoch=3).fit(Digits(seed=3, validate=True))
    (told,), (untold,) = (load_runs(tmp_path / name, "val_accuracy") for name in ("val_accuracy", "None"))
    (found,) = records(tmp_path / "None")
    row = found["metrics"]["val_accuracy"]
    assert [value is None for value in row] == [True, True, False] * 2
    assert untold.curve.accuracies == told.curve.accuracies
    assert untold.curve.accuracies[3] == pytest.approx((2 * row[2] + row[5]) / 3)


def test_a_metric_that_is_written_to_in_place_is_noted_each_time() -> None:
    record, value = Record(), torch.zeros(())
    metrics = LoggedMetrics()
    for epoch in (1, 2, 3):
        metrics.record_epoch(record, epoch, {"count": value.fill_(epoch), "constant": torch.ones(())})
    assert record.metrics == {"count": [1, 2, 3], "constant": [1, 1, 1]}
