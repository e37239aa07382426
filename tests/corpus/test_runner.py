"""Corpora trained by several processes, on a device, within a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import GridPreset, RunOptions, corpus_status, load_corpus, run_corpus, runner
from lightning_nndyn.errors import CorpusError

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip


def measured(folder: Path) -> list[str]:
    """The records without wall times, as text, in which NaN equals NaN."""
    records = [record.to_dict() for record in load_corpus(folder)]
    for record in records:
        del record["seconds"], record["curve"]["seconds"]
    return [json.dumps(record) for record in records]


def test_runs_side_by_side_on_a_device_give_the_records_of_single_runs(tmp_path: Path) -> None:
    run_corpus(TINY, tmp_path / "two", jobs=2, device="cpu", progress=False)
    run_corpus(TINY, tmp_path / "one", jobs=1, progress=False)
    assert len(measured(tmp_path / "two")) == 6
    assert measured(tmp_path / "two") == measured(tmp_path / "one")


def test_the_command_takes_jobs_and_device(tmp_path: Path) -> None:
    small = ["--runs", "2", "--epochs", "1", "--images", "256"]
    command = ["corpus", "train", "lenet5-digits", str(tmp_path), *small, "--jobs", "2", "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "2 of 2 runs are recorded (2 trained)" in result.output
    assert corpus_status(tmp_path)["runs"] == 2


@pytest.mark.cuda
def test_runs_side_by_side_on_a_card_start_as_on_the_cpu_and_come_to_much_the_same(tmp_path: Path) -> None:
    run_corpus(TINY, tmp_path / "card", jobs=2, device="cuda", progress=False)
    run_corpus(TINY, tmp_path / "cpu", jobs=1, progress=False)
    for card, cpu in zip(load_corpus(tmp_path / "card"), load_corpus(tmp_path / "cpu"), strict=True):
        assert "device" in card.versions and not card.failed
        assert card.snapshots[0].statistics == pytest.approx(cpu.snapshots[0].statistics, rel=1e-4)
        assert card.diverged_epoch == cpu.diverged_epoch
        assert card.best_accuracy == pytest.approx(cpu.best_accuracy, abs=0.1)


def test_options_come_as_one_or_by_name(tmp_path: Path) -> None:
    run_corpus(TINY, tmp_path / "corpus", RunOptions(jobs=1, runs=3, progress=False), runs=2, epochs=1)
    status = corpus_status(tmp_path / "corpus")
    assert (status["runs"], status["epochs"]) == (2, 1)
    with pytest.raises(CorpusError, match="'tiny' has no setting 'pack'"):
        run_corpus(TINY, tmp_path / "corpus", pack=4)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds of a clock that each run moves on by 10."""
    seconds, train_run = [1e9], runner.train_run

    def ten_seconds(*arguments: Any, **options: Any) -> Any:
        seconds[0] += 10
        return train_run(*arguments, **options)

    monkeypatch.setattr(runner, "train_run", ten_seconds)
    monkeypatch.setattr(runner, "time", SimpleNamespace(time=lambda: seconds[0]))
    yield seconds


def test_no_run_is_begun_that_would_not_end_in_time(tmp_path: Path, clock: list[float]) -> None:
    run_corpus(TINY, tmp_path, jobs=1, progress=False, minutes=0.5)
    assert len(load_corpus(tmp_path)) == 3 and clock == [1e9 + 30]
    run_corpus(TINY, tmp_path, jobs=1, progress=False, minutes=0.5)
    assert len(load_corpus(tmp_path)) == 6, "another call has another clock"
