"""Operations that only move entries: reshapes, permutations, slices, joins.

They are applied to the label maps themselves, so that their effect on the layout is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lightning_nndyn.graph.tracing.operation import Operation, map_tensors, tensors_in
from lightning_nndyn.graph.tracing.origins import (
    ChannelOrigins,
    OriginPairs,
    carries_origins,
    compress,
    compress_all,
    elementwise,
    non_empty,
    unknown_layout,
)

Lookup: TypeAlias = Callable[[Tensor], ChannelOrigins]

_PERMUTATIONS = frozenset("transpose permute t movedim moveaxis swapaxes swapdims adjoint unsqueeze".split())
_RESHAPES = frozenset("view reshape flatten unflatten view_as reshape_as ravel _unsafe_view squeeze".split())
_EXPANSIONS = frozenset("expand expand_as broadcast_to".split())
_JOINS = frozenset("cat concat concatenate stack".split())
MOVEMENTS = frozenset(
    """__getitem__ channel_shuffle chunk dsplit dstack flip gather hsplit hstack index_select narrow
    pixel_shuffle pixel_unshuffle repeat repeat_interleave roll rot90 select split split_with_sizes
    take_along_dim tensor_split tile unbind unsafe_chunk unsafe_split vsplit vstack""".split()
).union(_PERMUTATIONS, _RESHAPES, _EXPANSIONS, _JOINS)


def is_movement(operation: Operation) -> bool:
    """Whether an operation only moves, repeats or drops entries."""
    if operation.name == "pad":
        return bool(operation.argument(2, "mode", default="constant") == "constant")
    return operation.name in MOVEMENTS or operation.name == "unfold"


def without_attribute(operation: Operation, tensor: Tensor) -> Operation:
    """An attribute such as ``.T`` or ``.mT`` as the permutation that it stands for.

    Which one it is shows in the strides. Other attributes are returned as they are.
    """
    if not operation.outputs or tensor.dim() < 2:
        return operation
    after = operation.outputs[0]
    if after.shape == tensor.shape and after.stride() == tensor.stride():
        return operation
    last = tensor.dim() - 1
    reverse = tuple(range(last, -1, -1))
    for axes in ((*range(last - 1), last, last - 1), reverse):
        moved = tensor.permute(axes)
        if (after.shape, after.stride()) == (moved.shape, moved.stride()):
            return replace(
                operation, name="permute", func=lambda label_map, axes=axes: label_map.permute(axes)
            )
    return operation


def move(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> list[ChannelOrigins]:
    """The origins of each output of a movement.

    Args:
        operation: the movement.
        inputs: those of its tensors that have origins, at least one.
        lookup: gives the origins of any tensor.
    """
    name, outputs = operation.name, operation.outputs
    (first, origins), lost = inputs[0], frozenset[int]().union(*(o.unordered_sources for _, o in inputs))
    if name in _EXPANSIONS:
        return [elementwise(inputs, outputs[0])]
    if name in _RESHAPES:
        if not first.numel() or first.numel() != outputs[0].numel():
            return [unknown_layout(inputs)] * len(outputs)
        return [_mapped(origins, lost, lambda one: reshaped(one, first.shape, outputs[0].shape))]
    if name in _PERMUTATIONS:
        rest = operation.args[1:]
        return [_mapped(origins, lost, lambda one: operation.func(one, *rest, **operation.kwargs))]
    moved = _apply(operation, inputs, lookup)
    if moved is None:
        return [unknown_layout(inputs)] * len(outputs)
    return [non_empty(label_maps, lost) for label_maps in moved]


def _mapped(
    origins: ChannelOrigins, lost: frozenset[int], change: Callable[[Tensor], Tensor]
) -> ChannelOrigins:
    return ChannelOrigins(tuple(map(change, origins.label_maps)), lost)


def _apply(operation: Operation, inputs: OriginPairs, lookup: Lookup) -> list[list[Tensor]] | None:
    """Runs a movement on the label maps of its tensors, one level after the other.

    Returns:
        For each output its label maps; None if the operation does not accept labels.
    """
    first, origins = inputs[0]
    args, kwargs, axes = operation.args, operation.kwargs, _affected_axes(operation, first)
    if operation.name == "pad":
        args, kwargs = [first, operation.argument(1, "pad", default=())], {"value": -1}
    if len(operation.tensors) == 1:
        at_once = _apply_at_once(
            operation, origins.label_maps, _LabelsOf(0, inputs, lookup, axes).shape(first)
        )
        if at_once is not None:
            return [at_once]
    moved: list[list[Tensor]] = [[] for _ in operation.outputs]
    for level in range(max(len(origins.label_maps) for _, origins in inputs)):
        labels = _LabelsOf(level, inputs, lookup, axes)
        results = _run(operation.func, map_tensors(args, labels), map_tensors(kwargs, labels))
        if results is None:
            return None
        for label_maps, result in zip(moved, results, strict=True):
            label_maps.append(compress(result))
    return moved


def _apply_at_once(
    operation: Operation, label_maps: Sequence[Tensor], shape: Sequence[int]
) -> list[Tensor] | None:
    """Slices or pads all label maps of one tensor together, which saves time in residual streams.

    Args:
        operation: the movement.
        label_maps: of its only tensor.
        shape: to which they are expanded before.

    Returns:
        The moved label maps; None for other operations.
    """
    if len({one.shape for one in label_maps}) != 1:
        return None
    stack = torch.stack(tuple(label_maps)).expand(len(label_maps), *shape)
    if operation.name == "pad":
        return list(compress_all(operation.func(stack, operation.argument(1, "pad"), value=-1)))
    if operation.name == "__getitem__":
        index = operation.args[1] if isinstance(operation.args[1], tuple) else (operation.args[1],)
        if all(part is ... or isinstance(part, (slice, int)) for part in index):
            return list(compress_all(operation.func(stack, (slice(None), *index))))
    return None


def _run(func: Callable[..., Any], args: Any, kwargs: Any) -> list[Tensor] | None:
    """Applies a movement to labels; None if it raises."""
    refusals = (RuntimeError, TypeError, NotImplementedError, IndexError)
    try:
        return list(tensors_in(func(*args, **kwargs)))
    except refusals:
        pass
    try:  # Some kernels do not take integers. They fill with zeros, so labels are shifted by one.
        args, kwargs = (map_tensors(tree, lambda label: label.double() + 1) for tree in (args, kwargs))
        return [moved.long() - 1 for moved in tensors_in(func(*args, **kwargs))]
    except refusals:
        return None


class _LabelsOf:
    """Replaces a tensor by the label map at one level.

    Where only some axes are affected, label maps are written out along these and along those on which some
    map depends. All other axes stay at size one, which saves most of the work.
    """

    def __init__(
        self, level: int, inputs: OriginPairs, lookup: Lookup, affected: Collection[int] | None
    ) -> None:
        self._level, self._lookup = level, lookup
        self._written_out: set[int] | None = None
        if affected is not None:
            maps = [one for _, origins in inputs for one in origins.label_maps[level : level + 1]]
            dependent = {axis for one in maps for axis, size in enumerate(one.shape) if size > 1}
            self._written_out = dependent.union(affected)

    def __call__(self, tensor: Tensor) -> Tensor:
        if not carries_origins(tensor):
            return tensor.cpu()  # an index
        maps = self._lookup(tensor).label_maps
        label_map = maps[self._level] if self._level < len(maps) else torch.tensor(-1)
        return label_map.expand(self.shape(tensor))

    def shape(self, tensor: Tensor) -> list[int]:
        """The shape of the label map that replaces a tensor."""
        if self._written_out is None or tensor.numel() == 0:
            return list(tensor.shape)
        return [size if axis in self._written_out else 1 for axis, size in enumerate(tensor.shape)]


def _affected_axes(operation: Operation, first: Tensor) -> list[int] | None:
    """The axes along which a join or padding changes anything; None for other movements."""
    if operation.name in _JOINS:
        axis = int(operation.argument(1, "dim", "axis", default=0))
        return [axis % (first.dim() + (operation.name == "stack"))]
    if operation.name == "pad":
        padding = operation.argument(1, "pad", default=())  # two numbers for each axis, the last axis first
        return [first.dim() - 1 - place // 2 for place, count in enumerate(padding) if count]
    return None


def reshaped(label_map: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """The label map of a tensor that was reshaped.

    Args:
        label_map: that of the tensor before.
        before: the tensor's shape before.
        after: its shape after.
    """
    # Written out only along those groups of axes on which the labels depend.
    expanded, shape = [], []
    for old, new in _axis_groups(tuple(before), tuple(after)):
        depends = any(label_map.shape[axis] > 1 for axis in old)
        expanded += [before[axis] if depends else 1 for axis in old]
        shape += [after[axis] if depends else 1 for axis in new]
    return compress(label_map.expand(expanded).reshape(shape))


def _axis_groups(before: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs of runs of axes, of two shapes, with the same number of entries."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        have, want = 1, 1
        if i < len(before):
            old, have, i = [i], before[i], i + 1
        if j < len(after):
            new, want, j = [j], after[j], j + 1
        while have != want:
            if (have < want and i < len(before)) or j == len(after):
                old.append(i)
                have, i = have * before[i], i + 1
            else:
                new.append(j)
                want, j = want * after[j], j + 1
        yield old, new
