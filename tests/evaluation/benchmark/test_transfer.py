"""Runs unlike all training runs."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation import RunDataset, transfer
from lightning_nndyn.evaluation.benchmark import methods


def test_one_value_of_a_trait_is_no_split(study: RunDataset) -> None:
    assert list(transfer(study, methods=["losses"])) == []


def test_what_is_held_out_is_not_learned_from(
    mixed: RunDataset, records: list[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    learned = methods.learned_predictions

    def counted(x: Any, *others: Any) -> Any:
        seen.append(len(x))
        return learned(x, *others)

    monkeypatch.setattr(
        import_module("lightning_nndyn.evaluation.benchmark.transfer"), "learned_predictions", counted
    )
    rows = list(transfer(mixed, methods=["graph-v2"], times=[1.0]))
    bands = ["without cifar10", "without digits", "without adam", "without sgd"]
    assert [row.band for row in rows] == bands and seen == [24] * 4
    assert all(row.runs == 24 and row.metric == "spearman" for row in rows)
    assert all(row.value is not None and row.value > 0.9 for row in rows)  # its twin taught each run


def test_ranks_are_within_a_data_set(mixed: RunDataset) -> None:
    """An accuracy that is low on one data set may be high on another."""
    rows = list(transfer(mixed, methods=["last-accuracy"], times=[3.0]))
    halved = replace(mixed, accuracies=np.where(np.arange(48) < 24, mixed.accuracies / 2, mixed.accuracies))
    assert [row.value for row in transfer(halved, methods=["last-accuracy"], times=[3.0])] == [
        row.value for row in rows
    ]
