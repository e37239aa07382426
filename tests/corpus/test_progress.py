"""Progress, of all processes that work on a corpus."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_corpus import TINY, run

from lightning_nndyn.corpus import (
    corpus_status,
    progress,
    runner,
)
from lightning_nndyn.corpus.storage.folder import CorpusFolder


def test_without_progress_no_rich_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, module, None)
    run(tmp_path, runs=1)
    assert corpus_status(tmp_path)["runs"] == 1


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
