"""A network's chain and the graph of its whole data flow, from one forward pass."""

from typing import NamedTuple

from torch import Tensor, nn

from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.forward import call_model, side_effect_free
from lightning_nndyn.graph.tracing.tracer import LayerTracer


class Graphs(NamedTuple):
    """The two rolled graphs of a network."""

    chain: RolledGraph
    flow: RolledGraph

    @property
    def alike(self) -> bool:
        """Whether all that flows is the chain."""
        sizes = [(graph.num_nodes, graph.num_edges) for graph in self]
        return sizes[0] == sizes[1]


def traced_graphs(model: nn.Module, example: Tensor) -> Graphs:
    """Both graphs, from one forward pass in evaluation mode that leaves no trace.

    Raises:
        TracingError: No layer was called, or the data flow cannot be followed.
    """
    tracer = LayerTracer(model, topology="dataflow")
    with side_effect_free(model), tracer:
        call_model(model, example)
    return Graphs(tracer.graph("chain"), tracer.graph())
