"""The graph of the whole data flow: each layer call, joined to every call that feeds it.

Layers feed each other through operations without a weight: residual streams, branches, concatenations, gates,
attention.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import torch

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.tracing.channel_map import ChannelMap, block_weights, every_position
from lightning_nndyn.graph.tracing.layer_calls import ExternalAxis, LayerCall, LayerInput

ExternalInput: TypeAlias = tuple[int, tuple[int, ...]]
"""A tensor from outside, by number, and the axes along which its entries are told apart."""

Coordinates: TypeAlias = tuple[int, ...]
"""Of an entry of such a tensor, along those axes."""

_Maps: TypeAlias = Mapping[int, ChannelMap]


def dataflow_graph(
    calls: Mapping[int, LayerCall],
    external_axes: Mapping[int, ExternalAxis],
    left_out: Mapping[str, str],
    kinds: Collection[str],
) -> RolledGraph:
    """The rolled graph of a data flow.

    Args:
        calls: the layer calls by number, in the order in which they were made.
        external_axes: axes of tensors from outside, by number.
        left_out: what is not in the graph, with the reason.
        kinds: of what is no layer call, such as attention between the layers.
    """
    maps = {id(one): one.channel_maps() for call in calls.values() for one in call.inputs}
    inputs = _InputLayers(calls, external_axes, maps)
    index = {number: len(inputs.sizes) + place for place, number in enumerate(calls)}
    sizes = [*inputs.sizes, *(call.size for call in calls.values())]
    weights: list[LayerWeight] = []
    edges: list[tuple[list[int], int]] = []
    for number, call in calls.items():
        for layer_input in call.inputs:
            feeding = {index[source]: one for source, one in maps[id(layer_input)].items() if source in calls}
            for source in layer_input.origins.unordered_sources & calls.keys():
                feeding[index[source]] = every_position(calls[source].size)
            feeding |= inputs.feeding(layer_input)
            for sources, weight in _blocks(call, layer_input, feeding, sizes):
                weights.append(weight)
                edges.append((sources, index[number]))
    names = [*inputs.names, *(call.name for call in calls.values())]
    found = {*kinds, *(call.kind for call in calls.values())}
    return RolledGraph(sizes, weights, left_out, edges=edges, layer_names=names, kinds=found)


def _blocks(
    call: LayerCall, layer_input: LayerInput, feeding: Mapping[int, ChannelMap], sizes: list[int]
) -> list[tuple[list[int], LayerWeight]]:
    """The blocks of edges to one product; sources that reach the same positions share them."""
    alike: dict[object, list[int]] = {}
    for source, channel_map in feeding.items():
        alike.setdefault((sizes[source], channel_map.key), []).append(source)
    weight = call.weight(layer_input)
    return [
        (sources, block)
        for sources in alike.values()
        for block in block_weights(
            feeding[sources[0]], sizes[sources[0]], layer_input.size, call.size, weight
        )
    ]


class _InputLayers:
    """The node layers of what comes from outside: one for each tensor that layers read.

    A product that reads nothing of the kind (a constant, a learned token, an input with an unknown layout)
    has a node layer of its own, called ``"constant"``.
    """

    def __init__(
        self, calls: Mapping[int, LayerCall], axes: Mapping[int, ExternalAxis], maps: Mapping[int, _Maps]
    ) -> None:
        self.sizes: list[int] = []
        self.names: list[str] = []
        self._index: dict[ExternalInput | int, int] = {}
        self._nodes: dict[ExternalInput, dict[Coordinates, int]] = {}
        self._entries: dict[int, dict[ExternalInput, dict[int, Coordinates]]] = {}
        for call in calls.values():
            for layer_input in call.inputs:
                entries = _external_entries(layer_input.size, maps[id(layer_input)], axes)
                self._entries[id(layer_input)] = entries
                if not entries and not layer_input.origins.sources & calls.keys():
                    self._add(id(layer_input), "constant", layer_input.size)
                self._add_external(entries)
        for external, nodes in self._nodes.items():
            self._nodes[external] = {coordinates: node for node, coordinates in enumerate(sorted(nodes))}
            self.sizes[self._index[external]] = len(nodes)

    def _add_external(self, entries: Mapping[ExternalInput, Mapping[int, Coordinates]]) -> None:
        for external, coordinates in entries.items():
            if external not in self._index:
                self._add(external, "input", 0)
            self._nodes.setdefault(external, {}).update(dict.fromkeys(coordinates.values(), 0))

    def _add(self, key: ExternalInput | int, name: str, size: int) -> None:
        self._index[key] = len(self.sizes)
        self.sizes.append(size)
        self.names.append(name)

    def feeding(self, layer_input: LayerInput) -> dict[int, ChannelMap]:
        """The input layers that feed a product."""
        if id(layer_input) in self._index:
            positions = torch.arange(layer_input.size)
            return {self._index[id(layer_input)]: ChannelMap(positions, positions)}
        found = {}
        for external, entries in self._entries[id(layer_input)].items():
            nodes = self._nodes[external]
            pairs = sorted((nodes[coordinates], position) for position, coordinates in entries.items())
            channels, positions = torch.tensor(pairs).unbind(1)
            found[self._index[external]] = ChannelMap(channels, positions)
        return found


def _external_entries(
    size: int, maps: _Maps, axes: Mapping[int, ExternalAxis]
) -> dict[ExternalInput, dict[int, Coordinates]]:
    """Which entry of each tensor from outside stands at each input position; the first, where several do."""
    tensors: dict[int, list[tuple[ExternalAxis, ChannelMap]]] = {}
    for source, channel_map in maps.items():
        if source in axes:
            tensors.setdefault(axes[source].tensor, []).append((axes[source], channel_map))
    return dict(_entries(tensor, of_axes, size) for tensor, of_axes in tensors.items())


def _entries(
    tensor: int, maps: list[tuple[ExternalAxis, ChannelMap]], size: int
) -> tuple[ExternalInput, dict[int, Coordinates]]:
    """Coordinates along the axes that tell positions apart."""
    columns = {axis.axis: _first_labels(channel_map, size) for axis, channel_map in maps}
    telling = [axis.axis for axis, channel_map in maps if _tells_apart(channel_map, axis.size)]
    positions = sorted(set().union(*columns.values()))
    entries = {position: tuple(columns[axis].get(position, -1) for axis in telling) for position in positions}
    return (tensor, tuple(telling)), entries


def _first_labels(channel_map: ChannelMap, size: int) -> dict[int, int]:
    """The first of the entries along an axis that reach each position."""
    if channel_map.positions is None:
        return dict.fromkeys(range(size), int(channel_map.channels[0]))
    pairs = zip(channel_map.positions.tolist(), channel_map.channels.tolist(), strict=True)
    return dict(sorted(pairs, reverse=True))


def _tells_apart(channel_map: ChannelMap, length: int) -> bool:
    """Whether different entries along an axis reach different positions, or one of several the only one."""
    if channel_map.positions is None:
        return False
    order = torch.argsort(channel_map.positions, stable=True)
    positions, counts = torch.unique_consecutive(channel_map.positions[order], return_counts=True)
    if len(positions) == 1:
        return len(order) == 1 and length > 1
    if not bool((counts == counts[0]).all()):
        return True
    rows = channel_map.channels[order].view(len(positions), -1)
    return not bool((rows == rows[0]).all())
