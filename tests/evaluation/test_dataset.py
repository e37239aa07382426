"""Recorded runs and their labels."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.dataset import weight_distances


def test_a_study_knows_truth_bands_and_what_was_read_when(
    study: RunDataset, records: list[RunRecord]
) -> None:
    assert study.accuracies.tolist() == [record.best_accuracy for record in records]
    assert (study.low == (study.accuracies < 0.5)).all() and 0 < study.low.sum() < 24
    assert (study.trainable == (study.accuracies >= 0.2)).all()
    assert study.at(1 / 16).tolist() == study.at(3.0).tolist() == list(range(24))
    assert study.at(4.0).tolist() == []


def test_runs_that_failed_or_diverged_are_left_out(
    records: list[RunRecord], manifest: dict[str, Any]
) -> None:
    broken = replace(records[1].snapshots[-1], statistics=(math.nan,) * 10)
    diverged = replace(records[1], snapshots=[*records[1].snapshots[:-1], broken], diverged_epoch=3.0)
    study = RunDataset.from_records([replace(records[0], failed=True), diverged, records[2]], manifest)
    assert len(study.records) == 2 and not study.trainable[0]
    assert study.at(2.0).tolist() == [0, 1] and study.at(3.0).tolist() == [1]
    with pytest.raises(PredictorError, match="'small' has no runs"):
        RunDataset.from_records([replace(records[0], failed=True)], manifest)


def test_runs_of_one_configuration_share_a_group(records: list[RunRecord], manifest: dict[str, Any]) -> None:
    again = replace(records[0], config=records[0].config | {"seed": 5, "index": 99, "sampling": "band"})
    study = RunDataset.from_records([*records[:3], again], manifest)
    assert study.groups.tolist() == [0, 1, 2, 0]


def test_distances_begin_at_nothing_and_grow_with_the_learning_rate(records: list[RunRecord]) -> None:
    slow, fast = weight_distances(records[0]), weight_distances(records[-6])
    assert slow[0] == fast[0] == [0.0] * 5
    assert all(far > near for near, far in zip(slow[-1], fast[-1], strict=True))


def test_relative_accuracy_is_zero_for_guessing_and_one_for_the_best(mixed: RunDataset) -> None:
    found = mixed.relative
    assert found.max() == 1 and found[np.argmax(mixed.accuracies)] == 1
    assert (found[mixed.accuracies <= 0.1] == 0).all() and (found[:24] == found[24:]).all()
