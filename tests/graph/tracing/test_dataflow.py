"""What each kind of layer and join means in the graph of the whole data flow, weight by weight."""

import copy

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo_custom as custom
from layer_edges import edges, joints, traced
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.matvec import BlockOperator, CsrOperator
from lightning_nndyn.graph.tracing.coverage import NEVER_CALLED, PER_CHANNEL


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg7"])
def test_a_network_without_branches_is_the_same_in_both_topologies(name: str) -> None:
    model = getattr(nd.models, name)()
    chain, flow = nd.rolled_graph(model), nd.rolled_graph(model, topology="dataflow")
    assert flow.layer_names == chain.layer_names and flow.layer_sizes == chain.layer_sizes
    assert torch.equal(flow.edge_weight, chain.edge_weight)


def test_a_residual_stream_joins_all_that_adds_to_it() -> None:
    model = custom.Residual()
    graph = traced(model, torch.randn(2, 3))
    assert joints(graph) == {
        ("input", "stem"),
        ("stem", "a"),
        *((source, "b") for source in ("stem", "a")),
        *((source, "head") for source in ("stem", "a", "b")),
    }
    for source in ("stem", "a", "b"):
        torch.testing.assert_close(edges(graph, source, "head"), model.head.weight.detach().abs())
    assert graph.left_out == {"norm": PER_CHANNEL}


def test_what_reads_the_same_slices_shares_their_memory() -> None:
    graph = traced(custom.Residual(), torch.randn(2, 3))
    assert len(graph.blocks) == 7 and len(graph.shared_blocks) == 4
    assert graph.num_edges == 3 * 4 + 4 * 4 + 2 * 4 * 4 + 3 * 4 * 2
    assert graph.distinct_weights.numel() == 3 * 4 + 4 * 4 + 4 * 4 + 4 * 2


def test_a_concatenation_gives_each_its_own_part_of_the_slice() -> None:
    model = custom.UNet()
    graph = traced(model, torch.randn(2, 3, 8, 8))
    kernel = model.up1[0].weight.detach().norm(dim=(2, 3))
    torch.testing.assert_close(edges(graph, "down1.0", "up1.0"), kernel[:, :4])
    torch.testing.assert_close(edges(graph, "rise1", "up1.0"), kernel[:, 4:])


def test_grouped_and_transposed_convolutions_behind_shuffles() -> None:
    model = custom.Groups()
    graph = traced(model, torch.randn(2, 3, 5, 5))
    order = torch.arange(6).view(2, 3).T.reshape(-1)  # position j of b's input holds channel order[j] of a
    expected = torch.zeros(6, 6)
    kernel = model.b.weight.detach().norm(dim=(2, 3))
    for target in range(6):
        for depth in range(2):
            expected[target, order[target // 2 * 2 + depth]] = kernel[target, depth]
    torch.testing.assert_close(edges(graph, "a", "b"), expected)
    depthwise = model.depthwise.weight.detach().norm(dim=(2, 3)).view(-1)
    expected = torch.zeros(16, 6)
    expected[torch.arange(4, 16), torch.arange(6).repeat_interleave(2)] = depthwise[4:]
    torch.testing.assert_close(edges(graph, "b", "depthwise"), expected)
    assert graph.num_edges == 3 * 6 + 6 * 2 + 6 * 2 + 16 + 16 * 2


def test_a_transposed_convolution_in_groups_behind_a_view() -> None:
    model = custom.AutoEncoder()
    graph = traced(model, torch.randn(2, 1, 16, 16))
    # Unit j of the linear layer is position j % 16 of channel j // 16, the first half of them in group 0.
    kernel = model.decoder[0].weight.detach().norm(dim=(2, 3))  # [8 in, 2 out a group]
    expected = torch.zeros(4, 128)
    expected[:2, :64], expected[2:, 64:] = (
        half.repeat_interleave(16, 0).T for half in (kernel[:4], kernel[4:])
    )
    torch.testing.assert_close(edges(graph, "back", "decoder.0"), expected)
    code = model.code.weight.detach().view(5, 8, 16).norm(dim=2)
    torch.testing.assert_close(edges(graph, "encoder.2", "code"), code)


def test_a_token_mixing_layer_meets_each_channel_with_its_whole_row() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.channels, self.tokens = nn.Linear(3, 4), nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.tokens(self.channels(x).transpose(1, 2))

    model = Mixer()
    graph = traced(model, torch.randn(2, 5, 3))
    rows = model.tokens.weight.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(edges(graph, "channels", "tokens"), rows.expand(6, 4))


def test_a_hidden_layout_means_every_channel_meets_the_whole_row() -> None:
    model = custom.Spectrum()
    graph = traced(model, torch.randn(2, 4))
    rows = model.after.weight.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(edges(graph, "before", "after"), rows.expand(2, 6))


def test_an_embedding_is_an_input_layer_and_a_tied_head_reads_its_weight() -> None:
    model = custom.Tied()
    graph = traced(model, custom.tokens(2, 5))
    assert (graph.layer_names, graph.layer_sizes) == (("embedding", "mix", "head"), (6, 6, 11))
    torch.testing.assert_close(edges(graph, "mix", "head"), model.embedding.weight.detach().abs())
    assert graph.left_out == {}


def test_experts_are_all_there_that_were_asked() -> None:
    model = custom.Experts()
    graph = traced(model, torch.randn(12, 5))
    experts = [f"experts.{index}" for index in range(4)]
    assert joints(graph) == {
        ("input", "stem"),
        ("stem", "router"),
        ("router", "head"),
        *(("stem", expert) for expert in experts),
        *((expert, "head") for expert in experts),
    }
    with torch.no_grad():  # a router that sends all to the first two
        model.router.weight.zero_()
        model.router.bias.copy_(torch.tensor([3.0, 2.0, 1.0, 0.0]))
    graph = traced(model, torch.randn(12, 5))
    assert graph.left_out == {"experts.2": NEVER_CALLED, "experts.3": NEVER_CALLED}


def test_slices_of_one_parameter_are_a_layer_each() -> None:
    model = custom.Stacked(at_once=False)
    graph = traced(model, torch.randn(2, 4))
    for index, name in enumerate(("experts", "experts#2", "experts#3")):
        torch.testing.assert_close(edges(graph, "stem", name), model.experts[index].detach().abs())
    with torch.no_grad():
        model.experts[1].mul_(3)
    torch.testing.assert_close(edges(graph.refresh(), "stem", "experts#2"), model.experts[1].detach().abs())


@pytest.mark.needs("transformers", "peft")
def test_adapters_are_layers_beside_the_frozen_one() -> None:
    import peft

    base = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"], lora_alpha=2))
    graph = traced(model, torch.randn(2, 4))
    short = [name.removeprefix("base_model.model.") for name in graph.layer_names]
    assert short == ["input", "0.base_layer", "0.lora_A.default", "0.lora_B.default", "2"]
    pairs = {tuple(part.removeprefix("base_model.model.") for part in pair) for pair in joints(graph)}
    assert {
        ("0.base_layer", "2"),
        ("0.lora_B.default", "2"),
        ("0.lora_A.default", "0.lora_B.default"),
    } < pairs


def test_inputs_that_several_layers_read_are_one_node_layer() -> None:
    class TwoEyes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(5, 3, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.a(x[:, :2]) + self.b(x[:, 1:4]) + self.c(torch.cat([y, x[:, :3]], 1))

    graph = traced(TwoEyes(), torch.randn(2, 5, 4, 4), torch.randn(2, 2, 4, 4))
    assert dict(zip(graph.layer_names, graph.layer_sizes, strict=True)) == {
        "input": 4,  # the fifth channel is not read
        "input#2": 2,
        "a": 3,
        "b": 3,
        "c": 3,
    }
    assert graph.num_edges == 2 * 3 + 3 * 3 + 5 * 3


def test_a_layer_that_reads_nothing_from_outside_has_a_constant_layer() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.place, self.out = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.body(x) + self.place(torch.ones(1, 2)))

    graph = traced(Positions(), torch.randn(2, 3))
    assert ("constant", "place") in joints(graph) and ("place", "out") in joints(graph)


@pytest.mark.parametrize("build", [custom.Residual, custom.UNet, custom.Groups, custom.EinsumAttention])
def test_adjacency_products_and_centralities_agree(build: type[nn.Module]) -> None:
    shapes = {custom.Residual: (2, 3), custom.EinsumAttention: (2, 3, 5)}
    graph = traced(build(), torch.randn(shapes.get(build, (2, 3, 8, 8))))
    dense = graph.adjacency().to_dense()
    assert torch.equal(dense, dense.T)
    assert int((dense > 0).sum()) == 2 * graph.num_edges
    np.testing.assert_array_equal(networkx.to_numpy_array(graph.to_networkx(), range(graph.num_nodes)), dense)
    torch.testing.assert_close(nd.weighted_degree(graph), dense.sum(0))
    vector = torch.rand(graph.num_nodes)
    for products in (BlockOperator(graph, graph.dtype), CsrOperator(graph, graph.dtype)):
        torch.testing.assert_close(
            products.matvec_forward(vector) + products.matvec_backward(vector), dense @ vector
        )
    values, vectors = np.linalg.eigh(dense.double().numpy())
    found = nd.eigenvector_centrality(graph)
    assert found.converged and found.eigenvalue == pytest.approx(values[-1], rel=1e-6)
    np.testing.assert_allclose(found.vector, np.abs(vectors[:, -1]), atol=2e-5)


def test_refresh_reads_new_weights_everywhere() -> None:
    model = custom.Groups()
    graph = traced(model, torch.randn(2, 3, 5, 5))
    adjacency, before = graph.adjacency().to_dense(), graph.edge_weight.clone()
    products = CsrOperator(graph, graph.dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    graph.refresh()
    products.refresh()
    torch.testing.assert_close(graph.edge_weight, 2 * before)
    torch.testing.assert_close(graph.adjacency().to_dense(), 2 * adjacency)
    vector = torch.rand(graph.num_nodes)
    torch.testing.assert_close(
        products.matvec_forward(vector) + products.matvec_backward(vector), 2 * adjacency @ vector
    )


def test_snapshots_can_be_taken_of_a_data_flow() -> None:
    snapshot = nd.SnapshotTaker(traced(custom.UNet(), torch.randn(2, 3, 8, 8))).read(0)
    assert snapshot.finite and snapshot.residual <= 1e-6


def test_riding_on_a_training_step_changes_nothing_and_sees_the_same() -> None:
    def step(tracer: nd.LayerTracer | None, model: nn.Module) -> list[Tensor]:
        torch.manual_seed(0)
        x, y = torch.randn(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
        if tracer is None:
            loss = F.cross_entropy(model(x), y)
        else:
            with tracer:
                loss = F.cross_entropy(model(x), y)
        loss.backward()
        return [loss.detach(), torch.rand(1), *(p.grad for p in model.parameters() if p.grad is not None)]

    torch.manual_seed(1)
    model = nd.models.resnet32(dropout=0.3)
    other = copy.deepcopy(model)
    tracer = nd.LayerTracer(other, topology="dataflow")
    for plain, ridden in zip(step(None, model), step(tracer, other), strict=True):
        assert torch.equal(plain, ridden)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in other.modules())
    graph = tracer.graph()
    assert joints(graph) == joints(nd.rolled_graph(other, torch.randn(1, 3, 32, 32), topology="dataflow"))
    assert graph.num_nodes == 1_149  # those of the chain: its shortcuts hold no layer
    assert graph.num_edges > 51_888


def test_wrong_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="'tree'"):
        nd.rolled_graph(nn.Linear(2, 2), topology="tree")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers="):
        nd.rolled_graph(nn.Linear(2, 2), layers=["0"], topology="dataflow")
    with pytest.raises(TracingError, match="ReLU"):
        nd.rolled_graph(nn.ReLU(), torch.randn(2, 2), topology="dataflow")
