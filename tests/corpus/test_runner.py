"""Corpora trained by several processes, on a device, within a time, and on from where they were stopped."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from processes import PATIENCE, wait_until
from tiny_corpus import LONG, TINY, contents, run
from typer.testing import CliRunner
from warm_processes import Warm

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import (
    RunOptions,
    corpus_status,
    export_parquet,
    load_corpus,
    run_corpus,
    runner,
    verify_corpus,
)
from lightning_nndyn.errors import CorpusError


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


def test_more_runs_keep_those_there_are(corpus: Path, tmp_path: Path) -> None:
    run(tmp_path, runs=2)
    first = contents(tmp_path)
    assert len(first) == 2
    run(tmp_path, runs=5)
    run(tmp_path, runs=3)
    after = contents(tmp_path)
    assert len(after) == 5 and first.items() <= after.items()


def test_a_corpus_goes_on_in_another_precision(tmp_path: Path) -> None:
    """What is fast on one machine is slow on the next; each run says what it was trained in."""
    run(tmp_path, runs=2, precision="bf16")
    first = contents(tmp_path)
    run(tmp_path, runs=5)
    assert len(contents(tmp_path)) == 5 and first.items() <= contents(tmp_path).items()
    trained = [record.config["precision"] for record in load_corpus(tmp_path)]
    assert sorted(trained) == ["bf16", "bf16", "float32", "float32", "float32"]
    told = corpus_status(tmp_path)["departures"]
    assert "precision bf16 instead of float32 (2 of 5 runs)" in told
    assert sum("runs)" in text for text in told) == 1
    assert {one.verdict for one in verify_corpus(tmp_path, runs=5)} == {"identical"}


@pytest.mark.parametrize("slow", [True, False])
def test_bf16_on_a_processor_without_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slow: bool
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2" if slow else "AVX512")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    run(tmp_path, runs=1, precision="bf16", progress=True)
    assert ("--precision float32" in capsys.readouterr().out) == slow
    run(tmp_path, runs=1, precision="bf16", progress=True)
    assert "--precision" not in capsys.readouterr().out  # nothing left to train


def test_minutes_start_no_run_afterwards(tmp_path: Path) -> None:
    run(tmp_path, minutes=0)
    assert corpus_status(tmp_path)["runs"] == 0
    with pytest.raises(CorpusError, match="no complete run"):
        export_parquet(tmp_path, tmp_path / "corpus.parquet")


def test_two_at_once_share_the_work(tmp_path: Path) -> None:
    """Two callers on one folder: every run is recorded once, by one of them."""
    callers = [threading.Thread(target=run, args=(tmp_path,)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    run(tmp_path)  # what one of them left to the other is done in any case
    assert [record.index for record in load_corpus(tmp_path)] == list(range(6))
    assert len(contents(tmp_path)) == 6


# A test run in the background may have inherited that Ctrl-C is ignored: the script takes it back.
SCRIPT = """
import signal
from lightning_nndyn.corpus import run_corpus
from tiny_corpus import LONG
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_corpus(LONG, {folder!r}, jobs={jobs}, runs={runs})
"""


def _start(folder: Path, output: Path, jobs: int, runs: int) -> Warm:
    script = folder.parent / "train.py"
    script.write_text(SCRIPT.format(folder=str(folder), jobs=jobs, runs=runs))
    return Warm(script, folder=folder.parent, output=output)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_corpus_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    folder, first, second = tmp_path / "corpus", tmp_path / "first.txt", tmp_path / "second.txt"
    process = _start(
        folder, first, jobs=2, runs=len(LONG)
    )  # too many to have ended, however late this process is
    try:
        wait_until(lambda: len(list((folder / "runs").glob("run-*"))) >= 2, process)
        process.kill(how)
        assert process.wait(PATIENCE) != 0
    finally:
        process.kill()
    assert how == signal.SIGKILL or "same command" in first.read_text()
    before = {name: content for name, content in contents(folder).items() if name.startswith("run-")}
    recorded, order = load_corpus(folder), [index for index, _ in LONG.order(RunOptions.band_share)]
    assert 2 <= len(recorded) == len(before) < len(LONG)  # all of them whole
    wanted = 3 + max(order.index(record.index) for record in recorded)
    assert _start(folder, second, jobs=1, runs=wanted).wait(PATIENCE) == 0
    assert f"{len(before)} of {wanted}" in second.read_text()
    after = {name: content for name, content in contents(folder).items() if name.startswith("run-")}
    assert before.items() <= after.items() and len(after) == wanted
    assert {record.index for record in load_corpus(folder)} == {*order[:wanted]}
