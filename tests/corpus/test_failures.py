"""Runs that raise are records too; what is no run's fault stops the corpus."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_nndyn import models
from lightning_nndyn.corpus import (
    GridPreset,
    RunRecord,
    corpus_status,
    export_parquet,
    load_corpus,
    load_digits_data,
    run_corpus,
    train_run,
)
from lightning_nndyn.errors import CorpusError

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 0.05), dropouts=(0.0, 0.2, 0.5, 0.8),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip


LENET5 = models.lenet5
NO_KERNEL = RuntimeError("no such kernel")


class Breaks(nn.Module):
    """A LeNet whose forward pass raises from some call on, as a broken kernel or library would."""

    def __init__(self, calls: int, error: Exception, **options: Any) -> None:
        super().__init__()
        self.network = LENET5(**options)
        self.left, self.error = calls, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.network(images)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the networks of runs with some dropout raise after some calls of their forward pass."""

    def break_it(calls: int, dropouts: tuple[float, ...], error: Exception = NO_KERNEL) -> None:
        def lenet5(dropout: float = 0.0, *, in_channels: int, image_size: int, **options: Any) -> nn.Module:
            options |= {"dropout": dropout, "in_channels": in_channels, "image_size": image_size}
            if dropout in dropouts:
                return Breaks(calls, error, **options)
            return LENET5(**options)

        monkeypatch.setattr(models, "lenet5", lenet5)

    return break_it


def run(folder: Path, **options: Any) -> None:
    """In this process, so that patches hold."""
    run_corpus(TINY, folder, **({"jobs": 1, "progress": False} | options))


def test_a_run_that_raises_half_way_keeps_what_it_had(broken: Any) -> None:
    broken(2, (0.2,))
    record = train_run(TINY.config(1), load_digits_data())
    assert record.failed and record.reason == "failed after epoch 0.5: RuntimeError: no such kernel"
    assert [snapshot.epoch for snapshot in record.snapshots] == [0, 0.0625, 0.125, 0.25, 0.5]
    assert record.curve["test_accuracy"] == [] and math.isnan(record.best_accuracy)
    again = RunRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert json.dumps(again.to_dict()) == json.dumps(record.to_dict())


def test_a_run_that_cannot_start_is_a_record_too(broken: Any) -> None:
    broken(0, (0.2,))
    record = train_run(TINY.config(1), load_digits_data(), ["none"])
    assert record.failed and record.reason.startswith("failed before the first step: TracingError")
    assert "RuntimeError: no such kernel" in record.reason
    assert record.snapshots == [] and record.departures == ["none"]
    assert record.config["dropout"] == 0.2 and record.versions["record"] == "1"


def test_a_corpus_goes_on_past_failures_and_counts_them(broken: Any, tmp_path: Path) -> None:
    broken(2, (0.2,))
    run(tmp_path)
    records = load_corpus(tmp_path)
    assert [record.failed for record in records] == [False, True, False, False] * 2
    status = corpus_status(tmp_path)
    assert (status["runs"], status["failed_runs"], status["diverged_runs"]) == (8, 2, 0)
    whole = [record.best_accuracy for record in records if not record.failed]
    assert (status["lowest_accuracy"], status["highest_accuracy"]) == (min(whole), max(whole))


def test_failed_runs_are_trained_again_only_on_demand(
    broken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(2, (0.2,))
    run(tmp_path)
    monkeypatch.undo()
    run(tmp_path)
    assert corpus_status(tmp_path)["failed_runs"] == 2
    run(tmp_path, redo_failed=True)
    assert corpus_status(tmp_path)["failed_runs"] == 0
    assert all(len(record.curve["test_accuracy"]) == 2 for record in load_corpus(tmp_path))


def test_where_nothing_works_the_corpus_stops_and_says_why(broken: Any, tmp_path: Path) -> None:
    broken(2, TINY.dropouts)
    with pytest.raises(CorpusError, match=r"all of the first 5 runs failed.*no such kernel.*redo_failed"):
        run(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no memory"),
        torch.OutOfMemoryError("no memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED: no memory"),
    ],
)
def test_running_out_of_memory_is_not_the_runs_fault(broken: Any, tmp_path: Path, error: Exception) -> None:
    broken(2, (0.5,), error)
    with pytest.raises(CorpusError, match=r"no memory.*fewer runs at a time"):
        run(tmp_path)
    assert all(not record.failed for record in load_corpus(tmp_path))


@pytest.mark.needs("pyarrow")
def test_parquet_keeps_failures(broken: Any, tmp_path: Path) -> None:
    broken(0, (0.2,))
    run(tmp_path)
    export_parquet(tmp_path, tmp_path / "tiny.parquet")
    found = load_corpus(tmp_path / "tiny.parquet")
    assert [json.dumps(record.to_dict()) for record in found] == [
        json.dumps(record.to_dict()) for record in load_corpus(tmp_path)
    ]
    assert corpus_status(tmp_path / "tiny.parquet")["failed_runs"] == 2
