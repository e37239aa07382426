"""The tracer of the unrolled graph, where it shares the rolled graph's machinery."""

import torch
from torch import nn

import lightning_nndyn as nd


def test_a_compiled_network_is_traced_as_it_was_written() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 3))
    image = torch.randn(1, 1, 6, 6)
    wanted = nd.unrolled_graph(model, image)
    model[0].compile(backend="eager")
    for found in (nd.unrolled_graph(model, image), nd.unrolled_graph(torch.compile(model), image)):
        assert found.layer_names == wanted.layer_names == ("input", "0", "3")
        assert torch.equal(nd.weighted_degree(found.negative()), nd.weighted_degree(wanted.negative()))


def test_nothing_is_left_in_the_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 16, 3))
    nd.unrolled_graph(model, torch.randn(1, 1, 6, 6))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
