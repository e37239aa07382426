"""The chain of the rolled graph: the longest path, in layers, of the traced data flow (section 3.1).

Skips, and projections and gates beside the path, add no edges. An embedding is no layer of the path: its
outputs are the graph's inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import WeightReaders
from lightning_nndyn.graph.tracing.channel_map import block_weights, every_position
from lightning_nndyn.graph.tracing.compiled_modules import plain_name
from lightning_nndyn.graph.tracing.forward import plain_layers
from lightning_nndyn.graph.tracing.layer_calls import LayerCall, LayerInput
from lightning_nndyn.graph.tracing.layer_kinds import module_kind
from lightning_nndyn.graph.tracing.training_part import sources

BESIDE = "beside the main path"
INPUT_EMBEDDING = "an embedding: its outputs are the graph's inputs"


def chain_graph(
    calls: Mapping[int, LayerCall],
    left_out: Mapping[str, str],
    kinds: Collection[str],
    held: Collection[int] | None = None,
) -> RolledGraph:
    """The chain along the longest path.

    Args:
        calls: the layer calls by number, in the order in which they were made.
        left_out: layers that were not called or refused, with the reason; those beside the path are added.
        kinds: of what is no layer call, such as attention between the layers.
        held: see `longest_path`.
    """
    path = longest_path(calls, held)
    chain = [calls[number] for number in path]
    weights, edges = [chain[0].weight(chain[0].inputs[0])], [([0], 1)]
    for target, (source, number) in enumerate(pairwise(path), start=2):
        blocks = _blocks(source, calls[source].size, calls[number])
        weights += blocks
        edges += [([target - 1], target)] * len(blocks)
    names = [call.name for call in chain]
    beside = {call.name: BESIDE if call.inputs else INPUT_EMBEDDING for call in calls.values()}
    embeddings = {call.kind for call in calls.values() if not call.inputs}
    return RolledGraph(
        [chain[0].inputs[0].size, *(call.size for call in chain)],
        weights,
        {name: reason for name, reason in {**left_out, **beside}.items() if name not in names},
        edges=edges,
        layer_names=["input", *names],
        kinds=embeddings.union(kinds),
        is_chain=True,
    )


def longest_path(calls: Mapping[int, LayerCall], held: Collection[int] | None = None) -> list[int]:
    """The calls of the longest path; on a tie the earliest source and the latest end.

    Args:
        calls: the layer calls by number.
        held: those whose weights an optimizer holds: paths with more of them come first. None for all.
    """
    depth: dict[int, tuple[int, int]] = {}  # calls up to here that are held, and all
    before: dict[int, int | None] = {}
    for number, call in calls.items():
        if not call.inputs:  # an embedding
            continue
        source = max(sorted(sources(call) & depth.keys()), key=depth.__getitem__, default=None)
        before[number] = source
        trained, length = (0, 0) if source is None else depth[source]
        depth[number] = trained + (held is None or number in held), length + 1
    last: int | None = max(reversed(depth), key=depth.__getitem__)
    path = []
    while last is not None:
        path.append(last)
        last = before[last]
    return path[::-1]


def _blocks(source: int, channels: int, call: LayerCall) -> list[LayerWeight]:
    """The edges from one call of the path to the next, through each product that the first one feeds."""
    return [
        block
        for layer_input in call.inputs
        if source in layer_input.origins.sources
        for block in _blocks_of_input(source, channels, call, layer_input)
    ]


def _blocks_of_input(
    source: int, channels: int, call: LayerCall, layer_input: LayerInput
) -> list[LayerWeight]:
    weight = call.weight(layer_input)
    if layer_input.is_in_order(source, channels):
        return [weight]
    # If the layout is known along some way from source to target, ways along which it is lost (a gate, a
    # norm over channels) are beside the path.
    channel_map = layer_input.channel_maps(source).get(source) or every_position(channels)
    return block_weights(channel_map, channels, layer_input.size, call.size, weight)


def chain_by_name(model: nn.Module, layers: Sequence[str], readers: WeightReaders) -> RolledGraph:
    """The chain of the named layers, joined by their sizes alone. The model is not called.

    Args:
        model: the model.
        layers: names of convolutions and linear layers, first to last.
        readers: of the model's weights.

    Raises:
        TracingError: if there is no such layer, or sizes do not fit.
    """
    modules = plain_layers(model)
    layers = [plain_name(name) for name in layers]
    if not layers:
        raise TracingError("layers=[] names no layer: name at least one convolution or linear layer")
    for name in layers:
        if name not in modules:
            raise TracingError(
                f"layers= names {name!r}, which is no convolution or linear layer of {type(model).__name__}; "
                f"it has {', '.join(modules) or 'none'}"
            )
    weights = []
    for name in layers:
        module = modules[name]
        transposed, groups = isinstance(module, _ConvTransposeNd), getattr(module, "groups", 1)
        read = readers.reader(name, "weight")
        kind, parameter = module_kind(module), f"{name}.weight"
        weights.append(LayerWeight(name, read, groups, transposed, kind=kind, parameter=parameter))
    chain = [modules[name] for name in layers]
    sizes = [_channels(chain[0])[0], *(_channels(module)[1] for module in chain)]
    left_out = {name: "not named in layers=" for name in modules if name not in layers}
    return RolledGraph(sizes, weights, left_out)


def _channels(layer: nn.Module) -> tuple[int, int]:
    """The numbers of a layer's input and output channels."""
    kind = "features" if isinstance(layer, nn.Linear) else "channels"
    return getattr(layer, f"in_{kind}"), getattr(layer, f"out_{kind}")
