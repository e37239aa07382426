"""What each kind of layer and join means in the graph of the whole data flow, weight by weight."""

import copy
from collections.abc import Iterator

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo_custom as custom
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.matvec import BlockOperator, CsrOperator
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.coverage import NEVER_CALLED, NOT_OBSERVED, PER_CHANNEL
from lightning_nndyn.graph.tracing.custom_layers import _REGISTERED


def traced(model: nn.Module, *example: Tensor) -> RolledGraph:
    return nd.rolled_graph(model, example, topology="dataflow")


def joints(graph: RolledGraph) -> set[tuple[str, str]]:
    names = graph.layer_names
    return {(names[block.source], names[block.target]) for block in graph.blocks}


def edges(graph: RolledGraph, source: str, target: str) -> Tensor:
    """Weights of the edges from one node layer to another, [targets, sources]; 0 where there is none."""
    first, last = graph.layer_names.index(source), graph.layer_names.index(target)
    found = torch.zeros(graph.layer_sizes[last], graph.layer_sizes[first])
    one, other = graph.edge_index()
    layer = graph.node_layers
    for a, b, weight in zip(one.tolist(), other.tolist(), graph.edge_weight.tolist(), strict=True):
        if (int(layer[a]), int(layer[b])) == (first, last):
            found[b - graph.offsets[last], a - graph.offsets[first]] += weight
    return found


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


def heads_of(weight: Tensor, heads: int) -> Tensor:
    """What a channel of queries or keys weighs: the norm over the positions of its head."""
    norms = weight.detach().unflatten(1, (heads, -1)).norm(dim=2)
    return norms.repeat_interleave(weight.shape[1] // heads, 1)


def test_attention_joins_values_by_channel_and_queries_by_head() -> None:
    model = custom.SeparateAttention()
    graph = traced(model, torch.randn(2, 3, 4), torch.randn(2, 5, 3), torch.randn(2, 5, 5))
    out = model.attention.out_proj.weight
    for part in ("attention.q", "attention.k"):
        torch.testing.assert_close(edges(graph, part, "attention.out_proj"), heads_of(out, 2))
    torch.testing.assert_close(edges(graph, "attention.v", "attention.out_proj"), out.detach().abs())
    for part, source in (("q", "input"), ("k", "input#2"), ("v", "input#3")):
        weight = getattr(model.attention, f"{part}_proj_weight").detach()
        torch.testing.assert_close(edges(graph, source, f"attention.{part}"), weight.abs())


class FusedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class WrittenAttention(nn.Module):
    """The same from single layers: four ways to write the product of queries and keys."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.how == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            weight = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
            mixed = torch.einsum("bhij,bhjd->bhid", weight, v)
        elif self.how == "bmm":
            flat = [part.flatten(0, 1) for part in (q, k, v)]
            mixed = torch.bmm(torch.bmm(flat[0], flat[1].mT).softmax(-1), flat[2]).unflatten(0, (-1, 2))
        else:
            mixed = (q @ k.mT).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("how", ["sdpa", "einsum", "matmul", "bmm"])
def test_attention_is_the_same_however_it_is_written(how: str) -> None:
    written, fused = WrittenAttention(how), FusedAttention()
    with torch.no_grad():
        weights = [layer.weight for layer in (written.q, written.k, written.v)]
        fused.inner.in_proj_weight.copy_(torch.cat(weights))
        fused.inner.out_proj.weight.copy_(written.out.weight)
    x = torch.randn(2, 4, 6)
    one, other = traced(written, x), traced(fused, x)
    for part in "qkv":
        torch.testing.assert_close(edges(one, part, "out"), edges(other, f"inner.{part}", "inner.out_proj"))
        torch.testing.assert_close(edges(one, "input", part), edges(other, "input", f"inner.{part}"))


def test_a_hidden_unit_is_a_node_and_its_gates_make_one_slice() -> None:
    model = custom.LstmHead()
    graph = traced(model, torch.randn(2, 7, 5))
    assert graph.layer_names == ("input", "lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse", "fc")
    gates = model.lstm.weight_ih_l0.detach().view(4, 6, 5).norm(dim=0)
    torch.testing.assert_close(edges(graph, "input", "lstm.l0"), gates)
    gates = model.lstm.weight_ih_l1_reverse.detach().view(4, 6, 12).norm(dim=0)
    torch.testing.assert_close(edges(graph, "lstm.l0", "lstm.l1_reverse"), gates[:, :6])
    torch.testing.assert_close(edges(graph, "lstm.l0_reverse", "lstm.l1_reverse"), gates[:, 6:])
    assert all("recurrent" in reason for reason in graph.left_out.values())
    assert set(graph.left_out) == {
        f"lstm.weight_hh_l{layer}{direction}" for layer in (0, 1) for direction in ("", "_reverse")
    }


def test_a_cell_unrolled_by_hand_is_joined_through_its_state() -> None:
    model = custom.Cells()
    graph = traced(model, torch.randn(2, 3, 3))
    assert graph.layer_names == ("input", "cell", "cell#2", "cell#3", "fc")
    state = model.cell.weight_hh.detach().view(3, 4, 4).norm(dim=0)
    torch.testing.assert_close(edges(graph, "cell", "cell#2"), state)
    torch.testing.assert_close(edges(graph, "cell#2", "cell#3"), state)
    assert graph.left_out == {}


def test_a_decoder_is_joined_to_the_encoder_whose_state_it_begins_with() -> None:
    model = custom.Translator()
    graph = traced(model, custom.tokens(2, 5), custom.tokens(2, 4))
    gates = model.decoder.weight_hh_l0.detach().view(4, 6, 6).norm(dim=0)
    torch.testing.assert_close(edges(graph, "encoder.l0", "decoder.l0"), gates)
    assert set(graph.left_out) == {"encoder.weight_hh_l0"}


def test_what_lies_in_a_module_whose_own_weight_is_used_is_named_too() -> None:
    """As in CLIP, whose projections are parameters of modules that hold all else."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc, self.unused = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(self.norm(x))

    class Clip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.norm = nn.Linear(5, 8), Block(), nn.LayerNorm(8)
            self.projection = nn.Parameter(torch.randn(8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.block(self.stem(x))) @ self.projection

    graph = nd.rolled_graph(Clip(), torch.randn(3, 5), topology="dataflow")
    assert graph.layer_names == ("input", "stem", "block.fc", "projection")
    assert graph.left_out == {"block.norm": PER_CHANNEL, "norm": PER_CHANNEL, "block.unused": NEVER_CALLED}


def test_a_projected_lstm_is_left_out_by_name() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.lstm, self.out = nn.Linear(3, 4), nn.LSTM(4, 6, proj_size=2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(self.body(x))[0])

    graph = traced(Projected(), torch.randn(5, 2, 3))
    assert joints(graph) == {("input", "body"), ("body", "out")}
    assert set(graph.left_out) == {f"lstm.weight_{part}_l0" for part in ("ih", "hh", "hr")}


def test_scripted_code_is_passed_through() -> None:
    inner = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    model = nn.Sequential(nn.Linear(3, 4), torch.jit.trace(inner, torch.randn(2, 4)), nn.Linear(5, 2))
    graph = traced(model, torch.randn(2, 3))
    assert joints(graph) == {("input", "0"), ("0", "2")}
    assert any(name.startswith("1.0") for name in graph.left_out)


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


def test_what_has_no_meaning_is_named_and_passed_through() -> None:
    graph = traced(custom.Bilinear(), torch.randn(2, 3))
    assert joints(graph) == {("input", "a"), ("input", "b"), ("a", "out"), ("b", "out")}
    assert "bilinear" in graph.left_out["join"]
    graph = traced(custom.Stacked(at_once=True), torch.randn(2, 4))
    assert "bmm" in graph.left_out["experts"] and ("stem", "out") in joints(graph)


def test_slices_of_one_parameter_are_a_layer_each() -> None:
    model = custom.Stacked(at_once=False)
    graph = traced(model, torch.randn(2, 4))
    for index, name in enumerate(("experts", "experts#2", "experts#3")):
        torch.testing.assert_close(edges(graph, "stem", name), model.experts[index].detach().abs())
    with torch.no_grad():
        model.experts[1].mul_(3)
    torch.testing.assert_close(edges(graph.refresh(), "stem", "experts#2"), model.experts[1].detach().abs())


def test_layers_without_gradients_and_unused_layers() -> None:
    graph = traced(custom.NoGrad(), torch.randn(2, 3, 5, 5))
    assert joints(graph) == {("input", "body"), ("body", "head")}
    graph = traced(custom.Unused(), torch.randn(2, 4))
    assert joints(graph) == {("input", "a"), ("a", "b"), ("a", "wasted")}
    assert graph.left_out == {"never": NEVER_CALLED}


def test_writes_in_place_through_views_old_and_new() -> None:
    model = custom.InPlace()
    graph = traced(model, torch.randn(2, 2, 4, 4))
    kernel = model.out.weight.detach()[:, :, 0, 0].abs()
    halves = {"a": kernel[:, :3], "b": kernel[:, :3], "c": kernel[:, 3:], "late": kernel[:, 3:]}
    for name, half in halves.items():
        torch.testing.assert_close(edges(graph, name, "out"), half)
    tail = model.tail.weight.detach()[:, :, 0, 0].abs()
    assert {source for source, target in joints(graph) if target == "tail"} == {"c", "late"}
    torch.testing.assert_close(edges(graph, "late", "tail"), tail)


def test_what_was_overwritten_is_forgotten() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            made = self.a(x)
            made[:, 1:3] = self.b(x)[:, 1:3]
            made[:, 3] = 0
            return self.out(made)

    model = Overwriting()
    graph = traced(model, torch.randn(2, 3))
    weight, none = model.out.weight.detach().abs(), torch.zeros(2)
    torch.testing.assert_close(edges(graph, "a", "out"), torch.stack((weight[:, 0], none, none, none), 1))
    torch.testing.assert_close(
        edges(graph, "b", "out"), torch.stack((none, weight[:, 1], weight[:, 2], none), 1)
    )


@pytest.fixture
def registered() -> Iterator[None]:
    nd.register_layer(custom.OwnLinear, "kernel")
    yield
    del _REGISTERED[custom.OwnLinear]


def test_a_hidden_layer_of_the_users_own_is_named_until_it_is_registered() -> None:
    model = custom.WithOwn()
    graph = traced(model, torch.randn(2, 4))
    assert graph.left_out == {"1": NOT_OBSERVED} and ("0", "3") in joints(graph)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_registered_layer_is_a_layer(topology: str) -> None:
    class Heir(custom.OwnLinear):
        pass

    model = custom.WithOwn(Heir)
    graph = nd.rolled_graph(model, torch.randn(2, 4), topology=topology)
    assert graph.layer_names == ("input", "0", "1", "3") and graph.left_out == {}
    torch.testing.assert_close(edges(graph, "0", "1"), model[1].kernel.detach().abs())


@pytest.mark.usefixtures("registered")
def test_an_unrolled_graph_refuses_a_registered_layer_by_name() -> None:
    with pytest.raises(TracingError, match=r"1, a layer of your own \(OwnLinear\)"):
        nd.unrolled_graph(custom.WithOwn(), torch.randn(1, 4))


def test_a_registered_layer_may_read_its_weight_by_a_function_in_groups() -> None:
    class Scaled(nn.Module):
        """A grouped convolution in whole numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("whole", torch.randint(-9, 9, (6, 2, 3, 3), dtype=torch.int8))
            self.parts = 2

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.whole.float() / 9, groups=self.parts)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(), nn.Conv2d(6, 2, 1))
    assert traced(model, torch.randn(2, 3, 5, 5)).layer_names == ("input", "0", "2")
    nd.register_layer(Scaled, lambda module: module.whole.float() / 9, groups="parts", axis=1)
    graph = traced(model, torch.randn(2, 3, 5, 5))
    norms = (model[1].whole.float() / 9).norm(dim=(2, 3))
    assert graph.blocks[1].values.shape == (2, 3, 2)
    torch.testing.assert_close(edges(graph, "0", "1")[:3, :2], norms[:3])
    assert edges(graph, "0", "1")[:3, 2:].abs().sum() == 0


def test_a_wrong_registration_is_told_of_and_disturbs_no_training_step() -> None:
    class Ungrouped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    model = nn.Sequential(nn.Linear(3, 4), Ungrouped())
    nd.register_layer(Ungrouped, groups="parts")
    tracer = nd.LayerTracer(model, topology="dataflow")
    with tracer:
        assert model(torch.randn(2, 3)).shape == (2, 4)
    with pytest.raises(TracingError, match="parts"):
        tracer.graph()


def test_register_layer_takes_classes_of_modules_alone() -> None:
    with pytest.raises(TypeError, match="Tensor"):
        nd.register_layer(Tensor)  # type: ignore[type-var]


def test_quantised_layers_are_left_out_by_name() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2))
    engine = torch.backends.quantized.supported_engines[-1]
    if engine == "none":
        pytest.skip("torch was built without a quantised engine")
    torch.backends.quantized.engine = engine
    quantised = torch.ao.nn.quantized.dynamic.Linear.from_float
    model[2].qconfig = torch.ao.quantization.default_dynamic_qconfig
    model[2] = quantised(model[2])
    graph = traced(model, torch.randn(2, 4))
    assert graph.layer_names == ("input", "0", "3") and graph.left_out == {"2": NOT_OBSERVED}
    assert ("0", "3") in joints(graph)


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
