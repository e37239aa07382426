"""A network's chain as the longest path of its traced data flow, beside the graph of all that flows."""

from typing import NamedTuple

from torch import Tensor, nn

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.layer_calls import Call, _weights
from lightning_nndyn.graph.tracing.tracer import LayerTracer, call_model, undisturbed


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
    with undisturbed(model), tracer:
        call_model(model, example)
    flow = tracer.graph()
    assert tracer._flow is not None
    return Graphs(_chain(tracer._flow._calls), flow)


# The tracer is to give this chain itself one day (topology="chain"), for any network. Until then it is made
# here of the recorded calls, by the same rule: the longest path of layers, on a tie the earliest source and
# the latest end; each layer keeps the edges from the one before it alone.
def _chain(calls: dict[int, Call]) -> RolledGraph:
    path = _longest_path(calls)
    sizes = [calls[path[0]].ports[0].size, *(calls[number].size for number in path)]
    weights: list[LayerWeight] = []
    edges: list[tuple[list[int], int]] = []
    for place, number in enumerate(path):
        call = calls[number]
        for port in call.ports:
            if place == 0:
                weights.append(
                    LayerWeight(call.name, port.read, port.groups, port.transposed, kind=call.kind)
                )
                edges.append(([0], 1))
            elif path[place - 1] in port.reaches:
                feeding = {place: port.reaches[path[place - 1]]}
                for sources, weight in _weights(call, port, feeding, sizes):
                    weights.append(weight)
                    edges.append((sources, place + 1))
    names = ["input", *(calls[number].name for number in path)]
    return RolledGraph(sizes, weights, edges=edges, layer_names=names)


def _longest_path(calls: dict[int, Call]) -> list[int]:
    """Numbers of the layer calls on it; an embedding's channels are inputs of the chain, and no layer."""
    depth: dict[int, int] = {}
    before: dict[int, int | None] = {}
    for number, call in calls.items():
        if not call.ports:
            continue
        feeding = sorted({source for port in call.ports for source in port.reaches if source in depth})
        source = max(feeding, key=depth.__getitem__, default=None)
        before[number] = source
        depth[number] = 1 if source is None else depth[source] + 1
    last: int | None = max(reversed(depth), key=depth.__getitem__)
    path: list[int] = []
    while last is not None:
        path.append(last)
        last = before[last]
    return path[::-1]
