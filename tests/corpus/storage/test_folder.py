"""Corpus folders: atomic, exact, and clear about damage."""

import os
from pathlib import Path

import pytest
from tiny_corpus import contents, run

from lightning_nndyn.corpus import (
    corpus_status,
    load_corpus,
    load_digits_data,
)
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.errors import CorpusError, NNDynWarning


def test_a_corpus_has_one_record_a_run(corpus: Path) -> None:
    records = load_corpus(corpus)
    assert [record.index for record in records] == list(range(6))
    grid = [(record.config["learning_rate"], record.config["dropout"]) for record in records]
    assert grid[:3] == [(0.01, 0.0), (0.01, 0.5), (0.05, 0.0)]
    assert [record.diverged_epoch is not None for record in records] == [False] * 4 + [True] * 2
    assert len(list((corpus / "runs").iterdir())) == 6


@pytest.mark.parametrize("change", [{"epochs": 3}, {"images": 300}, {"seed": 1}])
def test_other_settings_are_refused_by_name(corpus: Path, change: dict[str, int]) -> None:
    before = contents(corpus)
    with pytest.raises(CorpusError, match=next(iter(change))):
        run(corpus, **change)
    assert contents(corpus) == before


def test_of_two_processes_that_open_one_corpus_at_once_the_first_decides(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = CorpusFolder(corpus).manifest()
    first, second = CorpusFolder(tmp_path), CorpusFolder(tmp_path)
    sync = os.fsync

    def meanwhile(file: int) -> None:
        monkeypatch.undo()
        first.open(manifest["settings"], manifest["data"])
        sync(file)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(CorpusError, match="epochs"):
        second.open(manifest["settings"] | {"epochs": 9}, manifest["data"])
    assert first.manifest() == manifest


def test_other_data_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    changed = load_digits_data()
    changed.train_images[0, 0, 4, 4] += 1
    monkeypatch.setattr("lightning_nndyn.corpus.training.run_data.load_data", lambda *_, **__: changed)
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


def test_a_claim_keeps_a_second_process_away(tmp_path: Path) -> None:
    folder = CorpusFolder(tmp_path)
    with folder.claim(3) as first, folder.claim(3) as second, folder.claim(4) as other:
        assert (first, second, other) == (True, False, True)
    with folder.claim(3) as again:
        assert again


def test_a_records_config_trains_the_same_run_again(corpus: Path) -> None:
    from lightning_nndyn.corpus import train_run

    record = load_corpus(corpus)[1]
    again = train_run(RunConfig.from_record(record.config), load_digits_data())
    assert again.curve["test_accuracy"] == record.curve["test_accuracy"]
    assert again.snapshots[-1].statistics == record.snapshots[-1].statistics
