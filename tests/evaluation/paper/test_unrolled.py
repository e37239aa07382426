"""The unrolled graph of recorded runs: trained again, checked, kept and classified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightning_nndyn.corpus import RunOptions, run_corpus
from lightning_nndyn.corpus.storage import load_corpus
from lightning_nndyn.corpus.verify import deviation
from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.paper import unrolled_readings
from lightning_nndyn.evaluation.paper.unrolled_classification import (
    GRAPHS,
    classify_unrolled,
    features,
    rank_features,
    readable_runs,
    statistics_of,
)
from lightning_nndyn.evaluation.paper.unrolled_readings import FILE, read_unrolled
from lightning_nndyn.evaluation.result_file import read_rows

EPOCHS, RUNS = 2, 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "lenet5-digits"
    run_corpus("lenet5-digits", folder, RunOptions(jobs=1, runs=RUNS), epochs=EPOCHS, images=256)
    return folder


@pytest.fixture(scope="module")
def read(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results")
    said: list[str] = []
    arguments = {"folder": output / "kept", "epochs": EPOCHS, "on_progress": said.append}
    assert read_unrolled([corpus], output, runs=RUNS, **arguments) == 0
    assert len(said) == RUNS
    assert all("identical" in line for line in said)
    return output


def test_each_run_has_both_parts_at_the_end_of_each_epoch(read: Path) -> None:
    rows, _ = read_rows(read / FILE)
    assert len(rows) == RUNS * 2 * (EPOCHS + 1)
    assert {row["graph"] for row in rows} == {"positive", "negative"}
    assert {row["epoch"] for row in rows} == set(range(EPOCHS + 1))
    assert all(row["residual"] <= 1e-6 and row["check"] == "identical" for row in rows)


def test_a_second_command_trains_nothing_and_writes_the_same(
    corpus: Path, read: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unrolled_readings, "train_run", None)
    before = (read / FILE).read_bytes()
    assert read_unrolled([corpus], read, folder=read / "kept", runs=RUNS, epochs=EPOCHS) == 0
    assert (read / FILE).read_bytes() == before


def test_no_run_is_begun_when_time_is_up(corpus: Path, tmp_path: Path) -> None:
    read_unrolled([corpus], tmp_path, folder=tmp_path, runs=RUNS, epochs=EPOCHS, minutes=-1)
    assert not list(tmp_path.iterdir())


def test_a_run_that_differs_from_its_record_is_counted_and_left_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unrolled_readings, "TOLERANCE", -1.0)
    assert read_unrolled([corpus], tmp_path, folder=tmp_path / "kept", runs=1, epochs=1) == 1
    assert not (tmp_path / FILE).exists()


def test_deviation_is_the_largest_relative_error(corpus: Path) -> None:
    record = load_corpus(corpus)[0]
    last = record.snapshots[-1]
    moved = replace(last, statistics=(last.statistics[0] * 1.5, *last.statistics[1:]))
    other = replace(record, snapshots=[*record.snapshots[:-1], moved])
    assert deviation(record, record, EPOCHS) == 0
    assert deviation(record, other, EPOCHS - 1) == 0
    assert deviation(record, other, EPOCHS) == pytest.approx(0.5)
    assert deviation(record, replace(record, snapshots=record.snapshots[:-1]), EPOCHS) == np.inf


def test_features_are_the_statistics_of_all_epochs(corpus: Path, read: Path) -> None:
    runs = RunDataset.load(corpus)
    rows, _ = read_rows(read / FILE)
    table = statistics_of(runs, rows)
    indices = readable_runs(runs, table, EPOCHS)
    assert list(indices) == list(range(RUNS))
    for graph, parts in GRAPHS.items():
        x = features(runs, table, indices, graph, "degree", EPOCHS)
        assert x.shape == (RUNS, 5 * (EPOCHS + 1) * len(parts))
    rolled = features(runs, table, indices, "rolled", "eigenvector", 0)
    np.testing.assert_array_equal(rolled[0], runs.records[0].snapshots[0].statistics[5:])
    both = rank_features(runs, table, indices, "unrolled", 1)
    assert both is not None
    assert both.shape == (RUNS, 40)


def test_graphs_are_compared_on_the_same_runs(
    corpus: Path, read: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_nndyn.evaluation.paper import unrolled_classification as module

    for name in ("MIN_RUNS", "TIMES"):
        monkeypatch.setattr(module, name, {"MIN_RUNS": 2, "TIMES": (1,)}[name])
    monkeypatch.setattr("lightning_nndyn.evaluation.benchmark.compare.MIN_RUNS", 2)
    monkeypatch.setattr("lightning_nndyn.evaluation.benchmark.compare.NUM_FOLDS", 2)
    rows = classify_unrolled([corpus], read, ranks=False)
    assert {row.runs for row in rows if row.band == "all"} == {RUNS}
    methods = {row.method for row in rows}
    assert {f"{graph}-degree-svm" for graph in GRAPHS} <= methods
    assert "majority" in methods
