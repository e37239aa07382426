"""Trained again, a corpus says the same; one that was tampered with does not."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.corpus import GridPreset, export_parquet, run_corpus, verify_corpus
from lightning_nndyn.corpus.storage.folder import CorpusFolder
from lightning_nndyn.errors import CorpusError

TINY = GridPreset(
    "tiny", "lenet5", "digits", learning_rates=(0.05, 1e4), dropouts=(0.0, 0.5),
    crop_padding=1, flip=False, epochs=3, images=400, test_images=100,
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    run_corpus(TINY, tmp_path / "tiny", jobs=1, progress=False)
    return tmp_path / "tiny"


def change(corpus: Path, index: int, edit: Any) -> None:
    file = CorpusFolder(corpus).record_file(index)
    record = json.loads(gzip.decompress(file.read_bytes()))
    edit(record)
    file.write_bytes(gzip.compress(json.dumps(record).encode()))


def test_runs_come_out_identical(corpus: Path) -> None:
    found = list(verify_corpus(corpus, runs=4))
    assert [one.index for one in found] == [0, 1, 2, 3]
    assert {one.verdict for one in found} == {"identical"}
    assert all(one.accuracy == one.recorded_accuracy for one in found)


def test_three_random_runs_are_chosen(corpus: Path) -> None:
    chosen = [[one.index for one in verify_corpus(corpus, seed=seed)] for seed in (0, 0, 2)]
    assert chosen[0] == chosen[1] != chosen[2] and all(len(indices) == 3 for indices in chosen)


def test_another_rounding_is_close(corpus: Path) -> None:
    def nudge(record: dict[str, Any]) -> None:
        record["curve"]["test_accuracy"] = [value - 0.01 for value in record["curve"]["test_accuracy"]]

    change(corpus, 0, nudge)
    assert [one.verdict for one in verify_corpus(corpus, runs=4)] == ["close", *["identical"] * 3]


@pytest.mark.parametrize("what", ["accuracy", "weights", "end"])
def test_another_run_is_different(corpus: Path, what: str) -> None:
    def forge(record: dict[str, Any]) -> None:
        if what == "accuracy":
            record["curve"]["test_accuracy"][-1] += 0.2
        elif what == "weights":
            record["snapshots"][0]["statistics"][1] *= 1.01
        else:
            record["diverged_epoch"] = 1.0

    change(corpus, 0, forge)
    result = CliRunner().invoke(app, ["corpus", "verify", str(corpus), "--runs", "4"])
    assert result.exit_code == 1
    assert "run 0: different" in result.output and result.output.count("identical") == 3


@pytest.mark.needs("pyarrow")
def test_a_parquet_file_can_be_verified(corpus: Path) -> None:
    file = corpus.parent / "tiny.parquet"
    export_parquet(corpus, file)
    result = CliRunner().invoke(app, ["corpus", "verify", str(file), "--runs", "2"])
    assert result.exit_code == 0 and result.output.count("identical") == 2


def test_other_images_are_refused(corpus: Path) -> None:
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["data"]["digits"]["fingerprint"] = "0"
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(CorpusError, match="fingerprint"):
        list(verify_corpus(corpus))


def test_without_runs_there_is_nothing_to_verify(tmp_path: Path) -> None:
    run_corpus(TINY, tmp_path, minutes=0, progress=False)
    with pytest.raises(CorpusError, match="nothing to verify"):
        next(verify_corpus(tmp_path))


def test_runs_that_learn_are_chosen_first(corpus: Path) -> None:
    def reached(best: float) -> Callable[[dict[str, Any]], None]:
        def edit(record: dict[str, Any]) -> None:
            curve = record["curve"]["test_accuracy"]
            record["curve"]["test_accuracy"] = [min(best, value) for value in curve[:-1]] + [best]

        return edit

    for index in range(4):
        change(corpus, index, reached(0.9 if index == 1 else 0.1))
    for seed in range(3):
        (one,) = verify_corpus(corpus, runs=1, seed=seed)
        assert (one.index, one.recorded_accuracy) == (1, 0.9)
