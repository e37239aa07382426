"""Snapshots in JSON, their times, and matrices of them."""

import json
import math

import pytest

import lightning_nndyn as nd
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import batch_of, statistics_matrix


def test_snapshots_survive_json() -> None:
    reader = SnapshotReader(nd.rolled_graph(nd.models.lenet5()), per_layer=True)
    snapshot = reader.read(0.25)
    assert nd.Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


@pytest.mark.parametrize(
    ("time", "batches", "expected"),
    [
        (0.0625, 12, 1),
        (0.125, 12, 2),
        (0.25, 12, 3),
        (0.5, 12, 6),
        (1, 12, 12),
        (0.0625, 391, 25),
        (0.01, 3, 1),
    ],
)
def test_fractions_of_the_first_epoch_in_batches(time: float, batches: int, expected: int) -> None:
    assert batch_of(time, batches) == expected


@pytest.mark.parametrize(("time", "batches"), [(0, 10), (1.5, 10), (0.5, 0), (math.nan, 3)])
def test_impossible_fractions_are_refused(time: float, batches: int) -> None:
    with pytest.raises(ValueError, match="time="):
        batch_of(time, batches)


def test_statistics_matrix_has_a_row_a_snapshot() -> None:
    reader = SnapshotReader(nd.rolled_graph(nd.models.lenet5()))
    history = [reader.read(float(epoch)) for epoch in range(3)]
    assert statistics_matrix(history).shape == (3, 10)
    assert statistics_matrix([]).shape == (0, 10)
