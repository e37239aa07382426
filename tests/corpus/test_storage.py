"""Corpus folders and parquet files: atomic, resumable, exact, and clear about damage."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import PATIENCE, environment, wait_until

from lightning_nndyn.corpus import (
    GridPreset,
    corpus_status,
    export_parquet,
    get_preset,
    import_parquet,
    load_corpus,
    load_digits_data,
    progress,
    run_corpus,
    runner,
    verify_corpus,
)
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.corpus.training import data as images
from lightning_nndyn.errors import CorpusError, MissingExtraError, NNDynWarning
from lightning_nndyn.evaluation.dataset import history_of

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.01, 0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=2, images=256, test_images=100,
)  # fmt: skip


def run(folder: Path, **options: Any) -> None:
    run_corpus(TINY, folder, **({"jobs": 1, "progress": False} | options))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    run(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "runs").iterdir())}


def texts(path: Path, **options: bool) -> list[str]:
    return [json.dumps(record.to_dict()) for record in load_corpus(path, **options)]


def test_the_bar_for_low_runs_may_change_as_it_is_no_matter_of_the_training(
    corpus: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(corpus, tmp_path / "copy"))
    before = contents(folder)
    run(folder, low_threshold=0.01)
    assert corpus_status(folder)["low_share"] == 0 and contents(folder) == before
    run(folder)
    assert corpus_status(folder)["low_share"] == 0
    run(folder, low_threshold=0.99)
    assert corpus_status(folder)["low_share"] == 1
    with pytest.raises(CorpusError, match=r"low_threshold=40 .* between 0 and 1"):
        run(folder, low_threshold=40)


def test_a_corpus_has_one_record_a_run(corpus: Path) -> None:
    records = load_corpus(corpus)
    assert [record.index for record in records] == list(range(6))
    grid = [(record.config["learning_rate"], record.config["dropout"]) for record in records]
    assert grid[:3] == [(0.01, 0.0), (0.01, 0.5), (0.05, 0.0)]
    assert [record.diverged_epoch is not None for record in records] == [False] * 4 + [True] * 2
    assert len(list((corpus / "runs").iterdir())) == 6


def test_the_status_sums_it_up(corpus: Path) -> None:
    status = corpus_status(corpus)
    counts = ("runs", "planned_runs", "diverged_runs", "damaged", "epochs", "images")
    assert [status[name] for name in counts] == [6, 6, 2, 0, 2, 256]
    assert (status["corpus"], status["network"], status["dataset"]) == ("tiny", "lenet5", "digits")
    assert 2 / 6 <= status["low_share"] <= 1 and status["hours"] > 0
    json.dumps(status)


def test_more_runs_keep_those_there_are(corpus: Path, tmp_path: Path) -> None:
    run(tmp_path, runs=2)
    first = contents(tmp_path)
    assert len(first) == 2
    run(tmp_path, runs=5)
    run(tmp_path, runs=3)
    after = contents(tmp_path)
    assert len(after) == 5 and first.items() <= after.items()


@pytest.mark.parametrize("change", [{"epochs": 3}, {"images": 300}, {"seed": 1}])
def test_other_settings_are_refused_by_name(corpus: Path, change: dict[str, int]) -> None:
    before = contents(corpus)
    with pytest.raises(CorpusError, match=next(iter(change))):
        run(corpus, **change)
    assert contents(corpus) == before


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


def test_other_data_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_nndyn.corpus import load_digits_data

    changed = load_digits_data()
    changed.train_images[0, 0, 4, 4] += 1
    monkeypatch.setattr("lightning_nndyn.corpus.training.sources.load_data", lambda *_, **__: changed)
    with pytest.raises(CorpusError, match="fingerprint"):
        run(corpus)


def test_a_damaged_record_is_named_left_out_and_trained_again(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    whole = contents(tmp_path)
    damaged = CorpusFolder(tmp_path).record_file(2)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    (tmp_path / "runs" / ".tmp-left-behind").write_bytes(b"half a record")
    with pytest.warns(NNDynWarning, match=damaged.name):
        assert [record.index for record in load_corpus(tmp_path)] == [0, 1, 3, 4, 5]
    with pytest.warns(NNDynWarning):
        assert corpus_status(tmp_path)["damaged"] == 1
    run(tmp_path, progress=True)
    assert damaged.name in capsys.readouterr().out
    assert [record.index for record in load_corpus(tmp_path)] == list(range(6))
    untouched = {name: content for name, content in whole.items() if name != damaged.name}
    assert untouched.items() <= contents(tmp_path).items()


def test_no_corpus_and_a_damaged_manifest_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        load_corpus(tmp_path)
    (tmp_path / "corpus.json").write_text('{"record_ver')
    with pytest.raises(CorpusError, match=r"corpus\.json"):
        corpus_status(tmp_path)
    (tmp_path / "corpus.json").write_text('{"record_version": 99}')
    with pytest.raises(CorpusError, match="99"):
        corpus_status(tmp_path)


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((CorpusError, NotADirectoryError)):
        run(tmp_path / "file" / "corpus", runs=1)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = load_corpus(corpus)[0]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CorpusError, match="No space left"):
        CorpusFolder(tmp_path).write(record)
    assert list((tmp_path / "runs").iterdir()) == []


def test_images_half_decoded_are_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = tmp_path / "cache" / ".tmp-killed", tmp_path / "cache" / ".tmp-at-work"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "train_images.npy").write_bytes(b"half")
    os.utime(old, (0, 0))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", interrupted)
        images._write_cache(tmp_path / "cache" / "cifar10", load_digits_data(), None)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {old.name, young.name}
    run(tmp_path, runs=1)
    assert young.exists() and not old.exists()


def test_minutes_start_no_run_afterwards(tmp_path: Path) -> None:
    run(tmp_path, minutes=0)
    assert corpus_status(tmp_path)["runs"] == 0
    with pytest.raises(CorpusError, match="no complete run"):
        export_parquet(tmp_path, tmp_path / "corpus.parquet")


def test_without_progress_no_rich_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, module, None)
    run(tmp_path, runs=1)
    assert corpus_status(tmp_path)["runs"] == 1


def test_a_claim_keeps_a_second_process_away(tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path)
    with folder.claim(3) as first, folder.claim(3) as second, folder.claim(4) as other:
        assert (first, second, other) == (True, False, True)
    with folder.claim(3) as again:
        assert again


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


def test_runs_of_another_process_count_in_the_end(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, train = CorpusFolder(tmp_path), runner.outcomes

    def outcomes(*arguments: Any) -> Iterator[Any]:
        yield from train(*arguments)
        shutil.copy(CorpusFolder(corpus).record_file(0), folder.record_file(0))  # the other one is done

    monkeypatch.setattr(runner, "outcomes", outcomes)
    with folder.claim(0):
        run(tmp_path, progress=True)
    assert "6 of 6 runs are recorded (" in capsys.readouterr().out.replace("\n", " ")


def test_progress_counts_the_runs_of_all_processes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, train = CorpusFolder(tmp_path), runner.outcomes
    others = [index for index, _ in TINY.order(0.7)][3:]

    def outcomes(*arguments: Any) -> Iterator[Any]:
        for index in others:
            shutil.copy(CorpusFolder(corpus).record_file(index), folder.record_file(index))
        yield from train(*arguments)

    monkeypatch.setattr(runner, "outcomes", outcomes)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    run(tmp_path, progress=True)
    shown = capsys.readouterr().out
    assert "0 of 6 runs are recorded" in shown and "4/6 runs" in shown and "1/6 runs" not in shown


# A test run in the background may have inherited that Ctrl-C is ignored: the script takes it back.
SCRIPT = """
import signal
from lightning_nndyn.corpus import GridPreset, run_corpus
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    preset = GridPreset("tiny", "lenet5", "digits", learning_rates=(0.01, 0.02, 0.03, 0.04),
                    dropouts=(0.0, 0.2, 0.5), crop_padding=1, flip=False, epochs=3)
    run_corpus(preset, {folder!r}, jobs={jobs})
"""


def _start(folder: Path, jobs: int) -> subprocess.Popen[str]:
    script = folder.parent / "train.py"
    script.write_text(SCRIPT.format(folder=str(folder), jobs=jobs))
    return subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_corpus_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    folder = tmp_path / "corpus"
    process = _start(folder, jobs=2)
    try:
        wait_until(lambda: len(list((folder / "runs").glob("run-*"))) >= 2, process)
        os.killpg(process.pid, how)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert how == signal.SIGKILL or "same command" in said
    before = {name: content for name, content in contents(folder).items() if name.startswith("run-")}
    assert 2 <= len(before) < 12
    assert len(load_corpus(folder)) == len(before)  # all of them whole
    again = _start(folder, jobs=1)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0 and f"{len(before)} of 12" in said
    after = {name: content for name, content in contents(folder).items() if name.startswith("run-")}
    assert before.items() <= after.items() and len(after) == 12
    assert [record.index for record in load_corpus(folder)] == list(range(12))


@pytest.mark.needs("pyarrow")
def test_parquet_gives_the_same_records_exactly(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    assert texts(file) == texts(corpus)
    assert corpus_status(file) == corpus_status(corpus)
    thin = load_corpus(file, raw=False)
    assert [record.snapshots[1].statistics for record in thin] == [
        record.snapshots[1].statistics for record in load_corpus(corpus)
    ]
    assert not thin[0].snapshots[1].layers and not thin[0].weights[1]


@pytest.mark.needs("pyarrow")
def test_a_corpus_carried_away_goes_on_elsewhere(corpus: Path, tmp_path: Path) -> None:
    run(tmp_path / "first", runs=4)
    export_parquet(tmp_path / "first", tmp_path / "tiny.parquet")
    assert import_parquet(tmp_path / "tiny.parquet", tmp_path / "second") == 4
    assert import_parquet(tmp_path / "tiny.parquet", tmp_path / "second") == 0
    assert texts(tmp_path / "second") == texts(tmp_path / "first")
    run(tmp_path / "second")
    assert [text for text in texts(tmp_path / "second") if text in texts(tmp_path / "first")] == texts(
        tmp_path / "first"
    )
    assert corpus_status(tmp_path / "second")["runs"] == 6


@pytest.mark.needs("pyarrow")
def test_a_corpus_of_other_settings_takes_no_import(corpus: Path, tmp_path: Path) -> None:
    export_parquet(corpus, tmp_path / "tiny.parquet")
    run(tmp_path / "other", runs=1, epochs=1)
    with pytest.raises(CorpusError, match="epochs"):
        import_parquet(tmp_path / "tiny.parquet", tmp_path / "other")


@pytest.mark.needs("pyarrow")
def test_parquet_of_480_full_runs_fits_a_repository(tmp_path: Path) -> None:
    from lightning_nndyn.corpus import load_digits_data, train_run

    preset, data = get_preset("lenet5-digits"), load_digits_data()
    folder = CorpusFolder(tmp_path)
    folder.open(preset.settings(), {"digits": {}})
    folder.write(train_run(preset.config(360), data))
    export_parquet(tmp_path, tmp_path / "one.parquet")
    fixed_part = 40_000  # schema and column headers, once a file
    assert 480 * ((tmp_path / "one.parquet").stat().st_size - fixed_part) < 20e6


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six epochs a run; the last two runs diverge."""
    folder = tmp_path_factory.mktemp("long") / "corpus"
    run(folder, epochs=6)
    return folder


@pytest.mark.needs("pyarrow")
def test_a_file_of_limited_size_lacks_late_raw_material_alone(long_corpus: Path, tmp_path: Path) -> None:
    whole, thin = tmp_path / "whole.parquet", tmp_path / "thin.parquet"
    assert export_parquet(long_corpus, whole) == np.inf
    size = whole.stat().st_size
    assert export_parquet(long_corpus, thin, max_mb=size / 1e6) == np.inf
    assert thin.read_bytes() == whole.read_bytes()
    horizon = export_parquet(long_corpus, thin, max_mb=0.97 * size / 1e6)
    assert horizon in (1, 2, 3, 5) and thin.stat().st_size <= 0.97 * size
    assert corpus_status(thin) == corpus_status(whole)
    assert texts(thin, raw=False) == texts(whole, raw=False)
    for before, after in zip(load_corpus(whole), load_corpus(thin), strict=True):
        kept = [one.epoch <= horizon or not one.finite for one in before.snapshots]
        assert [bool(layers) for layers in after.weights] == kept
        pairs = zip(before.snapshots, before.weights, after.snapshots, after.weights, kept, strict=True)
        assert all(repr((s, w)) == repr((t, v)) for s, w, t, v, keep in pairs if keep)  # NaN is NaN
        read = [one for one, keep in zip(history_of(before), kept, strict=True) if keep]
        assert repr(history_of(after)) == repr(read)


@pytest.mark.needs("pyarrow")
def test_a_thin_file_is_verified_and_goes_on_as_any_other(long_corpus: Path, tmp_path: Path) -> None:
    thin = tmp_path / "thin.parquet"
    whole = export_parquet(long_corpus, thin)
    assert export_parquet(long_corpus, thin, max_mb=0.97 * thin.stat().st_size / 1e6) < whole
    assert {one.verdict for one in verify_corpus(thin, runs=6)} == {"identical"}
    assert import_parquet(thin, tmp_path / "carried") == 6
    assert texts(tmp_path / "carried") == texts(thin)
    export_parquet(tmp_path / "carried", tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == thin.read_bytes()


@pytest.mark.needs("pyarrow")
def test_a_size_that_cannot_be_kept_is_refused_and_nothing_written(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"6 runs do not fit into max_mb=0\.001"):
        export_parquet(corpus, tmp_path / "tiny.parquet", max_mb=0.001)
    assert not list(tmp_path.iterdir())


@pytest.mark.needs("pyarrow")
def test_parquet_carries_its_version(corpus: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    table = parquet.read_table(file)
    assert table.schema.metadata[b"nndyn_parquet_version"] == b"2"
    metadata = {**table.schema.metadata, b"nndyn_parquet_version": b"7"}
    parquet.write_table(table.replace_schema_metadata(metadata), file)
    with pytest.raises(CorpusError, match="version 7, this package reads 1 and 2"):
        load_corpus(file)


@pytest.mark.needs("pyarrow")
def test_a_parquet_of_before_kinds_were_told_is_read(corpus: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    now = load_corpus(file)
    table = parquet.read_table(file)
    metadata = {**table.schema.metadata, b"nndyn_parquet_version": b"1"}
    old = table.drop_columns(["topology", "kinds", "depth"]).replace_schema_metadata(metadata)
    parquet.write_table(old, file)
    assert {one.kinds for record in now for one in record.snapshots} == {("conv2d", "linear")}
    for raw in (True, False):
        facts = {(s.topology, s.kinds, s.depth) for r in load_corpus(file, raw=raw) for s in r.snapshots}
        assert facts == {("chain", (), 5)}
    assert [history_of(record) for record in load_corpus(file) if record.diverged_epoch is None] == [
        history_of(record) for record in now if record.diverged_epoch is None
    ]


@pytest.mark.needs("pyarrow")
@pytest.mark.parametrize("size", [0, 100, -100])
def test_a_damaged_parquet_is_a_clear_error(corpus: Path, tmp_path: Path, size: int) -> None:
    file = tmp_path / "tiny.parquet"
    export_parquet(corpus, file)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CorpusError, match=r"tiny\.parquet"):
        load_corpus(file)


def test_without_pyarrow_the_error_names_the_extra(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"lightning-nndyn\[corpus\]"):
        export_parquet(corpus, tmp_path / "tiny.parquet")


def test_a_records_config_trains_the_same_run_again(corpus: Path) -> None:
    from lightning_nndyn.corpus import load_digits_data, train_run

    record = load_corpus(corpus)[1]
    again = train_run(RunConfig.from_record(record.config), load_digits_data())
    assert again.curve["test_accuracy"] == record.curve["test_accuracy"]
    assert again.snapshots[-1].statistics == record.snapshots[-1].statistics
