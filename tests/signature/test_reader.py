"""Snapshots against their parts: statistics, warm starts, diverged networks, waits for a GPU."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lightning_nndyn as nd
from lightning_nndyn import models
from lightning_nndyn.graph import eigensolver
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature import reader as reader_module
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import LAYER_FIELDS


def test_snapshot_holds_the_ten_statistics() -> None:
    torch.manual_seed(0)
    graph = nd.rolled_graph(nd.models.vgg7())
    snapshot = SnapshotReader(graph, tol=1e-8, per_layer=True).read(0.0)
    parts = (nd.weighted_degree(graph), nd.eigenvector_centrality(graph, tol=1e-8).vector)
    np.testing.assert_allclose(snapshot.statistics, torch.cat([nd.summarize(p) for p in parts]), rtol=1e-5)
    assert snapshot.residual <= 1e-8
    assert (snapshot.num_nodes, snapshot.num_edges) == (1613, 304_576)
    assert tuple(snapshot.layers) == graph.layer_names
    row = dict(zip(LAYER_FIELDS, snapshot.layers["10"], strict=True))
    degree = list(graph.layers(parts[0]))[graph.layer_names.index("10")]
    assert row["degree_q50"] == pytest.approx(degree.median().item(), rel=1e-2)
    assert row["frobenius"] == pytest.approx(
        graph.blocks[graph.layer_names.index("10") - 1].values.norm().item()
    )


def test_snapshots_follow_the_weights_and_start_warm() -> None:
    torch.manual_seed(0)
    model = nd.models.resnet32()
    reader = SnapshotReader(nd.rolled_graph(model))
    first = reader.read(0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    second = reader.read(1.0)
    assert second.eigenvalue == pytest.approx(2 * first.eigenvalue, rel=1e-5)
    assert second.iterations < first.iterations
    np.testing.assert_allclose(second.statistics[:3], 2 * np.array(first.statistics[:3]), rtol=1e-5)
    np.testing.assert_allclose(second.statistics[5:], first.statistics[5:], rtol=1e-3, atol=1e-6)


def test_diverged_network_is_a_snapshot_without_numbers() -> None:
    model = nd.models.lenet5()
    reader = SnapshotReader(nd.rolled_graph(model), per_layer=True)
    assert reader.read(0.0).finite
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = math.inf
    snapshot = reader.read(1.0)
    assert not snapshot.finite
    assert all(math.isnan(value) for value in snapshot.statistics)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = 0.5
    assert reader.read(2.0).finite


class CountSynchronisations(TorchDispatchMode):
    """Counts what would make the host wait for a GPU: scalars read, and LAPACK's kin."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(func)
        if "_local_scalar_dense" in name or "linalg_eigh" in name or "nonzero" in name:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


def test_a_snapshot_on_a_gpu_is_one_copy_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the GPU's code path on the CPU and counts; the test below does so on a real GPU."""
    torch.manual_seed(0)
    reader = SnapshotReader(nd.rolled_graph(nd.models.resnet32()), per_layer=True)
    expected = reader.read(0.0)
    for module in (reader_module, eigensolver):
        monkeypatch.setattr(module, "is_synchronous", lambda device: False)
    copies = []
    to_host = reader_module._to_host
    monkeypatch.setattr(reader_module, "_to_host", lambda numbers: copies.append(1) or to_host(numbers))
    with CountSynchronisations() as counted:
        snapshot = reader.read(0.0)
    assert counted.waits == []
    assert copies == [1]
    np.testing.assert_allclose(snapshot.statistics, expected.statistics, rtol=1e-3)


@pytest.mark.cuda
def test_a_snapshot_on_a_real_gpu_is_one_copy_to_the_host() -> None:
    reader = SnapshotReader(nd.rolled_graph(nd.models.resnet32().cuda()), per_layer=True)
    reader.read(0.0)
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        reader.read(1.0)
    copies = [event.name for event in profile.events() if "Memcpy" in event.name]
    assert len([name for name in copies if "DtoH" in name]) == 1
    assert not [name for name in copies if "HtoD" in name]


# -- distances from the first weights


def test_layers_of_a_graph_that_is_no_chain_have_all_their_weights() -> None:
    """In the graph of the whole data flow several streams may lead to one layer."""
    graph = rolled_graph(models.resnet32(), torch.zeros(1, 3, 16, 16), topology="dataflow")
    snapshot = SnapshotReader(graph, per_layer=True).read(0.0)
    assert list(snapshot.layers) == list(graph.layer_names)
    for place, row in enumerate(snapshot.layers.values()):
        squares = sum(
            float(s.block.values.norm()) ** 2 for s in graph.shared_blocks if s.block.target == place
        )
        assert row[LAYER_FIELDS.index("frobenius")] == pytest.approx(squares**0.5, rel=1e-5)
    assert len(snapshot.distances) == len(graph.shared_blocks)


def test_the_former_names_stay() -> None:
    graph = nd.rolled_graph(models.lenet5())
    assert nd.SnapshotTaker is SnapshotReader
    assert nd.SnapshotTaker(graph).take(0.0) == SnapshotReader(graph).read(0.0)
