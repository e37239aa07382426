"""Layers that one operation makes of several products: multi-head attention and recurrent networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_nndyn.graph.tracing.layer_calls import Port, Recorder
from lightning_nndyn.graph.tracing.layer_kinds import ATTENTION
from lightning_nndyn.graph.tracing.origins import Provenance
from lightning_nndyn.graph.tracing.parameters import Weight

RECURRENT = "recurrent: its weights lead from the layer to itself"


def attention(
    flow: Recorder, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> list[Provenance] | None:
    """`nn.MultiheadAttention`: queries, keys and values are a layer each, and so is the output projection.

    A value's channel meets its own input of the output projection, those of queries and keys all inputs of
    their head.
    """
    given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs).arguments
    projections = _projections(flow, given)
    last = flow.weights.find(given["out_proj_weight"])
    if projections is None or last is None:
        return None
    width, heads = given["query"].shape[-1], given["num_heads"]
    owner = last.module.rpartition(".")[0]
    made = []
    for part, weight in zip(("query", "key", "value"), projections, strict=True):
        x = given[part]
        port = flow.port_of(weight, flow.stamps[x], -1, x.shape[-1])
        name = f"{owner}.{part[0]}" if owner else part[0]
        made.append(flow.call(name, weight.module, width, [port], -1, x, ATTENTION))
    planes = [*_by_head(made[0], heads), *_by_head(made[1], heads), made[2].planes[0].reshape(-1)]
    port = flow.port_of(last, Provenance(tuple(planes)), 0, width)
    first, *rest = [tensor for tensor in out if tensor is not None]
    mixed = Provenance((), made[0].sources | made[1].sources)
    made_last = flow.call(last.layer, last.module, width, [port], -1, first, ATTENTION)
    return [made_last, *(mixed for _ in rest)]


def _projections(flow: Recorder, given: Mapping[str, Any]) -> list[Weight] | None:
    """The weights of queries, keys and values: three parameters, or three parts of one."""
    if given.get("use_separate_proj_weight"):
        found = [flow.weights.find(given[f"{part}_proj_weight"]) for part in "qkv"]
        whole = [weight for weight in found if weight is not None]
        return whole if len(whole) == 3 else None
    packed = flow.weights.find(given["in_proj_weight"])
    if packed is None:
        return None
    return [Weight(packed.parameter, partial(_piece, packed.read, 3, index)) for index in range(3)]


def _piece(read: Callable[[], Tensor], count: int, index: int) -> Tensor:
    return read().detach().chunk(count)[index]


def _by_head(made: Provenance, heads: int) -> list[Tensor]:
    """One plane for each channel of a head: it meets every input position of its head."""
    channels = made.planes[0].reshape(heads, -1)
    return [column.repeat_interleave(channels.shape[1]) for column in channels.unbind(1)]


def recurrent(
    kind: str, gates: int, flow: Recorder, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> list[Provenance] | None:
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`: a hidden unit is a node, and its gates' weights make one slice.

    Each layer and direction is a node layer, read by the next as the sequence passes. The weights from the
    hidden state join it to whatever made the initial state; otherwise they lead from the layer to itself and
    are left out by name.
    """
    packed = isinstance(args[3], (list, tuple))
    x, state, tensors = args[0], args[2 if packed else 1], args[3 if packed else 2]
    depth, both = args[5 if packed else 4], args[8 if packed else 7]
    directions = 2 if both else 1
    weights = [flow.weights.find(tensor) for tensor in tensors if tensor.dim() > 1]
    if len(weights) != 2 * depth * directions or None in weights:
        return None  # projected outputs have a third weight
    start = _first(state)
    units = start.shape[-1]
    reads, size = flow.stamps[x], x.shape[-1]
    states: list[Provenance] = []
    for layer in range(depth):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            into, within = weights[2 * index], weights[2 * index + 1]
            assert into is not None and within is not None
            ports = [_gated(flow, into, gates, reads, size)]
            initial = _select(flow.stamps[start], index)
            ports += _state_port(flow, within, gates, initial, units)
            name = into.parameter.replace("weight_ih_", "")
            outputs.append(flow.call(name, into.module, units, ports, -1, out[0], kind))
        states += outputs
        reads, size = _joined(outputs, out[0].dim()), directions * units
    return [reads, *(_stacked(states, start.dim()) for _ in range(len(list(_flat(out))) - 1))]


def cell(
    kind: str, gates: int, flow: Recorder, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> list[Provenance] | None:
    """`nn.LSTMCell` and its kin: each call is a node layer, fed by its input and by the state before."""
    x, state, into, within = args[0], _first(args[1]), *map(flow.weights.find, args[2:4])
    if into is None or within is None:
        return None
    first = _first(out)
    ports = [_gated(flow, into, gates, flow.stamps[x], x.shape[-1])]
    ports += _state_port(flow, within, gates, flow.stamps[state], state.shape[-1])
    name = into.module or into.parameter
    made = flow.call(name, into.module, first.shape[-1], ports, -1, first, kind)
    return [made for _ in _flat(out)]


def _gated(flow: Recorder, weight: Weight, gates: int, provenance: Provenance, size: int) -> Port:
    gated = Weight(weight.parameter, partial(_by_unit, weight.read, gates))
    return flow.port_of(gated, provenance, -1, size)


def _state_port(flow: Recorder, weight: Weight, gates: int, provenance: Provenance, size: int) -> list[Port]:
    """The product with the hidden state, where something made it."""
    port = _gated(flow, weight, gates, provenance, size)
    if port.reaches or port.origins:
        flow.accept(weight.parameter)
        return [port]
    flow.refuse(weight.parameter, RECURRENT)
    return []


def _by_unit(read: Callable[[], Tensor], gates: int) -> Tensor:
    """The gates' weights [gates * units, in] as [units, in, gates]."""
    weight = read().detach()
    return weight.view(gates, -1, weight.shape[1]).permute(1, 2, 0)


def _first(state: Any) -> Tensor:
    found: Tensor = state[0] if isinstance(state, (tuple, list)) else state
    return found


def _flat(out: Any) -> list[Tensor]:
    return [tensor for tensor in (out if isinstance(out, (tuple, list)) else [out]) if tensor is not None]


def _select(state: Provenance, index: int) -> Provenance:
    """One layer's initial state of all layers' stacked ones."""
    if not state.planes:
        return state
    planes = [plane.narrow(0, index if plane.shape[0] > 1 else 0, 1) for plane in state.planes]
    return Provenance(tuple(planes), state.opaque)


def _joined(parts: Sequence[Provenance], axes: int) -> Provenance:
    """Channels of both directions side by side on the last axis."""
    plane = torch.cat([part.planes[0].reshape(-1) for part in parts])
    return Provenance((plane.view((1,) * (axes - 1) + (-1,)),))


def _stacked(parts: Sequence[Provenance], axes: int) -> Provenance:
    """The layers' states, along the first axis."""
    plane = torch.stack([part.planes[0].reshape(-1) for part in parts])
    return Provenance((plane.view(len(parts), *(1,) * (axes - 2), -1),))


COMPOSITES: Mapping[str, Callable[..., list[Provenance] | None]] = {
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
