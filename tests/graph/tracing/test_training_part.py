"""Which layer calls belong to the network that trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from trained_networks import layers

from lightning_nndyn import LayerTracer
from lightning_nndyn.graph.tracing.training_part import ASIDE, TrainedWeights, names_behind


class Pair(nn.Module):
    """Two networks of the same depth read the same, and a frozen layer reads what the first has made."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.beside, self.last = layers(4, 6, 6), layers(4, 6, 6), nn.Linear(6, 3)
        self.last.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.net(x)) + self.beside(x).sum()


def names(model: Pair, topology: Any = "chain", **settings: Any) -> list[str]:
    """Layers of the graph of a step; the optimizer holds the first network unless told otherwise."""
    held, x = settings.get("held", model.net.parameters()), torch.randn(2, 4)
    trained = TrainedWeights(model, [torch.optim.SGD(held, 0.1)])
    with LayerTracer(model, topology=topology) as tracer:
        loss = model(x).square().mean()
    trained.see_loss(settings.get("loss", loss))
    graph = tracer.graph(trained=trained)
    assert all(graph.left_out[name] == ASIDE for name in {"beside.0", "beside.2"} & graph.left_out.keys())
    return list(graph.layer_names[1:])


PATH = ["net.0", "net.2", "last"]


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_what_no_optimizer_holds_is_aside_and_a_frozen_layer_behind_is_not(topology: Any) -> None:
    assert names(Pair(), topology) == PATH


def test_what_requires_no_gradient_is_not_held() -> None:
    model = Pair()
    model.beside.requires_grad_(False)
    assert names(model, held=model.parameters()) == PATH


def test_what_the_loss_does_not_reach_is_aside() -> None:
    model = Pair()
    everything = ["net.0", "net.2", "last", "beside.0", "beside.2"]
    assert names(model, "dataflow", held=model.parameters()) == everything
    loss = model.net(torch.ones(2, 4)).sum()
    assert names(model, held=model.parameters(), loss=loss) == PATH


def test_where_nothing_is_known_of_the_training_all_calls_stay() -> None:
    model = Pair()
    assert "beside.0" in names(model, "dataflow", held=[nn.Parameter(torch.zeros(1))])
    model.requires_grad_(False)
    whole = LayerTracer(model)
    with whole:
        model(torch.randn(2, 4))
    assert whole.graph(trained=TrainedWeights(model)).layer_names == whole.graph().layer_names


def test_a_frozen_network_behind_is_aside_a_frozen_one_before_is_not() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.net, self.behind = layers(4, 6, 6), layers(6, 6, 4), layers(4, 6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return F.mse_loss(self.behind(self.net(self.before(x))), self.behind(x))

    model = Both()
    trained = TrainedWeights(model, [torch.optim.SGD(model.net.parameters(), 0.1)])
    with LayerTracer(model) as tracer:
        trained.see_loss(model(torch.randn(2, 4)))
    graph = tracer.graph(trained=trained)
    assert graph.layer_names[1:] == ("before.0", "before.2", "net.0", "net.2")
    assert not trained.holds("before.0.weight") and trained.holds("net.0.weight")


def test_the_parameters_behind_a_weight() -> None:
    known = ["w", "a.weight", "a.bias", "b.parametrizations.weight.original0", "b.inner.x", "c.inner.y"]
    assert names_behind("a.weight", known) == ["a.weight"]
    assert names_behind("a.weight", known, computed=True) == ["a.weight", "a.bias"]
    assert names_behind("b.weight", known) == ["b.parametrizations.weight.original0"]
    assert names_behind("c.weight", known) == ["c.inner.y"]
    assert names_behind("weight", known) == ["w"]
