"""What is said of a corpus."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_corpus import contents, run

from lightning_nndyn.corpus import (
    corpus_status,
)
from lightning_nndyn.errors import CorpusError


def test_the_status_sums_it_up(corpus: Path) -> None:
    status = corpus_status(corpus)
    counts = ("runs", "planned_runs", "diverged_runs", "damaged", "epochs", "images")
    assert [status[name] for name in counts] == [6, 6, 2, 0, 2, 256]
    assert (status["corpus"], status["network"], status["dataset"]) == ("tiny", "lenet5", "digits")
    assert 2 / 6 <= status["low_share"] <= 1 and status["hours"] > 0
    json.dumps(status)


def test_the_low_threshold_may_change_after_training(corpus: Path, tmp_path: Path) -> None:
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
