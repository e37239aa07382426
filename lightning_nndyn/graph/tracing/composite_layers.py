"""Layers that one operation makes of several products: multi-head attention and recurrent networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_nndyn.graph.tracing.layer_calls import LayerInput
from lightning_nndyn.graph.tracing.layer_kinds import ATTENTION
from lightning_nndyn.graph.tracing.operation import Operation
from lightning_nndyn.graph.tracing.origins import ChannelOrigins
from lightning_nndyn.graph.tracing.parameters import Weight

if TYPE_CHECKING:
    from lightning_nndyn.graph.tracing.recorder import CallRecorder

RECURRENT = "recurrent: its weights lead from the layer to itself"


def attention(recorder: CallRecorder, operation: Operation) -> list[ChannelOrigins] | None:
    """`nn.MultiheadAttention`: queries, keys and values are a layer each, and so is the output projection.

    A channel of the values reaches its own input position of the output projection; one of the queries or
    keys reaches all positions of its head.
    """
    signature = inspect.signature(F.multi_head_attention_forward)
    given = signature.bind(*operation.args, **operation.kwargs).arguments
    projections = _projections(recorder, given)
    last = recorder.parameters.find(given["out_proj_weight"])
    if projections is None or last is None:
        return None
    width, heads = given["query"].shape[-1], given["num_heads"]
    owner = last.module.rpartition(".")[0]
    made = []
    for part, weight in zip(("query", "key", "value"), projections, strict=True):
        x = given[part]
        layer_input = LayerInput(weight, recorder.origins[x], -1, x.shape[-1])
        name = f"{owner}.{part[0]}" if owner else part[0]
        made.append(recorder.add_call(name, weight.module, width, [layer_input], -1, x, ATTENTION))
    query, key, value = made
    mixed = (*_by_head(query, heads), *_by_head(key, heads), value.label_maps[0].reshape(-1))
    layer_input = LayerInput(last, ChannelOrigins(mixed), 0, width)
    first, *rest = operation.outputs
    out = recorder.add_call(last.layer, last.module, width, [layer_input], -1, first, ATTENTION)
    weights = ChannelOrigins((), query.sources | key.sources)
    return [out, *(weights for _ in rest)]


def _projections(recorder: CallRecorder, given: Mapping[str, Any]) -> list[Weight] | None:
    """The weights of queries, keys and values: three parameters, or three parts of one."""
    if given.get("use_separate_proj_weight"):
        found = [recorder.parameters.find(given[f"{part}_proj_weight"]) for part in "qkv"]
        weights = [weight for weight in found if weight is not None]
        return weights if len(weights) == 3 else None
    packed = recorder.parameters.find(given["in_proj_weight"])
    if packed is None:
        return None
    return [Weight(packed.parameter, partial(_part, packed.read, 3, index)) for index in range(3)]


def _part(read: Callable[[], Tensor], count: int, index: int) -> Tensor:
    return read().detach().chunk(count)[index]


def _by_head(made: ChannelOrigins, heads: int) -> list[Tensor]:
    """For each channel of a head a label map in which it reaches every position of its head."""
    channels = made.label_maps[0].reshape(heads, -1)
    return [column.repeat_interleave(channels.shape[1]) for column in channels.unbind(1)]


def recurrent(
    kind: str, gates: int, recorder: CallRecorder, operation: Operation
) -> list[ChannelOrigins] | None:
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`: a hidden unit is a node, and its gates' weights make one slice.

    Each layer and direction is a node layer, read by the next as the sequence passes. The weights from the
    hidden state join it to what made the initial state; without one they lead from the layer to itself and
    are left out by name.
    """
    args, out = operation.args, operation.outputs
    packed = isinstance(args[3], (list, tuple))  # of packed sequences: (data, batch_sizes, state, ...)
    x, state, tensors = args[0], args[2 if packed else 1], args[3 if packed else 2]
    depth, bidirectional = args[5 if packed else 4], args[8 if packed else 7]
    directions = 2 if bidirectional else 1
    weights = [recorder.parameters.find(tensor) for tensor in tensors if tensor.dim() > 1]
    if len(weights) != 2 * depth * directions or None in weights:
        return None  # projected outputs have a third weight
    start = _first(state)
    units = start.shape[-1]
    read, size = recorder.origins[x], x.shape[-1]
    states: list[ChannelOrigins] = []
    for layer in range(depth):
        outputs = []
        for index in range(layer * directions, (layer + 1) * directions):
            into, within = weights[2 * index : 2 * index + 2]
            assert into is not None and within is not None
            initial = _of_layer(recorder.origins[start], index)
            inputs = [_gate_input(into, gates, read, size)]
            inputs += _state_input(recorder, within, gates, initial, units)
            name = into.parameter.replace("weight_ih_", "")
            outputs.append(recorder.add_call(name, into.module, units, inputs, -1, out[0], kind))
        states += outputs
        read, size = _side_by_side(outputs, out[0].dim()), directions * units
    return [read, *(_stacked(states, start.dim()) for _ in out[1:])]


def cell(kind: str, gates: int, recorder: CallRecorder, operation: Operation) -> list[ChannelOrigins] | None:
    """`nn.LSTMCell` and its kin: each call is a node layer, fed by its input and by the state before."""
    args, out = operation.args, operation.outputs
    x, state, into, within = args[0], _first(args[1]), *map(recorder.parameters.find, args[2:4])
    if into is None or within is None:
        return None
    inputs = [_gate_input(into, gates, recorder.origins[x], x.shape[-1])]
    inputs += _state_input(recorder, within, gates, recorder.origins[state], state.shape[-1])
    name = into.module or into.parameter
    made = recorder.add_call(name, into.module, out[0].shape[-1], inputs, -1, out[0], kind)
    return [made for _ in out]


def _gate_input(weight: Weight, gates: int, origins: ChannelOrigins, size: int) -> LayerInput:
    """The product with the weights of all gates."""
    by_unit = Weight(weight.parameter, partial(_by_unit, weight.read, gates))
    return LayerInput(by_unit, origins, -1, size)


def _state_input(
    recorder: CallRecorder, weight: Weight, gates: int, state: ChannelOrigins, size: int
) -> list[LayerInput]:
    """The product with the hidden state, if something made it."""
    if not state:
        recorder.refuse(weight.parameter, RECURRENT)
        return []
    recorder.accept(weight.parameter)
    return [_gate_input(weight, gates, state, size)]


def _by_unit(read: Callable[[], Tensor], gates: int) -> Tensor:
    """The gates' weights [gates * units, in] as [units, in, gates]."""
    weight = read().detach()
    return weight.view(gates, -1, weight.shape[1]).permute(1, 2, 0)


def _first(state: Any) -> Tensor:
    """The hidden state, which an LSTM has beside a cell state."""
    found: Tensor = state[0] if isinstance(state, (tuple, list)) else state
    return found


def _of_layer(state: ChannelOrigins, index: int) -> ChannelOrigins:
    """One layer's initial state, of all layers' stacked ones."""
    label_maps = [one.narrow(0, index if one.shape[0] > 1 else 0, 1) for one in state.label_maps]
    return ChannelOrigins(tuple(label_maps), state.unordered_sources)


def _side_by_side(parts: Sequence[ChannelOrigins], axes: int) -> ChannelOrigins:
    """The channels of both directions, concatenated on the last axis."""
    labels = torch.cat([part.label_maps[0].reshape(-1) for part in parts])
    return ChannelOrigins((labels.view((1,) * (axes - 1) + (-1,)),))


def _stacked(parts: Sequence[ChannelOrigins], axes: int) -> ChannelOrigins:
    """The layers' states, stacked on the first axis."""
    labels = torch.stack([part.label_maps[0].reshape(-1) for part in parts])
    return ChannelOrigins((labels.view(len(parts), *(1,) * (axes - 2), -1),))


CompositeRule: TypeAlias = "Callable[[CallRecorder, Operation], list[ChannelOrigins] | None]"

COMPOSITES: Mapping[str, CompositeRule] = {
    "multi_head_attention_forward": attention,
    "lstm": partial(recurrent, "lstm", 4),
    "gru": partial(recurrent, "gru", 3),
    "rnn_tanh": partial(recurrent, "rnn", 1),
    "rnn_relu": partial(recurrent, "rnn", 1),
    "lstm_cell": partial(cell, "lstm", 4),
    "gru_cell": partial(cell, "gru", 3),
    "rnn_tanh_cell": partial(cell, "rnn", 1),
    "rnn_relu_cell": partial(cell, "rnn", 1),
}
"""How each such operation is recorded. A rule returns None where it does not apply."""
