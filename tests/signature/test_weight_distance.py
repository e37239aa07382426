"""Distances from the first weights."""

import json

import pytest
import torch
from torch import nn

from lightning_nndyn import models
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot

# -- distances from the first weights


def moved(network: nn.Module, size: float) -> list[float]:
    """Random steps; how far each weight then is from where it was, in units of its norm."""
    far = []
    with torch.no_grad():
        for weight in (one for one in network.parameters() if one.dim() > 1):
            step = size * weight.std() * torch.randn_like(weight)
            far.append(float(step.norm() / weight.norm()))
            weight.add_(step)
    return far


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_distances_are_those_of_whole_weights(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = models.vgg7().to(memory_format=layout)
    reader = SnapshotReader(rolled_graph(network, torch.zeros(1, 3, 32, 32)), per_layer=True)
    assert reader.read(0.0).distances == (0.0,) * 10
    far = moved(network, 0.1)
    snapshot = reader.read(1.0)
    assert snapshot.distances == pytest.approx(far, rel=0.03)
    assert Snapshot.from_dict(snapshot.to_dict()) == snapshot
    small = [sample.numel() for sample in reader.first_weights]
    assert max(small) <= 8192 and small[0] == 64 * 3 * 9


def test_distances_go_on_from_the_first_weights_of_another_taker() -> None:
    network = models.lenet5()
    graph = rolled_graph(network, torch.zeros(1, 3, 32, 32))
    one = SnapshotReader(graph, per_layer=True)
    one.read(0.0)
    moved(network, 0.1)
    other = SnapshotReader(graph, per_layer=True, first_weights=one.first_weights)
    assert other.read(1.0).distances == one.read(1.0).distances != (0.0,) * 5


def test_a_reader_goes_on_from_the_eigenvector_of_another() -> None:
    network = models.lenet5()
    graph = rolled_graph(network, torch.zeros(1, 3, 32, 32))
    one = SnapshotReader(graph, per_layer=True)
    one.read(0.0)
    assert one.eigenvector is not None
    saved = one.first_weights, one.eigenvector.clone()
    moved(network, 1e-4)
    after = one.read(1.0)
    assert SnapshotReader(graph, 1e-6, True, *saved).read(1.0) == after  # to the last bit
    anew = SnapshotReader(graph, per_layer=True, first_weights=saved[0]).read(1.0)
    assert anew.iterations > after.iterations
    unfit = SnapshotReader(graph, 1e-6, True, saved[0], saved[1][1:]).read(1.0)
    assert unfit == anew


def test_a_layer_that_begins_at_zero_is_one_away_once_it_has_moved() -> None:
    network = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 10))
    nn.init.zeros_(network[2].weight)
    reader = SnapshotReader(rolled_graph(network, torch.zeros(1, 20)), per_layer=True)
    assert reader.read(0.0).distances == reader.read(0.5).distances == (0.0, 0.0)
    for size in (1e-3, 1e3):
        nn.init.normal_(network[2].weight, std=size)
        snapshot = reader.read(1.0)
        assert snapshot.distances == (0.0, 1.0)
        assert "Infinity" not in json.dumps(snapshot.to_dict())


def test_snapshots_without_layers_have_no_distances() -> None:
    reader = SnapshotReader(rolled_graph(models.lenet5(), torch.zeros(1, 3, 32, 32)))
    assert reader.read(0.0).distances == () and reader.first_weights == []
