"""Aggregators against scipy, temporal forms against their formulas, snapshots against their parts."""

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

import lightning_nndyn as nd
from lightning_nndyn import models
from lightning_nndyn.graph import statistics
from lightning_nndyn.graph.statistics import LAYER_STATISTICS, segment_sum, summarize_layers
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.signature import snapshot as signature
from lightning_nndyn.signature.snapshot import (
    LAYER_FIELDS,
    Snapshot,
    SnapshotTaker,
    batch_of,
    statistics_matrix,
)

SAMPLES = {
    "normal": torch.randn(1001, generator=torch.Generator().manual_seed(0)).double(),
    "even": torch.arange(10).double() ** 2,
    "skewed": torch.rand(500, generator=torch.Generator().manual_seed(1)).double() ** 9,
    "huge": 1e18 * torch.rand(300, generator=torch.Generator().manual_seed(2)).double(),
    "tiny": 1e-18 * torch.rand(300, generator=torch.Generator().manual_seed(3)).double(),
    "two": torch.tensor([1.0, 4.0]).double(),
    "constant": torch.full((9,), 0.1).double(),
    "single": torch.tensor([3.0]).double(),
}


@pytest.mark.filterwarnings("ignore:Precision loss occurred")
@pytest.mark.parametrize("name", SAMPLES)
def test_aggregators_equal_scipys(name: str) -> None:
    values = SAMPLES[name]
    array = values.numpy()
    expected = [
        np.median(array), array.mean(), array.std(), scipy.stats.skew(array), scipy.stats.kurtosis(array)
    ]  # fmt: skip
    np.testing.assert_allclose(nd.summarize(values), expected, rtol=1e-9, atol=1e-9 * abs(array).max())


def test_summarize_refuses_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="empty"):
        nd.summarize(torch.empty(0))


def test_layer_statistics_equal_scipys_layer_by_layer() -> None:
    sizes = (3, 7, 1, 20)
    values = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0)).double()
    table = summarize_layers(values, sizes)
    assert table.shape == (4, len(LAYER_STATISTICS))
    for row, part in zip(table, values.split(sizes), strict=True):
        array = part.numpy()
        shape = [scipy.stats.skew(array), scipy.stats.kurtosis(array)] if len(array) > 1 else [0, 0]
        quantiles = np.quantile(array, statistics.QUANTILES)
        np.testing.assert_allclose(row, [array.mean(), array.std(), *shape, *quantiles], atol=1e-12)


def test_torch_scatter_gives_the_same_sums() -> None:
    torch_scatter = pytest.importorskip("torch_scatter")
    values, sizes = torch.randn(60).double(), torch.tensor([10, 1, 49])
    bounds = torch.tensor([0, 10, 11, 60])
    native = torch.segment_reduce(values, "sum", lengths=sizes)
    torch.testing.assert_close(torch_scatter.segment_csr(values, bounds, reduce="sum"), native)
    torch.testing.assert_close(segment_sum(values, sizes), native)


def test_snapshot_holds_the_ten_statistics() -> None:
    torch.manual_seed(0)
    graph = nd.rolled_graph(nd.models.vgg7())
    snapshot = nd.SnapshotTaker(graph, tol=1e-8, per_layer=True).take(0.0)
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
    taker = nd.SnapshotTaker(nd.rolled_graph(model))
    first = taker.take(0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    second = taker.take(1.0)
    assert second.eigenvalue == pytest.approx(2 * first.eigenvalue, rel=1e-5)
    assert second.iterations < first.iterations
    np.testing.assert_allclose(second.statistics[:3], 2 * np.array(first.statistics[:3]), rtol=1e-5)
    np.testing.assert_allclose(second.statistics[5:], first.statistics[5:], rtol=1e-3, atol=1e-6)


def test_diverged_network_is_a_snapshot_without_numbers() -> None:
    model = nd.models.lenet5()
    taker = nd.SnapshotTaker(nd.rolled_graph(model), per_layer=True)
    assert taker.take(0.0).finite
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = math.inf
    snapshot = taker.take(1.0)
    assert not snapshot.finite
    assert all(math.isnan(value) for value in snapshot.statistics)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = 0.5
    assert taker.take(2.0).finite


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
    taker = nd.SnapshotTaker(nd.rolled_graph(nd.models.resnet32()), per_layer=True)
    expected = taker.take(0.0)
    monkeypatch.setattr(signature, "_waits_cheaply", lambda device: False)
    monkeypatch.setattr("lightning_nndyn.graph.eigensolver._has_lapack_without_waiting", lambda device: False)
    copies = []
    to_host = signature._to_host
    monkeypatch.setattr(signature, "_to_host", lambda numbers: copies.append(1) or to_host(numbers))
    with CountSynchronisations() as counted:
        snapshot = taker.take(0.0)
    assert counted.waits == []
    assert copies == [1]
    np.testing.assert_allclose(snapshot.statistics, expected.statistics, rtol=1e-3)


@pytest.mark.cuda
def test_a_snapshot_on_a_real_gpu_is_one_copy_to_the_host() -> None:
    taker = nd.SnapshotTaker(nd.rolled_graph(nd.models.resnet32().cuda()), per_layer=True)
    taker.take(0.0)
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        taker.take(1.0)
    copies = [event for event in profile.events() if "Memcpy DtoH" in event.name]
    assert len(copies) == 1


def test_snapshots_survive_json() -> None:
    taker = nd.SnapshotTaker(nd.rolled_graph(nd.models.lenet5()), per_layer=True)
    snapshot = taker.take(0.25)
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


def test_temporal_forms_follow_their_formulas() -> None:
    s = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_array_equal(nd.temporal(s), s)
    linear = [sum((j + 1) * s[j] for j in range(i + 1)) / sum(range(1, i + 2)) for i in range(5)]
    np.testing.assert_allclose(nd.temporal(s, "linear"), linear)
    smooth = [s[0]]
    for row in s[1:]:
        smooth.append(0.3 * row + 0.7 * smooth[-1])
    np.testing.assert_allclose(nd.temporal(s, "exponential", alpha=0.3), smooth)


@pytest.mark.parametrize("arguments", [{"form": "cubic"}, {"form": "exponential", "alpha": 0}])
def test_unknown_temporal_forms_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"cubic|alpha=0"):
        nd.temporal(np.zeros((2, 2)), **arguments)


def test_statistics_matrix_has_a_row_a_snapshot() -> None:
    taker = nd.SnapshotTaker(nd.rolled_graph(nd.models.lenet5()))
    history = [taker.take(float(epoch)) for epoch in range(3)]
    assert statistics_matrix(history).shape == (3, 10)
    assert statistics_matrix([]).shape == (0, 10)


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
    taker = SnapshotTaker(rolled_graph(network, torch.zeros(1, 3, 32, 32)), per_layer=True)
    assert taker.take(0.0).distances == (0.0,) * 10
    far = moved(network, 0.1)
    snapshot = taker.take(1.0)
    assert snapshot.distances == pytest.approx(far, rel=0.03)
    assert Snapshot.from_dict(snapshot.to_dict()) == snapshot
    small = [sample.numel() for sample in taker.first_weights]
    assert max(small) <= 8192 and small[0] == 64 * 3 * 9


def test_distances_go_on_from_the_first_weights_of_another_taker() -> None:
    network = models.lenet5()
    graph = rolled_graph(network, torch.zeros(1, 3, 32, 32))
    one = SnapshotTaker(graph, per_layer=True)
    one.take(0.0)
    moved(network, 0.1)
    other = SnapshotTaker(graph, per_layer=True, first_weights=one.first_weights)
    assert other.take(1.0).distances == one.take(1.0).distances != (0.0,) * 5


def test_a_layer_that_begins_at_zero_is_one_away_once_it_has_moved() -> None:
    network = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 10))
    nn.init.zeros_(network[2].weight)
    taker = SnapshotTaker(rolled_graph(network, torch.zeros(1, 20)), per_layer=True)
    assert taker.take(0.0).distances == taker.take(0.5).distances == (0.0, 0.0)
    for size in (1e-3, 1e3):
        nn.init.normal_(network[2].weight, std=size)
        snapshot = taker.take(1.0)
        assert snapshot.distances == (0.0, 1.0)
        assert "Infinity" not in json.dumps(snapshot.to_dict())


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("how", [nn.utils.weight_norm, nn.utils.spectral_norm, pruned])
def test_weights_that_a_hook_computes_are_read_as_the_next_pass_has_them(how: Any) -> None:
    """Until then the module holds those from before the last step."""
    torch.manual_seed(0)
    network = models.lenet5()
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            how(layer)
    network.eval()  # spectral norm estimates once more in each pass of training
    image = torch.zeros(1, 3, 32, 32)
    taker = SnapshotTaker(rolled_graph(network, image), per_layer=True)
    taker.take(0.0)
    moved(network, 0.1)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    early = taker.take(1.0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert min(early.distances) > 0
    network(image)
    late = taker.take(1.0)
    assert early.distances == pytest.approx(late.distances)
    assert early.statistics == pytest.approx(late.statistics)


def test_snapshots_without_layers_have_no_distances() -> None:
    taker = SnapshotTaker(rolled_graph(models.lenet5(), torch.zeros(1, 3, 32, 32)))
    assert taker.take(0.0).distances == () and taker.first_weights == []


def test_layers_of_a_graph_that_is_no_chain_have_all_their_weights() -> None:
    """In the graph of the whole data flow several streams may lead to one layer."""
    graph = rolled_graph(models.resnet32(), torch.zeros(1, 3, 16, 16), topology="dataflow")
    snapshot = SnapshotTaker(graph, per_layer=True).take(0.0)
    assert list(snapshot.layers) == list(graph.layer_names)
    for place, row in enumerate(snapshot.layers.values()):
        squares = sum(
            float(s.block.values.norm()) ** 2 for s in graph.shared_blocks if s.block.target == place
        )
        assert row[LAYER_FIELDS.index("frobenius")] == pytest.approx(squares**0.5, rel=1e-5)
    assert len(snapshot.distances) == len(graph.shared_blocks)
