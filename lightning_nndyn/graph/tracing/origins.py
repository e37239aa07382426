"""Which channel of which layer call made each entry of a tensor.

An entry's origin is a *label*, ``call << 32 | channel``, or -1 for none. A *label map* is an int64 tensor of
labels with as many axes as the tensor it describes, of size one along the axes on which the origin does not
depend: the output of a convolution has one label map, of shape [1, C, 1, 1]. A sum of two tensors has the
label maps of both. Where an operation hides which channel goes where, the calls are still known: they become
*unordered sources*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

CHANNEL_BITS = 32
CHANNEL_MASK = (1 << CHANNEL_BITS) - 1


@dataclass(frozen=True)
class ChannelOrigins:
    """Where a tensor's entries come from.

    Attributes:
        label_maps: each says for every entry which channel has contributed to it.
        unordered_sources: calls that have contributed as well; which of their channels went where is unknown.
        known_sources: the calls whose labels each label map holds, if that is known; spares a search.
    """

    label_maps: tuple[Tensor, ...] = ()
    unordered_sources: frozenset[int] = frozenset()
    known_sources: tuple[frozenset[int], ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.label_maps or self.unordered_sources)

    @cached_property
    def sources(self) -> frozenset[int]:
        """All calls that have contributed to some entry."""
        return self.unordered_sources.union(*self.sources_of_maps)

    @cached_property
    def sources_of_maps(self) -> tuple[frozenset[int], ...]:
        """The calls whose labels each label map holds."""
        return self.known_sources or tuple(map(source_calls, self.label_maps))

    def maps_of(self, source: int) -> list[Tensor]:
        """The label maps that hold labels of a call."""
        pairs = zip(self.label_maps, self.sources_of_maps, strict=True)
        return [label_map for label_map, sources in pairs if source in sources]

    def unordered(self) -> ChannelOrigins:
        """The same calls, with the layout of their channels unknown."""
        return ChannelOrigins((), self.sources)


NO_ORIGINS = ChannelOrigins()

OriginPairs: TypeAlias = Sequence[tuple[Tensor, ChannelOrigins]]
"""Tensors, each with its origins."""


def output_origins(call: int, channels: int, axis: int, ndim: int) -> ChannelOrigins:
    """The origins of a layer call's output, with its channels along ``axis`` of ``ndim`` axes."""
    shape = [1] * ndim
    shape[axis] = channels
    return ChannelOrigins((channel_labels(call, channels).view(shape),))


def channel_labels(call: int, channels: int) -> Tensor:
    """The labels of a call's channels, LongTensor[channels]."""
    return torch.arange(channels) + (call << CHANNEL_BITS)


def source_calls(label_map: Tensor) -> frozenset[int]:
    """The calls whose labels a label map holds."""
    if not label_map.numel():
        return frozenset()
    low, high = (int(bound) for bound in label_map.aminmax())
    if low >> CHANNEL_BITS == high >> CHANNEL_BITS:  # the common case: one call, or none
        return frozenset() if high < 0 else frozenset((high >> CHANNEL_BITS,))
    return frozenset(torch.unique(label_map[label_map >= 0] >> CHANNEL_BITS).tolist())


def carries_origins(tensor: Tensor) -> bool:
    """Whether a layer can have made a tensor's entries: integers and booleans are indices and masks."""
    return tensor.is_floating_point() or tensor.is_complex()


def non_empty(label_maps: Iterable[Tensor], unordered_sources: frozenset[int]) -> ChannelOrigins:
    """Origins of the label maps that hold any label."""
    return ChannelOrigins(tuple(one for one in label_maps if bool((one >= 0).any())), unordered_sources)


def unknown_layout(inputs: OriginPairs) -> ChannelOrigins:
    """The origins of what was made of the inputs in an unknown way: all their sources, unordered."""
    return ChannelOrigins((), frozenset[int]().union(*(origins.sources for _, origins in inputs)))


def elementwise(inputs: OriginPairs, output: Tensor) -> ChannelOrigins:
    """The origins under an entry-by-entry operation: label maps stay where they broadcast to the output.

    Label maps that several inputs have in common are kept once.
    """
    if len(inputs) == 1 and all(_is_aligned(one, output) for one in inputs[0][1].label_maps):
        return inputs[0][1]
    lost: set[int] = set()
    found: dict[tuple[torch.Size, bytes], tuple[Tensor, frozenset[int]]] = {}
    for _, origins in inputs:
        lost |= origins.unordered_sources
        for label_map, sources in zip(origins.label_maps, origins.sources_of_maps, strict=True):
            aligned = _broadcast(label_map, output)
            if aligned is None:
                lost |= sources
            else:
                found[aligned.shape, aligned.numpy().tobytes()] = aligned, sources
    label_maps = tuple(label_map for label_map, _ in found.values())
    return ChannelOrigins(label_maps, frozenset(lost), tuple(sources for _, sources in found.values()))


def _is_aligned(label_map: Tensor, output: Tensor) -> bool:
    return label_map.dim() == output.dim() and _broadcast(label_map, output) is not None


def _broadcast(label_map: Tensor, output: Tensor) -> Tensor | None:
    """The label map with the output's number of axes; None if their sizes do not fit."""
    missing = output.dim() - label_map.dim()
    if missing < 0:
        return None
    if missing:
        label_map = label_map.reshape((1,) * missing + tuple(label_map.shape))
    sizes = zip(label_map.shape, output.shape, strict=True)
    return label_map if all(size in (1, wanted) for size, wanted in sizes) else None


def compress(label_map: Tensor) -> Tensor:
    """A copy, cut to size one along each axis on which the labels do not depend."""
    (compressed,) = compress_all(label_map.unsqueeze(0))
    return compressed


def compress_all(stack: Tensor) -> tuple[Tensor, ...]:
    """`compress` of label maps that are stacked along the first axis."""
    for axis in range(1, stack.dim()):
        if stack.stride(axis) == 0 and stack.shape[axis] > 1:  # expanded: no need to compare
            stack = stack.narrow(axis, 0, 1)
    label_maps = list(stack.unbind(0))
    for axis in range(1, stack.dim()):
        if stack.shape[axis] > 1:
            same = (stack == stack.narrow(axis, 0, 1)).flatten(1).all(1).tolist()
            if all(same):
                stack = stack.narrow(axis, 0, 1)
            label_maps = [
                one.narrow(axis - 1, 0, 1) if is_constant else one
                for one, is_constant in zip(label_maps, same, strict=True)
            ]
    return tuple(one.clone() for one in label_maps)
