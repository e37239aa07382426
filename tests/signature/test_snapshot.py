"""Snapshots in JSON, their times, and matrices of them."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot, batch_of, statistics_matrix


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


SEQUENCE = torch.zeros(2, 5, 8)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x) + self.second(self.first(x))).mean(1))


def read(model: nn.Module, example: Tensor, **settings: Any) -> Snapshot:
    return SnapshotReader(nd.rolled_graph(model, example, **settings), per_layer=True).read(0.0)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_snapshot_tells_what_the_network_is_also_when_it_has_diverged(topology: Any) -> None:
    model = Residual()
    snapshot = read(model, SEQUENCE, topology=topology)
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    broken = read(model, SEQUENCE, topology=topology)
    assert snapshot.finite and not broken.finite
    depth = {"chain": 3, "dataflow": 4}[topology]
    for one in (snapshot, broken):
        assert (one.topology, one.kinds, one.depth) == (topology, ("linear",), depth)
    assert Snapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


def test_a_snapshot_of_before_says_only_what_its_layers_tell() -> None:
    snapshot = read(Residual(), SEQUENCE)
    plain = snapshot.to_dict()
    for name in ("topology", "kinds", "depth"):
        del plain[name]
    assert Snapshot.from_dict(plain) == replace(snapshot, kinds=())
    assert Snapshot.from_dict({**plain, "layers": {}}).depth == 0


def test_what_is_read_of_a_graph_of_one_sign_is_of_unknown_kinds() -> None:
    unrolled = nd.unrolled_graph(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2)), torch.ones(1, 1, 4, 4)
    )
    snapshot = SnapshotReader(unrolled.positive()).read(0.0)
    assert (snapshot.kinds, snapshot.depth, snapshot.topology) == ((), 2, "chain")
