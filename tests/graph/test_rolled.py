"""Table 5 and the rules of section 3.1."""

from typing import Any

import networkx
import numpy as np
import pytest
import torch
from torch import nn

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph

TABLE_5 = [
    ("lenet5", 10, 239, 12_954),
    ("alexnet", 10, 2_925, 1_160_480),
    ("vgg7", 10, 1_613, 304_576),
    ("resnet32", 10, 1_149, 51_888),
    ("resnet44", 10, 1_597, 73_392),
    ("lenet5", 100, 713, 115_362),
    ("alexnet", 100, 3_015, 1_206_560),
]


@pytest.mark.parametrize(("name", "classes", "nodes", "edges"), TABLE_5)
def test_table_5(name: str, classes: int, nodes: int, edges: int) -> None:
    graph = nd.rolled_graph(getattr(nd.models, name)(classes))
    assert (graph.num_nodes, graph.num_edges) == (nodes, edges)
    assert graph.left_out == {}


def test_table_5_torchvision_resnet50() -> None:
    pytest.importorskip("torchvision")
    graph = nd.rolled_graph(nd.models.resnet50(100))
    assert (graph.num_nodes, graph.num_edges) == (22_823, 10_821_824)
    assert sorted(graph.left_out) == [f"layer{i}.0.downsample.0" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (4, 64), (2, 15), (1, 4)])
def test_lenet_takes_any_channels_and_sizes(channels: int, size: int) -> None:
    model = nd.models.lenet5(in_channels=channels, image_size=size)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 10)
    graph = nd.rolled_graph(model, torch.zeros(2, channels, size, size))
    assert graph.num_nodes == 236 + channels
    assert graph.num_edges == 12_954 + 6 * (channels - 3)


def test_lenet_refuses_an_image_that_vanishes() -> None:
    with pytest.raises(ValueError, match="image_size=3"):
        nd.models.lenet5(image_size=3)


def naive_weights(model: nn.Sequential) -> list[np.ndarray]:
    """Edge weights [sources, targets] of each block of LeNet, entry by entry after section 3.1."""
    blocks, channels = [], None
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            w = layer.weight.detach().double().numpy()
            blocks.append(
                np.array([[np.linalg.norm(w[j, k]) for j in range(len(w))] for k in range(w.shape[1])])
            )
            channels = len(w)
        elif isinstance(layer, nn.Linear):
            w = layer.weight.detach().double().numpy()
            w = w.reshape(len(w), channels, -1) if w.shape[1] != channels else w[:, :, None]
            blocks.append(
                np.array([[np.linalg.norm(w[j, k]) for j in range(len(w))] for k in range(w.shape[1])])
            )
            channels = len(w)
    return blocks


def test_every_edge_weight_of_lenet() -> None:
    model = nd.models.lenet5()
    graph = nd.rolled_graph(model)
    dense = graph.adjacency().to_dense()
    offsets = graph.offsets
    for layer, expected in enumerate(naive_weights(model)):
        block = dense[offsets[layer] : offsets[layer + 1], offsets[layer + 1] : offsets[layer + 2]]
        np.testing.assert_allclose(block, expected, rtol=2e-6)


def test_adjacency_is_symmetric_csr_and_k_partite() -> None:
    graph = nd.rolled_graph(nd.models.vgg7())
    adjacency = graph.adjacency()
    assert adjacency.layout == torch.sparse_csr
    assert adjacency.values().numel() == 2 * graph.num_edges
    dense = adjacency.to_dense()
    assert torch.equal(dense, dense.T)
    layer = graph.node_layers
    assert layer.dtype == torch.long
    assert layer.shape == (graph.num_nodes,)
    apart = (layer[:, None] - layer[None, :]).abs()
    assert (dense[apart != 1] == 0).all()


def test_networkx_gives_the_same_graph() -> None:
    graph = nd.rolled_graph(nd.models.lenet5())
    other = graph.to_networkx()
    assert (other.number_of_nodes(), other.number_of_edges()) == (239, 12_954)
    np.testing.assert_array_equal(networkx.to_numpy_array(other, range(239)), graph.adjacency().to_dense())
    assert [layer for _, layer in other.nodes(data="layer")] == graph.node_layers.tolist()


def test_refresh_reads_in_place_without_new_memory() -> None:
    model = nd.models.alexnet()
    graph = nd.rolled_graph(model)
    adjacency = graph.adjacency()
    where = [block.values.data_ptr() for block in graph.blocks] + [adjacency.values().data_ptr()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    before = graph.edge_weight.clone()
    with torch.profiler.profile(profile_memory=True) as profile:
        graph.refresh()
    allocated = sum(
        event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0
    )
    assert allocated < 4096, f"refresh allocated {allocated} bytes"
    torch.testing.assert_close(graph.edge_weight, 3 * before)
    torch.testing.assert_close(adjacency.values(), graph.adjacency().values())
    assert where == [b.values.data_ptr() for b in graph.blocks] + [graph.adjacency().values().data_ptr()]


def test_misfitting_sizes_are_named() -> None:
    weight = LayerWeight("fc", lambda: torch.zeros(4, 10))
    with pytest.raises(TracingError, match=r"'fc' reads 10 inputs.*3 source"):
        RolledGraph([3, 4], [weight])
    with pytest.raises(TracingError, match="'fc' has 4 outputs"):
        RolledGraph([5, 3], [weight])


def test_a_diverged_reading_leaves_nothing_behind() -> None:
    """NaN in the buffer must not survive the next reading of sound weights."""
    model = nd.models.lenet5()
    graph = nd.rolled_graph(model)
    before = graph.edge_weight.clone()
    sound = [parameter.detach().clone() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
        assert graph.refresh().edge_weight.isnan().all()
        for parameter, value in zip(model.parameters(), sound, strict=True):
            parameter.copy_(value)
    assert torch.equal(graph.refresh().edge_weight, before)


@pytest.mark.parametrize(("network", "least"), [("lenet5", 4), ("alexnet", 15), ("vgg7", 16)])
def test_the_rolled_graph_does_not_depend_on_the_image_size(network: str, least: int) -> None:
    build = getattr(nd.models, network)
    counts = set()
    for size in (least, 17, 32, 40):
        found = nd.rolled_graph(build(image_size=size), torch.zeros(2, 3, size, size))
        counts.add((found.num_nodes, found.num_edges))
    assert len(counts) == 1
    with pytest.raises(ValueError, match=rf"image_size={least - 1} .*at least {least}"):
        build(image_size=least - 1)


def test_the_old_name_of_the_edges_argument() -> None:
    weights = [LayerWeight(name, lambda: torch.ones(2, 2)) for name in ("a", "b")]
    edges = [((0,), 1), ((0, 1), 2)]
    graph = RolledGraph([2, 2, 2], weights, edges=edges)
    with pytest.warns(DeprecationWarning, match="'joints' is now called 'edges'"):
        former = RolledGraph([2, 2, 2], weights, joints=edges)  # type: ignore[call-arg]
    assert torch.equal(former.edge_index(), graph.edge_index())


# -- complex weights -----------------------------------------------------------------------------------------


class ComplexNet(nn.Module):
    """A grouped and a transposed convolution, a flatten, a bare matrix."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(2, 4, 3, groups=2, dtype=dtype)
        self.transposed = nn.ConvTranspose2d(4, 3, 2, dtype=dtype)
        self.fc = nn.Linear(27, 5, dtype=dtype)
        self.last = nn.Parameter(torch.randn(5, 2, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.transposed(self.grouped(x)).tanh().flatten(1)) @ self.last.conj()


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize(("dtype", "real"), [(torch.cfloat, torch.float32), (torch.cdouble, torch.float64)])
@pytest.mark.filterwarnings("error")
def test_complex_weights_count_by_their_moduli(topology: Any, dtype: torch.dtype, real: torch.dtype) -> None:
    model = ComplexNet(dtype)
    graph = nd.rolled_graph(model, torch.zeros(2, 2, 4, 4, dtype=dtype), topology=topology)
    parts = (model.grouped.weight, model.transposed.weight, model.fc.weight.view(5, 3, 9), model.last)
    moduli = [part.detach().abs() for part in parts]
    norms = [w.flatten(2).norm(dim=2) if w.dim() > 2 else w for w in moduli]
    degree = nd.weighted_degree(graph)
    assert graph.dtype == real
    torch.testing.assert_close(degree.sum(), 2 * torch.stack([w.sum() for w in norms]).sum().to(degree.dtype))
    assert nd.eigenvector_centrality(graph).converged
    reader = nd.SnapshotTaker(graph, per_layer=True)
    reader.take(0.0)
    with torch.no_grad():
        model.fc.weight.mul_(1j)  # the same moduli elsewhere
    assert reader.take(1.0).distances == pytest.approx([0, 0, 2**0.5, 0])


def test_an_unrolled_graph_refuses_complex_weights_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 2, dtype=torch.cfloat))
    with pytest.raises(TracingError, match="0 has complex weights"):
        nd.unrolled_graph(model, torch.zeros(1, 3, dtype=torch.cfloat))
