"""Weights that are read into blocks: groups, transposed layers, memory layouts, some rows alone."""

import pytest
import torch
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.blocks import Block, LayerWeight, add_to_nodes, take_nodes


def test_grouped_and_transposed_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 3, groups=2), nn.Conv2d(6, 6, 1, groups=6)
    )
    graph = nd.rolled_graph(model)
    assert graph.layer_sizes == (4, 8, 6, 6)
    assert graph.num_edges == 2 * 4 * 2 + 2 * 4 * 3 + 6
    dense = graph.adjacency().to_dense()
    w = model[1].weight  # [8 inputs, 3 outputs a group, 3, 3]
    assert dense[4 + 5, 12 + 4].item() == pytest.approx(w[5, 1].norm().item(), rel=1e-5)
    assert dense[4 + 5, 12 + 1] == 0  # input 5 is in the second group, output 1 in the first


def test_channels_last_weights_give_the_same_graph() -> None:
    model = nd.models.vgg7()
    before = nd.rolled_graph(model).edge_weight
    torch.testing.assert_close(
        nd.rolled_graph(model.to(memory_format=torch.channels_last)).edge_weight, before
    )


@pytest.mark.parametrize("rows", [range(0, 3), range(2, 7), range(7, 7)])
@pytest.mark.parametrize("transposed", [False, True])
def test_slices_of_some_rows(rows: range, transposed: bool) -> None:
    kernel = torch.randn(7, 5, 2, 3)
    weight = LayerWeight(
        "conv", lambda: kernel.transpose(0, 1) if transposed else kernel, transposed=transposed
    )
    assert weight.shape == (7, 5)
    assert torch.equal(weight.slices(), kernel.flatten(2)[None])
    assert torch.equal(weight.slices(rows), kernel.flatten(2)[None, rows.start : rows.stop])


def test_a_block_of_some_rows_has_those_rows_of_the_whole() -> None:
    weight = LayerWeight("conv", lambda: kernel)
    kernel = torch.randn(7, 5, 3, 3)
    whole, part = (
        Block(0, 1, torch.empty(1, 7, 5), weight),
        Block(0, 1, torch.empty(1, 3, 5), weight, range(2, 5)),
    )
    whole.refresh()
    part.refresh()
    assert torch.equal(part.values[0], whole.values[0, 2:5])
    assert torch.equal(part.own_targets(torch.arange(7)), torch.arange(2, 5))
    assert not part.is_remote and Block(0, 1, torch.empty(1, 0, 5), weight, range(0)).is_remote


@pytest.mark.parametrize("nodes", [None, torch.tensor([[2, 0], [1, 3]])])
def test_entries_that_are_taken_are_added_where_they_came_from(nodes: Tensor | None) -> None:
    vector, out = torch.arange(4.0), torch.zeros(4)
    part = take_nodes(vector, nodes, 2)
    assert part.shape == (2, 2)
    add_to_nodes(out, part, nodes)
    assert torch.equal(out, vector)
