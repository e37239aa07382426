"""The layer calls of a forward pass, and the rolled graph of the whole data flow between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import shapes_only
from lightning_nndyn.graph.tracing.channel_map import Reach, everywhere, wirings
from lightning_nndyn.graph.tracing.origins import Provenance
from lightning_nndyn.graph.tracing.parameters import Weight, WeightNames
from lightning_nndyn.graph.tracing.tensor_origins import Stamps

Origin: TypeAlias = tuple[int, tuple[int, ...]]
"""A tensor from outside, by number, and the axes along which its entries are told apart."""

Coordinates: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Port:
    """One product of a layer call: what it reads, and by which weight.

    Attributes:
        read: returns the weight.
        size: number of input positions.
        groups: of the weight.
        transposed: whether the weight's input axis comes first.
        reaches: for each call that feeds it, which of its channels meet which positions.
        origins: for each tensor from outside, the coordinates of the entry that meets each position.
    """

    read: Callable[[], Tensor]
    size: int
    groups: int = 1
    transposed: bool = False
    reaches: Mapping[int, Reach] = field(default_factory=dict)
    origins: Mapping[Origin, Mapping[int, Coordinates]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One call of a layer, which is one node layer of the graph.

    Attributes:
        name: the layer's name.
        module: the name of the module that owns its weight.
        size: number of nodes.
        ports: its products; none for an embedding, whose channels are inputs of the graph.
        kind: see `lightning_nndyn.graph.tracing.layer_kinds`.
    """

    name: str
    module: str
    size: int
    ports: Sequence[Port] = ()
    kind: str = ""


class Recorder(Protocol):
    """What the rules of composite layers use of the recorder of a forward pass."""

    weights: WeightNames
    stamps: Stamps

    def refuse(self, name: str, reason: str) -> None:
        """Leaves a layer out by name, unless it is in the graph elsewhere."""

    def accept(self, name: str) -> None:
        """Takes back a refusal, for good."""

    def port_of(self, weight: Weight, provenance: Provenance, axis: int, size: int) -> Port:
        """A product whose input, of ``size`` along ``axis``, has the given provenance."""

    def call(
        self, name: str, module: str, size: int, ports: Sequence[Port], axis: int, out: Tensor, kind: str
    ) -> Provenance:
        """Notes a layer call; returns the provenance of its output, with channels along ``axis``."""


def build_graph(
    calls: Mapping[int, Call], left_out: Mapping[str, str], kinds: Collection[str] = ()
) -> RolledGraph:
    """The rolled graph of a data flow.

    Args:
        calls: the layer calls by number, in the order in which they were made.
        left_out: what is not in the graph, with the reason.
        kinds: of what is no layer call, such as attention between the layers.
    """
    inputs = _Inputs(calls)
    place = {number: len(inputs.sizes) + index for index, number in enumerate(calls)}
    weights, edges = [], []
    for number, call in calls.items():
        for port in call.ports:
            feeding = {place[source]: reach for source, reach in port.reaches.items()} | inputs.feeding(port)
            for sources, weight in _weights(
                call, port, feeding, [*inputs.sizes, *(c.size for c in calls.values())]
            ):
                weights.append(weight)
                edges.append((sources, place[number]))
    names = [*inputs.names, *(call.name for call in calls.values())]
    sizes = [*inputs.sizes, *(call.size for call in calls.values())]
    found = {*kinds, *(call.kind for call in calls.values())}
    return RolledGraph(sizes, weights, left_out, edges=edges, layer_names=names, kinds=found)


def _weights(
    call: Call, port: Port, feeding: Mapping[int, Reach], sizes: Sequence[int]
) -> list[tuple[list[int], LayerWeight]]:
    """The blocks of edges to one port; sources that meet the same positions share them."""
    alike: dict[object, list[int]] = {}
    for source, reach in feeding.items():
        alike.setdefault((sizes[source], reach.key), []).append(source)
    plain = LayerWeight(call.name, port.read, port.groups, port.transposed, kind=call.kind)
    found = []
    for sources in alike.values():
        channels = sizes[sources[0]]
        for wiring in wirings(feeding[sources[0]], channels, port.size, port.groups, call.size):
            with shapes_only():
                here = None if wiring is None else wiring.to(port.read().device)
            found.append((sources, replace(plain, wiring=here)))
    return found


class _Inputs:
    """The node layers of what comes from outside: one for each tensor that layers read.

    A port that reads nothing of the kind (a constant, a learned token, an input whose layout was lost) has
    one of its own, called ``"constant"``.
    """

    def __init__(self, calls: Mapping[int, Call]) -> None:
        self.sizes: list[int] = []
        self.names: list[str] = []
        self._places: dict[Origin | int, int] = {}
        self._nodes: dict[Origin, dict[Coordinates, int]] = {}
        for call in calls.values():
            for port in call.ports:
                self._see(port)
        for origin, nodes in self._nodes.items():
            self._nodes[origin] = {coordinates: node for node, coordinates in enumerate(sorted(nodes))}
            self.sizes[self._places[origin]] = len(nodes)

    def _see(self, port: Port) -> None:
        if not port.reaches and not port.origins:
            self._add(id(port), "constant", port.size)
        for origin, entries in port.origins.items():
            if origin not in self._places:
                self._add(origin, "input", 0)
            self._nodes.setdefault(origin, {}).update(dict.fromkeys(entries.values(), 0))

    def _add(self, key: Origin | int, name: str, size: int) -> None:
        self._places[key] = len(self.sizes)
        self.sizes.append(size)
        self.names.append(name)

    def feeding(self, port: Port) -> dict[int, Reach]:
        """The input layers that feed a port."""
        if id(port) in self._places:
            size = torch.arange(port.size)
            return {self._places[id(port)]: Reach(size, size)}
        found = {}
        for origin, entries in port.origins.items():
            nodes = self._nodes[origin]
            pairs = sorted((nodes[coordinates], position) for position, coordinates in entries.items())
            channels, positions = torch.tensor(pairs).unbind(1)
            found[self._places[origin]] = Reach(channels, positions)
        return found


def unknown_layout(sources: Mapping[int, int]) -> dict[int, Reach]:
    """Reach of sources, given with their sizes, whose layout was lost: every channel meets every position."""
    return {source: everywhere(size) for source, size in sources.items()}
