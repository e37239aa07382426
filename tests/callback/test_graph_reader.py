"""A reader traces one batch, builds the graph, and then reads the weights at the times that are due."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from callback_runs import hooks
from digits_runs import digits, network
from torch import nn
from torch.nn import functional as F

from lightning_nndyn import SnapshotTaker, rolled_graph
from lightning_nndyn.callback.graph_reader import GraphReader
from lightning_nndyn.callback.phases import ReaderPhase
from lightning_nndyn.errors import NNDynError, TracingError


def step(net: nn.Module, lr: float = 0.05) -> None:
    """A training step on the images."""
    x, y = digits()[0].tensors
    F.cross_entropy(net(x[:48]), y[:48]).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= lr * parameter.grad
    net.zero_grad()


def traced(net: nn.Module, **arguments: Any) -> GraphReader:
    reader = GraphReader(**arguments)
    reader.start_tracing(net)
    net(digits()[0].tensors[0][:48])
    reader.end_forward(nested=False)
    return reader


def test_a_traced_batch_shows_the_layers_and_leaves_no_hook() -> None:
    net = network()
    reader = GraphReader()
    assert reader.phase is ReaderPhase.WAITING and reader.layer_sizes == []
    reader.start_tracing(net)
    assert reader.phase is ReaderPhase.TRACING and hooks(net) > 0
    net(digits()[0].tensors[0][:48])
    reader.end_forward(nested=False)
    assert reader.phase is ReaderPhase.READING and hooks(net) == 0
    graph = rolled_graph(net, torch.zeros(1, 1, 8, 8))
    assert reader.layer_sizes == list(graph.layer_sizes)
    found = reader.read_start()
    assert found is not None and found.statistics == SnapshotTaker(graph).take(0.0).statistics
    reader.close()
    assert reader.phase is ReaderPhase.CLOSED and reader.read_start() is None


def test_within_a_training_step_tracing_stays_on_until_the_batch_ends() -> None:
    net, reader = network(), GraphReader()
    reader.start_tracing(net)
    net(digits()[0].tensors[0][:48])
    reader.end_forward(nested=True)
    assert reader.phase is ReaderPhase.TRACING and reader.read_start() is not None
    step(net)
    reader.end_batch(net, start_due=False)
    assert reader.phase is ReaderPhase.READING and hooks(net) == 0


def test_after_a_batch_that_was_skipped_the_next_one_is_traced() -> None:
    net, reader = network(), GraphReader()
    reader.start_tracing(net)
    reader.end_batch(net, start_due=True)
    assert reader.phase is ReaderPhase.WAITING and hooks(net) == 0


def test_weights_that_change_before_they_are_read_are_refused() -> None:
    net, reader = network(), GraphReader()
    reader.start_tracing(net)
    step(net)
    with pytest.raises(NNDynError, match="changed before they could be read"):
        reader.end_batch(net, start_due=True)
    assert hooks(net) == 0


def test_a_resumed_run_may_change_them_as_snapshot_0_is_not_due() -> None:
    net, reader = network(), GraphReader()
    reader.start_tracing(net)
    step(net)
    reader.end_batch(net, start_due=False)
    assert reader.phase is ReaderPhase.READING


def test_a_model_without_a_way_through_is_refused_when_the_graph_is_built() -> None:
    reader = GraphReader()
    reader.start_tracing(nn.ReLU())
    with pytest.raises(TracingError):
        reader.end_forward(nested=False)
    reader.close()
    assert torch._C._len_torch_function_stack() == 0


def test_times_wait_for_the_first_movement_and_then_share_its_snapshot() -> None:
    net = network()
    reader = traced(net)
    start = reader.read_start()
    assert reader.read((0.0625,), after=0.0) == [] == reader.read((0.125,), after=0.0)
    step(net)
    found = reader.read((0.25,), after=0.0)
    assert [snapshot.epoch for snapshot in found] == [0.0625, 0.125, 0.25]
    assert len({snapshot.statistics for snapshot in found}) == 1
    assert start is not None and found[0].statistics != start.statistics


def test_the_end_of_an_epoch_is_read_whether_weights_have_moved_or_not() -> None:
    net = network()
    reader = traced(net)
    reader.read_start()
    assert [snapshot.epoch for snapshot in reader.read((0.5, 1.0), after=0.0)] == [0.5, 1.0]


def test_what_was_read_before_an_interruption_is_not_read_again() -> None:
    net = network()
    reader = traced(net)
    step(net)
    assert reader.read((0.25, 0.5), after=0.5) == []
    assert [snapshot.epoch for snapshot in reader.read((0.5, 1.0), after=0.5)] == [1.0]


def test_distances_of_a_resumed_run_are_measured_from_its_first_weights() -> None:
    net = network()
    first = traced(net)
    first.read_start()
    saved = [weight.clone() for weight in first.first_weights]
    step(net)
    resumed = traced(net, first_weights=saved)
    (found,), (wanted,) = (reader.read((1.0,), after=0.5) for reader in (resumed, first))
    assert found.distances == wanted.distances and all(distance > 0 for distance in found.distances)
