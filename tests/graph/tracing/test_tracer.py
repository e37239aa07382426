"""Watching a forward pass: how layers and their weights are found, and that nothing is disturbed."""

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import lightning_nndyn as nd
from lightning_nndyn.errors import TracingError


class Functional(nn.Module):
    """Bare parameters and functional calls; the weights of the second product lie [in, out]."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, 3, 3, 3))
        self.matrix = nn.Parameter(torch.randn(5 * 4, 7))
        self.last = nn.Parameter(torch.randn(2, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.kernel, padding=1))
        x = F.adaptive_avg_pool2d(x, 2).reshape(len(x), -1)
        return torch.relu(x @ self.matrix) @ self.last.t()


def test_functional_network() -> None:
    model = Functional()
    graph = nd.rolled_graph(model, torch.zeros(2, 3, 8, 8))
    assert graph.layer_names == ("input", "kernel", "matrix", "last")
    assert graph.layer_sizes == (3, 5, 7, 2)
    dense = graph.adjacency().to_dense()
    expected = model.matrix.view(5, 4, 7).norm(dim=1)
    torch.testing.assert_close(dense[3:8, 8:15], expected)
    torch.testing.assert_close(dense[8:15, 15:], model.last.abs().T)


class ChannelsLastFlatten(nn.Module):
    """The flatten puts positions before channels, so channel k owns every third column, not a run of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1)
        self.fc = nn.Linear(3 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).permute(0, 2, 3, 1).flatten(1))


def test_flatten_after_a_permutation() -> None:
    model = ChannelsLastFlatten()
    graph = nd.rolled_graph(model, torch.zeros(2, 1, 2, 2))
    expected = model.fc.weight.view(2, 4, 3).norm(dim=1)
    torch.testing.assert_close(graph.blocks[1].values[0], expected.detach())


def test_channel_shuffle() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            n, _, h, w = x.shape
            return self.b(x.view(n, 2, 3, h, w).transpose(1, 2).contiguous().view(n, 6, h, w))

    model = Shuffled()
    graph = nd.rolled_graph(model)
    order = torch.arange(6).view(2, 3).T.reshape(-1)  # position j holds channel order[j]
    expected = torch.empty(2, 6)
    expected[:, order] = model.b.weight.detach()[:, :, 0, 0].abs()
    torch.testing.assert_close(graph.blocks[1].values[0], expected)


@pytest.mark.parametrize("turn", ["mT", "T"])
def test_transposing_attributes_move_channels(turn: str) -> None:
    """Square on purpose: by shape alone the channels would seem to stay where they were."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.fc = nn.Linear(4, 4), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.mix(x)  # [N, 4 positions, 4 channels]
            x = x.mT if turn == "mT" else torch.stack([one.T for one in x])
            return self.fc(x.flatten(1))

    model = Turned()
    graph = nd.rolled_graph(model, torch.zeros(2, 4, 4))
    expected = model.fc.weight.detach().view(2, 4, 4).norm(dim=2)  # [out, channels, positions]
    torch.testing.assert_close(graph.blocks[1].values[0], expected)


def test_mlp_and_mean_over_positions() -> None:
    assert nd.rolled_graph(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))).layer_sizes == (
        5,
        4,
        3,
    )

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean(dim=(2, 3)))

    assert nd.rolled_graph(Pooled()).layer_sizes == (3, 6, 2)


def test_a_layer_called_twice_is_two_node_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x).relu())

    graph = nd.rolled_graph(Twice())
    assert graph.layer_names == ("input", "fc", "fc#2")
    assert graph.num_nodes == 12


def test_a_layer_of_two_names_goes_by_the_first() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x).relu())

    assert nd.rolled_graph(Shared()).layer_names == ("input", "first", "first#2")


def test_a_tied_weight_goes_by_the_layer_that_runs() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.body, self.again = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.head = nn.Linear(4, 9)
            self.again.weight, self.head.weight = self.body.weight, self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.again(self.body(self.embedding(x)).relu()))

    graph = nd.rolled_graph(Tied(), torch.zeros(2, 3, dtype=torch.long))
    assert graph.layer_names == ("input", "body", "again", "head")
    assert graph.left_out.keys() == {"embedding"}


def test_weights_written_in_place_through_views() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            first = self.a(x)
            canvas = torch.zeros(len(x), 6, *x.shape[2:])
            canvas[:, :3] = first
            canvas[:, 3:] = self.b(first.relu())
            return self.c(canvas)

    model = InPlace()
    graph = nd.rolled_graph(model)
    assert graph.layer_names == ("input", "a", "b", "c")
    torch.testing.assert_close(graph.blocks[2].values[0], model.c.weight.detach()[:, 3:, 0, 0].abs())


def test_parametrised_weight_is_read_through_its_module() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3))
    nn.utils.parametrizations.weight_norm(model[1])
    graph = nd.rolled_graph(model)
    torch.testing.assert_close(graph.blocks[1].values[0], model[1].weight.detach().norm(dim=(2, 3)))
    with torch.no_grad():
        model[1].parametrizations.weight.original0.mul_(5)
    graph.refresh()
    torch.testing.assert_close(graph.blocks[1].values[0], model[1].weight.detach().norm(dim=(2, 3)))


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize(
    "how", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.orthogonal]
)
def test_products_that_compute_a_weight_are_no_layers(how: Any, topology: Any) -> None:
    model = nn.Sequential(
        how(nn.Conv2d(3, 8, 3)), nn.ReLU(), nn.Flatten(), how(nn.Linear(8 * 36, 10))
    ).train()
    images = torch.randn(4, 3, 8, 8)
    with nd.LayerTracer(model, topology=topology) as tracer:
        model(images)
    before = [buffer.clone() for buffer in model.buffers()]
    graph = tracer.graph()
    assert graph.layer_names == ("input", "0", "3") and graph.left_out == {}
    model.eval()
    torch.testing.assert_close(graph.blocks[0].values[0], model[0].weight.detach().norm(dim=(2, 3)))
    assert all(map(torch.equal, before, model.buffers()))


# -- weights that are exchanged for one call -----------------------------------------------------------------


class Exchanging(nn.Module):
    """Calls its template with weights that another part of it holds, or makes."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.stem, self.template = how, nn.Linear(3, 4), nn.Linear(4, 2)
        self.weights = nn.Parameter(torch.randn(3, 2, 4))
        self.maker = nn.Linear(1, 8)

    def forward(self, x: Tensor) -> Tensor:
        x, weights = self.stem(x), {"weight": self.weights}
        if self.how == "vmap":
            return torch.vmap(lambda one: functional_call(self.template, one, (x,)))(weights)
        if self.how == "detached":
            return functional_call(self.template, {"weight": self.weights[1].detach()}, (x,))
        if self.how == "gradient":
            return torch.func.grad(lambda one: functional_call(self.template, {"weight": one}, (x,)).sum())(
                self.weights[2]
            )
        made = self.maker(x.new_ones(1)).view(2, 4)
        if self.how == "set":
            del self.template.weight
            self.template.weight = made
            return self.template(x)
        return functional_call(self.template, {"weight": made}, (x,))


@pytest.mark.parametrize(("how", "member"), [("vmap", 0), ("detached", 1), ("gradient", 2)])
def test_the_weights_that_a_template_is_called_with_are_read(how: str, member: int) -> None:
    model = Exchanging(how)
    graph = nd.rolled_graph(model, torch.zeros(2, 3))
    assert graph.layer_names == ("input", "stem", "weights")
    torch.testing.assert_close(graph.blocks[1].values[0], model.weights[member].detach().abs())
    with torch.no_grad():
        model.weights.mul_(2)
    torch.testing.assert_close(graph.refresh().blocks[1].values[0], model.weights[member].detach().abs())


def test_a_template_whose_weights_are_made_is_passed_through() -> None:
    graph = nd.rolled_graph(Exchanging("made"), torch.zeros(2, 3), topology="dataflow")
    assert set(graph.layer_names) == {"input", "constant", "stem", "maker"}
    assert "not its own" in graph.left_out["template"]


class Borrowing(nn.Module):
    """Calls its template with a parameter of its own that has another name."""

    def __init__(self, template: nn.Module) -> None:
        super().__init__()
        self.stem, self.template = nn.Linear(3, 4), template
        self.fast = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.template, {"weight": self.fast}, (self.stem(x),))


class Centred(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight - self.weight.mean(1, keepdim=True), self.bias)


def test_a_template_that_borrows_a_parameter_is_read_by_it_or_not_at_all() -> None:
    model = Borrowing(nn.Linear(4, 2))
    graph = nd.rolled_graph(model, torch.zeros(2, 3))
    assert graph.layer_names == ("input", "stem", "fast")
    torch.testing.assert_close(graph.blocks[1].values[0], model.fast.detach().abs())
    computed = nd.rolled_graph(Borrowing(Centred(4, 2)), torch.zeros(2, 3))
    assert computed.layer_names == ("input", "stem") and "not its own" in computed.left_out["template"]


def test_a_weight_that_was_set_by_hand_is_read_as_it_was_last() -> None:
    model = Exchanging("set")
    graph = nd.rolled_graph(model, torch.zeros(2, 3))
    torch.testing.assert_close(graph.blocks[1].values[0], model.template.weight.detach().abs())


def test_copies_of_a_model_that_is_traced_lose_its_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with nd.LayerTracer(model) as tracer:
        twin, kept = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        model(twin(kept(torch.zeros(2, 4))))
    assert tracer.graph().layer_names == ("input", "0")
    for one in (twin, kept):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in one.modules())


@pytest.mark.parametrize(
    ("model", "example", "culprit"),
    [
        (nn.Identity(), torch.zeros(2, 4), "Identity"),
        (nn.Linear(3, 2), torch.zeros(2, 5), "Linear rejects the example input"),
    ],
    ids=["no-layers", "wrong-input"],
)
def test_refusals_name_the_layer_and_the_way_out(model: nn.Module, example: Tensor, culprit: str) -> None:
    with pytest.raises(TracingError, match=culprit) as refusal:
        nd.rolled_graph(model, example)
    assert "layers=" in str(refusal.value)


def test_unguessable_input_asks_for_an_example() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor, *, scale: float) -> Tensor:
            return self.fc(x) * scale

    with pytest.raises(TracingError, match=r"pass example_input="):
        nd.rolled_graph(Picky())
    assert nd.rolled_graph(Picky(), {"x": torch.zeros(2, 4), "scale": 2.0}).layer_sizes == (4, 2)


def test_own_pass_leaves_no_trace() -> None:
    model = nd.models.resnet32(dropout=0.5).train()
    model[3].eval()
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    nd.rolled_graph(model)
    assert torch.equal(torch.rand(1), expected)
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_riding_on_a_training_step_changes_nothing() -> None:
    def step(traced: bool) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        model = nd.models.resnet32(dropout=0.3)
        x, y = torch.randn(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
        tracer = nd.LayerTracer(model)
        if traced:
            with tracer:
                loss = F.cross_entropy(model(x), y)
            assert tracer.graph().num_edges == 51_888
        else:
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters()] + [torch.rand(1)])

    for plain, ridden in zip(step(False), step(True), strict=True):
        assert torch.equal(plain, ridden)


def test_tracer_keeps_no_activation_alive() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    tracer = nd.LayerTracer(model)
    with tracer:
        out = model(torch.zeros(2, 4))
    alive = weakref.ref(out)
    del out
    gc.collect()
    assert alive() is None


def test_hooks_are_gone_after_an_exception() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(RuntimeError), nd.LayerTracer(model):
        model(torch.zeros(2, 3))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model(torch.zeros(2, 4)).shape == (2, 4)
