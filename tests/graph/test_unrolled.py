"""The unrolled graph (section 2.3, App. A.2, Table 5): its subgraphs, its size, which networks have one."""

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from nested_loops import GEOMETRIES, lenet_on_digits, naive_edges, small_net, unrolled_edges
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.errors import NonFiniteWeightsError, TracingError
from lightning_nndyn.graph.unrolled import SignedSubgraph

IMAGE = torch.zeros(1, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "printed"),
    [
        ("lenet5", 11_166, 658_024, 658_024),
        ("alexnet", 54_986, 43_475_680, 45_997_696),
        ("vgg7", 205_066, 114_653_184, 119_714_496),
    ],
)
def test_table_5(name: str, nodes: int, edges: int, printed: int) -> None:
    graph = nd.unrolled_graph(getattr(nd.models, name)(), IMAGE)
    assert (graph.num_nodes, graph.num_edges) == (nodes, edges)
    assert graph.count_edges(padding_artefact=True) == printed


# -- the signed subgraphs ----------------------------------------------------------------------------------


def subgraphs(form: str) -> list[tuple[Tensor, SignedSubgraph]]:
    """The signed adjacency, turned so that the wanted entries are positive, with each subgraph."""
    model, x = lenet_on_digits()
    model[0].weight.data[0] = 0
    graph = nd.unrolled_graph(model, x - 0.3, form=form)
    signed = graph.adjacency().to_dense()
    return [(signed, graph.positive()), (-signed, graph.negative())]


@pytest.mark.parametrize("form", ["parameter", "activation"])
def test_subgraphs_split_the_signed_graph(form: str) -> None:
    for signed, subgraph in subgraphs(form):
        adjacency = subgraph.adjacency()
        assert adjacency.layout == torch.sparse_csr
        assert bool((adjacency.values() > 0).all())  # an edge of weight zero is in neither
        assert adjacency.values().numel() == 2 * subgraph.num_edges == int((signed > 0).sum())
        torch.testing.assert_close(adjacency.to_dense(), signed.clamp_min(0))
        source, target = subgraph.edge_index()
        torch.testing.assert_close(signed[source, target], subgraph.edge_weight)
        assert subgraph.num_edges == source.numel()


@pytest.mark.parametrize("form", ["parameter", "activation"])
def test_centralities_take_subgraphs(form: str) -> None:
    for signed, subgraph in subgraphs(form):
        matrix = signed.clamp_min(0)
        torch.testing.assert_close(nd.weighted_degree(subgraph), matrix.sum(1))
        result = nd.eigenvector_centrality(subgraph)
        values = torch.linalg.eigvalsh(matrix)
        assert result.converged
        assert result.eigenvalue == pytest.approx(float(values[-1]), rel=1e-6)
        residual = matrix @ result.vector - result.eigenvalue * result.vector
        assert float(residual.norm()) <= 2e-6 * result.eigenvalue
        by_csr = nd.eigenvector_centrality(subgraph, method="csr")
        assert by_csr.eigenvalue == pytest.approx(result.eigenvalue, rel=1e-6)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_products_that_are_never_unrolled(name: str) -> None:
    model, x = small_net(name)
    for form in ("parameter", "activation"):
        graph = nd.unrolled_graph(model, x, form=form)
        for part in (graph.positive(), graph.negative(), graph.absolute()):
            dense = part.adjacency().to_dense()
            torch.testing.assert_close(nd.weighted_degree(part), dense.sum(1))
            for block in part.blocks:
                first, second = (sum(part.layer_sizes[:i]) for i in (block.source, block.target))
                expected = dense[second:, first:second][: part.layer_sizes[block.target]]
                vector = torch.randn(expected.shape[1], dtype=torch.float64)
                torch.testing.assert_close(block.values @ vector, expected @ vector)
                vector = torch.randn(expected.shape[0], dtype=torch.float64)
                torch.testing.assert_close(block.values.transpose(1, 2) @ vector, expected.T @ vector)
                assert block.values.shape == (1, *expected.shape)
                for axis in (0, 1):
                    torch.testing.assert_close(block.values.sum(axis + 1), expected.sum(axis))
                assert block.values.count() == int((expected > 0).sum())


@pytest.mark.parametrize("form", ["parameter", "activation"])
def test_whole_graph_counts_by_absolute_values(form: str) -> None:
    model, x = lenet_on_digits()
    graph = nd.unrolled_graph(model, x - 0.3, form=form)
    matrix = graph.adjacency().to_dense().abs()
    torch.testing.assert_close(nd.weighted_degree(graph), matrix.sum(1))
    torch.testing.assert_close(graph.absolute().adjacency().to_dense(), matrix)
    result = nd.eigenvector_centrality(graph)
    assert result.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)


def test_eigenvector_of_positive_lenet_equals_scipy() -> None:
    subgraph = nd.unrolled_graph(nd.models.lenet5(), IMAGE).positive()
    csr = subgraph.adjacency()
    matrix = scipy.sparse.csr_matrix((csr.values(), csr.col_indices(), csr.crow_indices()), csr.shape)
    value, vector = scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", tol=1e-10)
    result = nd.eigenvector_centrality(subgraph, tol=1e-8)
    assert result.eigenvalue == pytest.approx(value[0], rel=1e-8)
    np.testing.assert_allclose(result.vector, np.abs(vector[:, 0]), atol=1e-5)


def test_vgg_has_degrees_without_being_unrolled() -> None:
    graph = nd.unrolled_graph(nd.models.vgg7(), IMAGE)
    parts = graph.positive(), graph.negative()
    assert sum(part.num_edges for part in parts) == graph.num_edges
    summaries = [nd.summarize(nd.weighted_degree(part)) for part in parts]
    assert all(bool(summary.isfinite().all()) for summary in summaries)


def test_snapshots_follow_the_weights() -> None:
    model, x = lenet_on_digits()
    taker = nd.SnapshotTaker(nd.unrolled_graph(model, x).negative())
    before = taker.read(0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    after = taker.read(1.0)
    fresh = nd.SnapshotTaker(nd.unrolled_graph(model, x).negative()).read(1.0)
    assert after.statistics[:5] == pytest.approx(fresh.statistics[:5])
    assert after.eigenvalue == pytest.approx(2 * before.eigenvalue, rel=1e-5)


def test_graph_reads_weights_when_asked_and_subgraph_when_refreshed() -> None:
    model, x = lenet_on_digits()
    graph = nd.unrolled_graph(model, x)
    negative = graph.negative()
    degree = nd.weighted_degree(negative)
    model[0].weight.data.neg_()
    torch.testing.assert_close(nd.weighted_degree(negative), degree)
    torch.testing.assert_close(nd.weighted_degree(negative.refresh()), nd.weighted_degree(graph.negative()))
    assert not torch.allclose(nd.weighted_degree(negative), degree)
    np.testing.assert_array_equal(unrolled_edges(graph), naive_edges(model, x))


def test_diverged_weights_are_named() -> None:
    model, x = lenet_on_digits()
    model[3].weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(NonFiniteWeightsError, match="'3'"):
        nd.weighted_degree(nd.unrolled_graph(model, x).positive())


# -- size --------------------------------------------------------------------------------------------------


def test_large_graphs_are_refused_with_count_and_memory() -> None:
    graph = nd.unrolled_graph(nd.models.vgg7(), IMAGE)
    with pytest.raises(ValueError, match=r"114,653,184 edges .*max_edges=50,000,000.* 3\.4 GiB"):
        graph.adjacency()
    with pytest.raises(ValueError, match=r"57,\d\d\d,\d\d\d edges"):
        graph.negative().adjacency()
    with pytest.raises(ValueError, match="weighted_degree"):
        graph.negative().edge_index()
    with pytest.raises(ValueError, match="max_edges"):
        _ = graph.negative().edge_weight


def test_the_bound_can_be_moved() -> None:
    graph = nd.unrolled_graph(nd.models.lenet5(), IMAGE)
    assert graph.adjacency(max_edges=658_024).values().numel() == 2 * 658_024
    with pytest.raises(ValueError, match=r"pass max_edges=658024$"):
        graph.adjacency(max_edges=658_023)
    part = graph.positive()
    with pytest.raises(ValueError, match="max_edges=10"):
        part.adjacency(max_edges=10)


# -- which networks ----------------------------------------------------------------------------------------


class Functional(nn.Module):
    """LeNet-5 as many write it: poolings and reshapes are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(16)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), kernel_size=2)
        x = self.bn2(self.conv2(x)).relu_()
        x = x * torch.sigmoid(x)
        x, _ = F.max_pool2d(x, 2, return_indices=True)
        x = x.view(x.size(0), -1, 25).reshape(-1, 400)
        x = F.dropout(torch.tanh(self.fc1(x)), 0.5, self.training)
        return {"logits": F.log_softmax(self.fc3(self.fc2(x) / 2), dim=1)}


def test_functional_network_on_a_batch_leaves_no_trace() -> None:
    model = Functional()
    x = torch.randn(4, 3, 32, 32)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    graph = nd.unrolled_graph(model, (x,))
    drawn = torch.rand(1)
    assert (graph.num_nodes, graph.num_edges) == (11_166, 658_024)
    names = "input conv1 conv1/max_pool2d conv2 conv2/max_pool2d_with_indices fc1 fc2 fc3"
    assert graph.layer_names == tuple(names.split())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_fully_connected_network_is_its_rolled_graph() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    graph = nd.unrolled_graph(model, torch.zeros(2, 5))
    rolled = nd.rolled_graph(model).adjacency().to_dense().double()
    torch.testing.assert_close(graph.adjacency().to_dense().abs(), rolled)


def test_adaptive_pooling_with_equal_windows() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d((2, None)), nn.Flatten(), nn.Linear(12, 2))
    plain = nn.Sequential(nn.AvgPool2d((4, 1)), nn.Flatten(), nn.Linear(12, 2))
    x = torch.zeros(1, 2, 8, 3)
    assert nd.unrolled_graph(pooled, x).num_edges == nd.unrolled_graph(plain, x).num_edges == 2 * 8 * 3 + 24
    with pytest.raises(TracingError, match="several sizes"):
        nd.unrolled_graph(pooled, torch.zeros(1, 2, 9, 3))


class Around(nn.Module):
    """Two convolutions and a head with something between."""

    def __init__(self, between) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.between = between
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4 * 8 * 8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.between(self, self.conv1(x)).flatten(1))


SHORTCUTS = {
    "residual": lambda m, x: x + m.conv2(x),
    "projection": lambda m, x: m.conv2(x) + F.conv2d(x, m.other.weight),
    "pooled residual": lambda m, x: m.conv2(x) + x.mean((2, 3), True),
    "padded residual": lambda m, x: m.conv2(x) + F.pad(x[:, :2], (0, 0, 0, 0, 1, 1)),
    "gate": lambda m, x: x * torch.sigmoid(m.conv2(x)),
    "branch that nothing reads": lambda m, x: (m.other(x), m.conv2(x))[1],
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_shortcuts_add_neither_nodes_nor_edges(name: str) -> None:
    model = Around(SHORTCUTS[name])
    x = torch.randn(1, 3, 8, 8)
    graph = nd.unrolled_graph(model, x)
    main_path = nn.Sequential(model.conv1, model.conv2, nn.Flatten(), model.fc)
    np.testing.assert_array_equal(unrolled_edges(graph), naive_edges(main_path, x))
    assert graph.layer_names == ("input", "conv1", "conv2", "fc")


def test_shortcut_at_the_very_end() -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return x + self.last(x)

    assert nd.unrolled_graph(Ends(), torch.zeros(1, 4)).layer_names == ("input", "first", "last")


def test_residual_network_of_the_paper_has_the_layers_of_its_rolled_graph() -> None:
    model = nd.models.resnet32()
    graph, rolled = nd.unrolled_graph(model, IMAGE), nd.rolled_graph(model, IMAGE)
    weighted = [layer.name for layer in graph.layers if not layer.pooling]
    assert ["input", *weighted] == list(rolled.layer_names)
    positions = {16: 32 * 32, 32: 16 * 16, 64: 8 * 8}
    maps = sum(size * positions[size] for size in rolled.layer_sizes[1:-1])
    assert graph.num_nodes == 3 * 32 * 32 + maps + 64 + 10  # the last 64 are the pooled maps
    assert sum(part.num_edges for part in (graph.positive(), graph.negative())) == graph.num_edges


NO_CHAINS = {
    "concatenation": (lambda m, x: torch.cat((x[:, :2], m.conv2(x)[:, 2:]), 1), "'conv1' and 'conv2'"),
    "slice": (lambda m, x: m.conv2(x)[:, :, :, ::2].repeat(1, 1, 1, 2), "'conv2' was mixed"),
    "flip": (lambda m, x: m.conv2(x).flip(-1), "'conv2' was mixed, reordered"),
    "transpose": (lambda m, x: m.conv2(x).transpose(2, 3), "'conv2' was mixed, reordered"),
    "channels last": (lambda m, x: m.conv2(x).permute(0, 2, 3, 1), "'conv2' was mixed, reordered"),
    "shuffle": (lambda m, x: F.channel_shuffle(m.conv2(x), 2), "'conv2' was mixed, reordered"),
    "mirror image added": (lambda m, x: x + x.flip(-1), "'conv1' was mixed"),
    "other pooling": (lambda m, x: F.lp_pool2d(x, 2, 1), "lp_pool2d, after 'conv1'"),
    "upsampling": (lambda m, x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2), "avg_pool2d' was mixed"),
    "transposed": (lambda m, x: F.conv_transpose2d(x, m.other.weight), "conv_transpose2d, after 'conv1'"),
    "circular": (lambda m, x: F.conv2d(F.pad(x, (1,) * 4, "circular"), m.conv2.weight), "'conv1' was mixed"),
    "matrix product": (lambda m, x: x @ x.transpose(2, 3), "'conv1' was mixed"),
    "computed weight": (lambda m, x: F.conv2d(x, x.mean() * torch.ones(4, 4, 1, 1)), "no parameter"),
    "no batch": (lambda m, x: m.conv2(x[0])[None], "shape \\(4, 8, 8\\)"),
    "linear on pixels": (lambda m, x: F.linear(x, torch.eye(8)), "not a batch of vectors"),
}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_no_chain_is_refused_with_the_way_out(name: str) -> None:
    between, message = NO_CHAINS[name]
    model = Around(between)
    with pytest.raises(TracingError, match=message) as raised:
        nd.unrolled_graph(model, torch.randn(1, 3, 8, 8))
    assert "nd.rolled_graph" in str(raised.value)


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        (nn.Conv1d(3, 4, 3), torch.zeros(1, 3, 9), "conv1d, after the input"),
        (nn.LSTM(4, 4), torch.zeros(2, 1, 4), "lstm"),
        (nn.Embedding(5, 4), torch.zeros(1, 4, dtype=torch.long), "embedding"),
        (nn.ReLU(), torch.zeros(1, 4), "calls no layer"),
        (nn.Linear(4, 2), torch.zeros(4), "pass one batch"),
        (nn.Bilinear(4, 4, 2), (torch.zeros(1, 4), torch.zeros(1, 4)), "2 tensors"),
        (nn.Linear(4, 2), torch.zeros(1, 5), "Linear rejects the example input of shape"),
    ],
)
def test_other_layers_and_inputs_are_refused(model: nn.Module, x: Tensor, message: str) -> None:
    with pytest.raises(TracingError, match=message):
        nd.unrolled_graph(model, x)


def test_batch_folded_into_features_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (4, 3)), nn.Linear(3, 2))
    with pytest.raises(TracingError, match="mixed, reordered"):
        nd.unrolled_graph(model, torch.zeros(1, 12))


def test_form_is_checked() -> None:
    model, x = lenet_on_digits()
    with pytest.raises(ValueError, match="form='weights'"):
        nd.unrolled_graph(model, x, form="weights")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds 3"):
        nd.unrolled_graph(model, x.expand(3, -1, -1, -1), form="activation")


@pytest.mark.cuda
def test_on_a_gpu_as_on_the_cpu() -> None:
    model, x = lenet_on_digits()
    here = nd.unrolled_graph(model, x).negative()
    degree, eigenvalue = nd.weighted_degree(here), nd.eigenvector_centrality(here).eigenvalue
    adjacency = here.adjacency().to_dense()
    there = nd.unrolled_graph(model.cuda(), x.cuda()).negative()
    assert there.device.type == "cuda"
    torch.testing.assert_close(nd.weighted_degree(there).cpu(), degree)
    torch.testing.assert_close(there.adjacency().to_dense().cpu(), adjacency)
    for method in ("blocks", "csr"):
        found = nd.eigenvector_centrality(there, method=method)
        assert found.eigenvalue == pytest.approx(eigenvalue, rel=1e-6)
    values = nd.unrolled_graph(model, x.cuda(), form="activation").positive()
    assert float(nd.weighted_degree(values).sum()) == pytest.approx(
        2 * float(values.edge_weight.sum()), rel=1e-9
    )
