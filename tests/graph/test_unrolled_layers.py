"""Each layer of the unrolled graph (App. A.2) against nested loops and torch's own layers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nested_loops import (
    GEOMETRIES,
    forward_pairs,
    lenet_on_digits,
    naive_artefact,
    naive_edges,
    small_net,
    unrolled_edges,
)
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.unrolled import UnrolledGraph

IMAGE = torch.zeros(1, 3, 32, 32)


def test_lenet_equals_nested_loops() -> None:
    model = nd.models.lenet5()
    graph = nd.unrolled_graph(model, IMAGE)
    expected = naive_edges(model, IMAGE)
    assert len(expected) == graph.num_edges
    np.testing.assert_array_equal(unrolled_edges(graph), expected)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry_equals_nested_loops(name: str) -> None:
    model, x = small_net(name)
    graph = nd.unrolled_graph(model, x)
    expected = naive_edges(model, x)
    assert len(expected) == graph.num_edges
    np.testing.assert_array_equal(unrolled_edges(graph), expected)
    artefact = sum(naive_artefact(*found) for found in forward_pairs(model, x))
    assert graph.count_edges(padding_artefact=True) - graph.num_edges == artefact


def test_activation_form_equals_nested_loops() -> None:
    model, x = lenet_on_digits()
    graph = nd.unrolled_graph(model, x, form="activation")
    np.testing.assert_allclose(unrolled_edges(graph), naive_edges(model, x, values=True), rtol=1e-12)


def layer_block(graph: UnrolledGraph, index: int) -> Tensor:
    """The part of the signed adjacency that leads from node layer ``index`` to the next, dense."""
    first = sum(graph.layer_sizes[:index])
    second = first + graph.layer_sizes[index]
    dense = graph.adjacency().to_dense()
    return dense[second : second + graph.layer_sizes[index + 1], first:second]


@pytest.mark.parametrize("name", [name for name in GEOMETRIES if "pool" not in name])
def test_signed_matrix_times_input_is_the_convolution(name: str) -> None:
    model, x = small_net(name)
    graph = nd.unrolled_graph(model, x)
    model.double()[0].bias.data.zero_()
    expected = model[0](x.double()).flatten()
    torch.testing.assert_close(layer_block(graph, 0) @ x.double().flatten(), expected)


def test_signed_matrix_of_lenet_is_both_convolutions_and_the_head() -> None:
    model = nd.models.lenet5()
    graph = nd.unrolled_graph(model, IMAGE)
    adjacency = graph.adjacency()
    for index, layer in ((0, model[0]), (2, model[3]), (4, model[8])):
        first = sum(graph.layer_sizes[:index])
        second = first + graph.layer_sizes[index]
        vector = torch.zeros(graph.num_nodes, dtype=torch.float64)
        vector[first:second] = torch.randn(second - first, dtype=torch.float64)
        weight = layer.weight.double()
        if isinstance(layer, nn.Conv2d):
            side = round((graph.layer_sizes[index] / layer.in_channels) ** 0.5)
            expected = F.conv2d(vector[first:second].view(1, -1, side, side), weight).flatten()
        else:
            expected = weight @ vector[first:second]
        result = (adjacency @ vector)[second : second + len(expected)]
        torch.testing.assert_close(result, expected)


def test_pooling_edges_sum_their_window() -> None:
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 2))
    x = torch.randn(1, 2, 7, 9)
    block = layer_block(nd.unrolled_graph(model, x), 0)
    torch.testing.assert_close(block @ x.double().flatten(), 4 * F.avg_pool2d(x.double(), 2).flatten())


def test_activation_weights_sum_to_the_pre_activations() -> None:
    model, x = lenet_on_digits()
    graph = nd.unrolled_graph(model, x, form="activation")
    made = [
        out - layer.bias.view(-1, *(1,) * (out.dim() - 2))
        for layer, _, out in forward_pairs(model, x)
        if hasattr(layer, "bias")
    ]
    for index, expected in zip((0, 2, 4, 5, 6), made, strict=True):
        sums = layer_block(graph, index).sum(1)
        torch.testing.assert_close(sums, expected.double().flatten(), atol=1e-6, rtol=1e-5)
