"""All methods on the same runs: folds that leak nothing, and rows."""

import math
from collections import Counter
from typing import Any

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.corpus.storage.parquet import thinned
from lightning_nndyn.evaluation import Row, RunDataset, compare
from lightning_nndyn.evaluation.benchmark.compare import folds, padded


def test_what_was_left_out_of_a_file_is_no_method_s_to_read(
    records: list[RunRecord], manifest: dict[str, Any]
) -> None:
    thin = RunDataset.from_records([thinned(record, 1) for record in records], manifest)
    methods = ["graph-v1", "graph-v2", "fused", "curves"]
    rows = list(compare(thin, methods=methods, times=[1.0, 3.0], repeats=1))
    assert {row.method for row in rows if row.t == 1} == set(methods)
    assert {row.method for row in rows if row.t == 3} == {"graph-v1", "curves"}


def test_no_group_is_on_both_sides_and_each_run_is_held_out_once() -> None:
    groups = np.repeat(np.arange(13), 3)
    for seed in (0, 1):
        dealt = folds(groups, seed)
        assert Counter(np.concatenate(dealt).tolist()) == Counter(range(39))
        assert all(len(fold) % 3 == 0 and 6 <= len(fold) <= 9 for fold in dealt)
        assert all(
            not set(groups[one]) & set(groups[other]) for one in dealt for other in dealt if one is not other
        )
    assert [fold.tolist() for fold in folds(groups, 0)] != [fold.tolist() for fold in folds(groups, 1)]


def test_shorter_rows_and_missing_numbers_are_filled_in() -> None:
    found = padded([[1.0, math.nan], [2.0], [math.inf, -math.inf]])
    assert found.tolist() == [[1.0, -60.0], [2.0, -60.0], [60.0, -60.0]]


def test_rows_say_what_was_compared(rows: list[Row]) -> None:
    assert {row.t for row in rows} == {1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 3.0}
    metrics = {
        method: {row.metric for row in rows if row.method == method} for method in ("losses", "loss-sum")
    }
    assert metrics == {
        "losses": {"mae", "r2", "spearman", "accuracy", "auc"},
        "loss-sum": {"spearman", "auc"},
    }
    assert {row.t for row in rows if row.method == "last-accuracy"} == {1.0, 2.0, 3.0}
    for row in rows:
        assert row.value is None or (row.low is not None and row.low <= row.value <= row.high + 1e-9), row
        assert row.runs == 24 or row.band == "trainable"


def test_weights_tell_more_than_losses_after_a_sixteenth_of_an_epoch(rows: list[Row]) -> None:
    found = {(row.method, row.metric): row.value for row in rows if (row.t, row.band) == (1 / 16, "all")}
    assert found["graph-v2", "mae"] < 0.75 * found["losses", "mae"]
    assert found["graph-v2", "spearman"] > 0.6


def test_the_same_seed_gives_the_same_rows(study: RunDataset, rows: list[Row]) -> None:
    again = compare(study, methods=["losses"], times=[1.0], repeats=1)
    assert list(again) == [row for row in rows if (row.method, row.t) == ("losses", 1.0)]
