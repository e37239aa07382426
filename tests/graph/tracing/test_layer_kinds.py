"""The kinds of a graph's layers, and its depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nndyn as nd

IMAGE = torch.zeros(2, 4, 8, 8)


SEQUENCE = torch.zeros(2, 5, 8)


WORDS = torch.zeros(2, 5, dtype=torch.long)


class Piped(nn.Module):
    """A function of the input, pooled, and a linear layer: the function may need modules of its own."""

    def __init__(self, body: Callable[..., Tensor], *modules: nn.Module, out: int) -> None:
        super().__init__()
        self.body, self.inner, self.head = body, nn.ModuleList(modules), nn.Linear(out, 3)

    def forward(self, x: Tensor) -> Tensor:
        made = self.body(x, *self.inner)
        axes = [0, *range(2, made.dim())] if made.dim() == 4 else [1]
        return self.head(made.mean(axes).view(-1, self.head.in_features))


def convolved(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 1), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.table.clone().t()


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize(
    ("model", "example", "kinds"),
    [
        (convolved(nn.Conv2d(8, 8, 3)), IMAGE, ["conv2d", "linear"]),
        (convolved(nn.Conv2d(8, 8, 3, groups=2)), IMAGE, ["conv2d", "grouped_conv2d", "linear"]),
        (convolved(nn.Conv2d(8, 16, 3, groups=8)), IMAGE, ["conv2d", "depthwise_conv2d", "linear"]),
        (convolved(nn.ConvTranspose2d(8, 4, 3)), IMAGE, ["conv2d", "conv_transpose2d", "linear"]),
        (nn.Sequential(nn.Conv1d(5, 4, 3), nn.Flatten()), SEQUENCE, ["conv1d"]),
        (nn.Sequential(nn.Conv3d(4, 2, 1), nn.Flatten()), IMAGE[..., None], ["conv3d"]),
        (nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2)), WORDS, ["embedding", "linear"]),
        (Piped(lambda x, one: x @ one.weight, nn.Linear(8, 8), out=8), SEQUENCE, ["linear"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_graph_tells_the_kinds_of_its_layers(
    model: nn.Module, example: Tensor, kinds: list[str], topology: Any
) -> None:
    model(example)  # lazy layers get their size
    assert list(nd.rolled_graph(model, example, topology=topology).kinds) == kinds


def by_hand(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return (q(x) @ k(x).transpose(1, 2)).softmax(-1) @ v(x)


def by_einsum(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return torch.einsum("bij,bjd->bid", torch.einsum("bid,bjd->bij", q(x), k(x)).softmax(-1), v(x))


def fused(x: Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> Tensor:
    return F.scaled_dot_product_attention(q(x), k(x), v(x))


def to_itself(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x, x, x)[0]


def linears(count: int) -> list[nn.Module]:
    return [nn.Linear(8, 8) for _ in range(count)]


def cells(x: Tensor, cell: nn.Module) -> Tensor:
    state = None
    for token in x.unbind(1):
        state = cell(token, state)
    return (state[0] if isinstance(state, tuple) else state).unsqueeze(1)


def first(x: Tensor, layer: nn.Module) -> Tensor:
    return layer(x)[0]


@pytest.mark.parametrize(
    ("body", "modules", "kinds"),
    [
        (by_hand, linears(3), ["attention", "linear"]),
        (by_einsum, linears(3), ["attention", "linear"]),
        (fused, linears(3), ["attention", "linear"]),
        (to_itself, [nn.MultiheadAttention(8, 2, batch_first=True)], ["attention", "linear"]),
        (first, [nn.LSTM(8, 6, batch_first=True)], ["linear", "lstm"]),
        (first, [nn.GRU(8, 6, batch_first=True)], ["gru", "linear"]),
        (first, [nn.RNN(8, 6, batch_first=True, nonlinearity="relu")], ["linear", "rnn"]),
        (cells, [nn.LSTMCell(8, 6)], ["linear", "lstm"]),
        (cells, [nn.RNNCell(8, 6)], ["linear", "rnn"]),
        (lambda x, a, b: a(x) * b(x), linears(2), ["linear"]),
    ],
)  # fmt: skip
def test_recurrence_and_attention_are_kinds_however_they_are_written(
    body: Any, modules: list[nn.Module], kinds: list[str]
) -> None:
    model = Piped(body, *modules, out=body(SEQUENCE, *modules).shape[-1])
    assert list(nd.rolled_graph(model, SEQUENCE, topology="dataflow").kinds) == kinds


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_a_layer_of_the_users_own_is_of_the_kind_of_its_class(topology: Any) -> None:
    nd.register_layer(Own, "table")
    graph = nd.rolled_graph(nn.Sequential(Own(), nn.Linear(8, 3)), SEQUENCE, topology=topology)
    assert graph.kinds == ("Own", "linear")


def test_layers_given_by_name_have_kinds_too() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
    assert nd.rolled_graph(model, layers=["0", "1", "2"]).kinds == (
        "conv2d",
        "conv_transpose2d",
        "depthwise_conv2d",
    )


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_depth_counts_the_layers_that_weights_lead_to(topology: Any) -> None:
    deep = nn.Sequential(*[layer for _ in range(40) for layer in (nn.Linear(8, 8), nn.ReLU())])
    assert nd.rolled_graph(deep, SEQUENCE, topology=topology).depth == 40
    words = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    assert nd.rolled_graph(words, WORDS, topology=topology).depth == 2


def test_two_streams_into_one_layer_are_one_layer_deep() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.cat((self.a(x), self.b(x)), 1))

    graph = nd.rolled_graph(Joined(), torch.zeros(2, 4), topology="dataflow")
    assert (len(graph.blocks), graph.depth) == (4, 3)
