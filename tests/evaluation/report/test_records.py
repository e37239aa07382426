"""Records are found, read and named: by their folders, or by the hyperparameters that differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from report_page import Page
from report_runs import NASTY

from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.evaluation.report import write_report
from lightning_nndyn.evaluation.report.records import load


def with_hparams(sweep: Path, folder: Path, rates: Sequence[float]) -> None:
    """Records in one folder, each with a learning rate of its own."""
    for i, (file, rate) in enumerate(zip(sorted(sweep.rglob("nndyn-*.json")), rates, strict=False)):
        record = read_record(file) | {"run": str(i) * 12, "hparams": {"lr": rate, "depth": 3, "name": NASTY}}
        (folder / f"nndyn-{i}.json").write_text(json.dumps(record))


def test_runs_are_told_apart_by_their_hyperparameters(sweep: Path, tmp_path: Path) -> None:
    with_hparams(sweep, tmp_path, (0.01, 0.02, 0.02))
    page = Page(write_report([tmp_path], tmp_path / "report.html").file.read_text())
    labels = [run["label"] for run in page.data["runs"]]
    assert labels == ["lr 0.01", f"lr 0.02 ({'1' * 12})", f"lr 0.02 ({'2' * 12})"]
    assert dict(page.data["runs"][0]["facts"])["Hyperparameters"] == f"lr 0.01, depth 3, name {NASTY}"


def test_the_hyperparameters_of_older_records_are_those_of_lightning_s_logger(
    sweep: Path, tmp_path: Path
) -> None:
    for rate, file in zip((0.1, 0.2), sorted(sweep.rglob("nndyn-*.json")), strict=False):
        folder = tmp_path / f"version_{rate}"
        folder.mkdir()
        shutil.copy(file, folder)
        (folder / "hparams.yaml").write_text(f"learning_rate: {rate}\nlayers: [1, 2]\n")
    (tmp_path / "version_0.2" / "hparams.yaml").write_text("!!python/object:nowhere.Thing {}")
    runs = load([tmp_path]).runs
    assert dict(runs[0].hparams) == {"learning_rate": 0.1, "layers": "[1, 2]"} and not runs[1].hparams
    assert (runs[0].label, runs[0].differs) == ("version_0.1", "learning_rate 0.1, layers [1, 2]")


def test_a_metric_that_is_to_fall_is_no_accuracy(sweep: Path, tmp_path: Path) -> None:
    record = read_record(next(sweep.rglob("nndyn-*.json"))) | {"mode": "min", "unit": "own"}
    (tmp_path / "nndyn-0.json").write_text(json.dumps(record))
    (run,) = load([tmp_path]).runs
    assert run.best is None and run.no_accuracy == "val_accuracy is to fall, so it is no accuracy"


def test_of_a_run_with_two_records_the_longer_one_counts(sweep: Path, tmp_path: Path) -> None:
    one = sorted(sweep.rglob("nndyn-*.json"))[0]
    record = read_record(one)
    for folder, length in (("a", 3), ("b", 8)):
        (tmp_path / folder).mkdir()
        short = {**record, "history": record["history"][:length]}
        (tmp_path / folder / one.name).write_text(json.dumps(short))
    found = load([tmp_path])
    assert [len(run.times) for run in found.runs] == [8] and found.doubles == 1
