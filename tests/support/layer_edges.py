"""Reading a rolled graph by the names of its layers."""

import torch
from torch import Tensor, nn

import lightning_nndyn as nd
from lightning_nndyn.graph.rolled import RolledGraph


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
