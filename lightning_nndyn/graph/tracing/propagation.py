"""How each torch operation maps the channel origins of its inputs to those of its outputs.

Where it can be told which channel goes where, it is: products of activations keep the head in which channels
are mixed, `einsum` and padding are followed. Where it cannot, the sources become unordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_nndyn.graph.tracing.movements import Lookup, is_movement, move, without_attribute
from lightning_nndyn.graph.tracing.operation import Operation, tensors_in
from lightning_nndyn.graph.tracing.origins import (
    NO_ORIGINS,
    ChannelOrigins,
    OriginPairs,
    carries_origins,
    elementwise,
    source_calls,
    unknown_layout,
)

_FRESH = frozenset(
    """zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full
    new_empty new_tensor zero_ fill_ normal_ uniform_ bernoulli_ random_ exponential_ one_hot""".split()
)
_MIXING = frozenset(
    """tensordot inner outer ger kron cdist cross dot mv vdot vecdot chain_matmul multi_dot as_strided sort
    msort topk kthvalue mode stft istft cosine_similarity pairwise_distance grid_sample bilinear cov corrcoef
    matrix_exp matrix_power inverse pinverse det logdet trace cross_entropy nll_loss""".split()
)
_MIXING_PREFIXES = ("fft_", "linalg_")
_REDUCTIONS = frozenset("mean sum amax amin max min logsumexp std var median nanmean norm prod".split())
_MAX_SPLIT = 256  # distinct rows along reduced axes up to which the layout of the other axes is kept
_MAX_WORK = 1 << 24  # entries of a label map


def propagate(operation: Operation, lookup: Lookup) -> list[ChannelOrigins]:
    """The origins of each tensor that an operation returns.

    Integers, booleans and newly filled tensors have none.

    Args:
        operation: the operation.
        lookup: gives the origins of its tensors.
    """
    tensors = operation.tensors
    if operation.name == "copy_":  # overwrites its first argument
        tensors = list(tensors_in((operation.args[1:], operation.kwargs)))
    inputs = _pairs(tensors, lookup)
    if not inputs or operation.name in _FRESH:
        return [NO_ORIGINS] * len(operation.outputs)
    if operation.name == "__get__":
        operation = without_attribute(operation, inputs[0][0])
    found = _output_origins(operation, inputs, lookup)
    return [
        origins if carries_origins(tensor) else NO_ORIGINS
        for tensor, origins in zip(operation.outputs, found, strict=True)
    ]


def _pairs(tensors: Sequence[Tensor], lookup: Lookup) -> list[tuple[Tensor, ChannelOrigins]]:
    """The tensors that have origins, with them."""
    pairs = [(tensor, lookup(tensor)) for tensor in tensors]
    return [(tensor, origins) for tensor, origins in pairs if origins]


def _output_origins(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> list[ChannelOrigins]:
    name, outputs = operation.name, operation.outputs
    if name in _MIXING or name.startswith(_MIXING_PREFIXES):
        return [unknown_layout(inputs)] * len(outputs)
    if is_movement(operation):
        return move(operation, inputs, lookup)
    rule = _RULES.get(name)
    if rule is not None:
        inputs = rule(operation, inputs, lookup)
    return [elementwise(inputs, output) for output in outputs]


# -- reductions ----------------------------------------------------------------------------------------------


def reduce_axes(origins: ChannelOrigins, axes: Sequence[int]) -> ChannelOrigins:
    """Cuts the given axes of the label maps to size one.

    All entries along them contribute to what is left: each distinct row becomes a label map of its own.
    """
    label_maps: list[Tensor] = []
    lost = set(origins.unordered_sources)
    for label_map in origins.label_maps:
        count = math.prod(label_map.shape[axis] for axis in axes)
        if count == 1:
            label_maps.append(label_map)
            continue
        rows = _distinct_rows(label_map, axes, count)
        if rows is None:
            lost |= source_calls(label_map)
        else:
            shape = [1 if axis in axes else size for axis, size in enumerate(label_map.shape)]
            label_maps += [row.reshape(shape) for row in rows if bool((row >= 0).any())]
    return ChannelOrigins(tuple(label_maps), frozenset(lost))


def _distinct_rows(label_map: Tensor, axes: Sequence[int], count: int) -> Tensor | None:
    """The distinct entries along some axes, [n, entries along the others]; None if there are too many."""
    if count == label_map.numel() or label_map.numel() > _MAX_WORK:
        return None
    rows = label_map.movedim(tuple(axes), tuple(range(len(axes)))).reshape(count, -1)
    rows = torch.unique(rows, dim=0)
    return None if len(rows) > _MAX_SPLIT else rows


def _reduction(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """Sums, means, extremes over axes."""
    if isinstance(operation.argument(1), Tensor):  # the larger of two tensors: entry by entry
        return inputs
    axes = operation.argument(2 if operation.name == "norm" else 1, "dim", "axis")
    return [(tensor, _reduced(origins, tensor, axes, operation.outputs[0])) for tensor, origins in inputs]


def _reduced(origins: ChannelOrigins, tensor: Tensor, axes: Any, out: Tensor) -> ChannelOrigins:
    if axes is None or isinstance(axes, (str, bool)):
        return origins.unordered()
    wanted = sorted({axis % tensor.dim() for axis in ([axes] if isinstance(axes, int) else axes)})
    left = reduce_axes(origins, wanted or list(range(tensor.dim())))
    if out.dim() == tensor.dim():
        return left
    kept = [axis for axis in range(tensor.dim()) if axis not in wanted]
    label_maps = tuple(one.reshape([one.shape[axis] for axis in kept]) for one in left.label_maps)
    return ChannelOrigins(label_maps, left.unordered_sources)


# -- products of activations ---------------------------------------------------------------------------------


def _multiplied(operands: Sequence[Tensor], lookup: Lookup) -> list[tuple[Tensor, ChannelOrigins]]:
    """Two factors of a matrix product: entries along the contracted axis are mixed."""
    result = []
    for tensor, axis in zip(operands, (-1, -2), strict=False):
        origins = lookup(tensor)
        if tensor.dim() < 2:
            origins = origins.unordered()
        elif origins:
            origins = reduce_axes(origins, [axis % tensor.dim()])
        result.append((tensor, origins))
    return result


def _product(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    return _multiplied(operation.args, lookup)


def _product_plus(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """``baddbmm`` and its kin: the first argument is added to the product of the others."""
    addend, *factors = operation.args
    return _multiplied(factors, lookup) + _pairs(list(tensors_in(addend)), lookup)


def _reflected_product(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    return _multiplied((operation.args[1], operation.args[0]), lookup)


def _attention(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """Values stay in their channels; queries and keys reach all channels of their head."""
    query, key, value = (
        operation.argument(place, part) for place, part in enumerate(("query", "key", "value"))
    )
    axes = query.dim()
    known = [
        (query, reduce_axes(lookup(query), [axes - 1])),
        (key, reduce_axes(lookup(key), [axes - 2, axes - 1])),
        (value, reduce_axes(lookup(value), [axes - 2])),
    ]
    others = [(t, origins.unordered()) for t, origins in inputs if all(t is not part for part, _ in known)]
    heads = operation.outputs[0].shape[-3] if axes > 2 else 1
    return [(tensor, _repeat_heads(origins, heads)) for tensor, origins in known] + others


def _repeat_heads(origins: ChannelOrigins, heads: int) -> ChannelOrigins:
    """Grouped-query attention: several query heads share one head of keys and values."""
    label_maps = []
    for label_map in origins.label_maps:
        if label_map.dim() > 2 and 1 < label_map.shape[-3] < heads:
            label_map = label_map.repeat_interleave(heads // label_map.shape[-3], -3)
        label_maps.append(label_map)
    return ChannelOrigins(tuple(label_maps), origins.unordered_sources)


def _einsum(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """Einstein's notation, where it names each axis by one letter; otherwise the layout is unknown."""
    args = operation.args
    unordered = [(tensor, origins.unordered()) for tensor, origins in inputs]
    if not isinstance(args[0], str) or "." in args[0]:
        return unordered
    left, arrow, right = args[0].replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow:
        right = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    operands = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
    if any(len(set(term)) < len(term) for term in terms):
        return unordered
    result = []
    for tensor, term in zip(operands, terms, strict=True):
        contracted = [axis for axis, letter in enumerate(term) if letter not in right]
        result.append((tensor, _permuted(reduce_axes(lookup(tensor), contracted), term, right)))
    return result


def _permuted(origins: ChannelOrigins, term: str, right: str) -> ChannelOrigins:
    """Label maps with axes named by ``term``, brought into the order of ``right``."""
    order = [term.index(letter) for letter in right if letter in term]
    label_maps = []
    for label_map in origins.label_maps:
        kept = label_map.permute(*order, *(axis for axis in range(label_map.dim()) if axis not in order))
        sizes = iter(kept.shape)
        label_maps.append(kept.reshape([next(sizes) if letter in term else 1 for letter in right]))
    return ChannelOrigins(tuple(label_maps), origins.unordered_sources)


# -- others --------------------------------------------------------------------------------------------------


def _gated_linear_unit(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """One half of the channels, multiplied by a function of the other half."""
    tensor = operation.argument(0, "input")
    axis = operation.axis(tensor, 1, -1)
    origins, half = lookup(tensor), tensor.shape[axis] // 2
    label_maps: list[Tensor] = []
    for label_map in origins.label_maps:
        label_maps += [label_map] if label_map.shape[axis] == 1 else label_map.split(half, axis)
    return [(tensor, ChannelOrigins(tuple(label_maps), origins.unordered_sources))]


def _packed_sequence(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> OriginPairs:
    """Sequences that are packed or unpacked: channels stay on the last axis, all else may move."""
    axes = operation.outputs[0].dim()
    return [(tensor, _on_last_axis(origins, axes)) for tensor, origins in inputs]


def _on_last_axis(origins: ChannelOrigins, axes: int) -> ChannelOrigins:
    label_maps, lost = [], set(origins.unordered_sources)
    for label_map in origins.label_maps:
        if label_map.numel() == label_map.shape[-1]:
            label_maps.append(label_map.reshape((1,) * (axes - 1) + (-1,)))
        else:
            lost |= source_calls(label_map)
    return ChannelOrigins(tuple(label_maps), frozenset(lost))


_Rule: TypeAlias = Callable[[Operation, OriginPairs, Lookup], OriginPairs]

# What an operation does to the origins of its inputs before they are combined entry by entry.
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "mm"), _product),
    **dict.fromkeys(("baddbmm", "addmm", "addbmm"), _product_plus),
    "__rmatmul__": _reflected_product,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "glu": _gated_linear_unit,
    **dict.fromkeys(("_pack_padded_sequence", "_pad_packed_sequence"), _packed_sequence),
}
