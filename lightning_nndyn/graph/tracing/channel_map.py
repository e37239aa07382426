"""Which channels of one layer reach which input positions of another, and the blocks of edges that follow.

A source channel reaches an input position of a layer if it contributed to any entry of the input there, alone
or in a sum. The edge from the channel to one of the layer's nodes weighs the norm of the kernel slice over
all positions that the channel reaches. Where an operation between two layers hides which channel goes where
(the queries and keys of attention, a spectrum), every channel reaches every position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import LayerWeight, Wiring
from lightning_nndyn.graph.sharding import shapes_only
from lightning_nndyn.graph.tracing.origins import CHANNEL_BITS, CHANNEL_MASK, ChannelOrigins

_PIECE = 1 << 16  # labels that are read at a time


@dataclass(frozen=True)
class ChannelMap:
    """The pairs of a source's channels and the input positions of a layer that they reach.

    Attributes:
        channels: LongTensor[n], sorted.
        positions: LongTensor[n], sorted within each channel; None if each channel reaches every position.
    """

    channels: Tensor
    positions: Tensor | None

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Equal for equal pairs."""
        positions = b"" if self.positions is None else self.positions.numpy().tobytes()
        return self.channels.numpy().tobytes(), positions


def every_position(channels: int) -> ChannelMap:
    """Each of so many channels reaches every position: the layout is unknown."""
    return ChannelMap(torch.arange(channels), None)


def channel_maps(
    origins: ChannelOrigins, axis: int, size: int, source: int | None = None
) -> dict[int, ChannelMap]:
    """Reads the label maps of a layer's input.

    Args:
        origins: those of the input.
        axis: of the input, the one that holds the layer's input positions.
        size: their number.
        source: the only call that is wanted; None for all.

    Returns:
        The map of each source whose layout is known.
    """
    label_maps = origins.label_maps if source is None else origins.maps_of(source)
    along = [one.reshape(-1) for one in label_maps if one.numel() == one.shape[axis]]
    others = [_rows(one, axis) for one in label_maps if one.numel() > one.shape[axis]]
    step = max(1, _PIECE // size)
    pieces = (along[first : first + step] for first in range(0, len(along), step))
    rows = (torch.stack([labels.expand(size) for labels in piece]) for piece in pieces)
    codes: dict[int, list[Tensor]] = defaultdict(list)
    for row in chain(rows, others):
        labels, positions = _entries(row, size)
        calls = labels >> CHANNEL_BITS
        for call in torch.unique(calls).tolist() if source is None else [source]:
            here = calls == call
            codes[call].append(torch.unique((labels[here] & CHANNEL_MASK) * size + positions[here]))
    return {call: _decoded(torch.cat(codes.pop(call)), size) for call in sorted(codes)}


def _rows(label_map: Tensor, axis: int) -> Tensor:
    """The label map as rows along an axis; one label a row if labels do not depend on it."""
    rows = label_map.movedim(axis, -1).reshape(-1, label_map.shape[axis])
    return torch.unique(rows).view(-1, 1) if rows.shape[1] == 1 else rows


def _entries(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The labels in rows along an axis, and the position of each."""
    labels = rows.expand(len(rows), size)
    made = labels >= 0
    return labels[made], torch.arange(size).expand_as(labels)[made]


def _decoded(codes: Tensor, size: int) -> ChannelMap:
    """The map of pairs that are coded as ``channel * size + position``."""
    codes = torch.unique(codes)
    channels = codes // size
    distinct = torch.unique(channels)
    if len(codes) == len(distinct) * size and size > 1:
        return ChannelMap(distinct, None)
    return ChannelMap(channels, codes % size)


# -- blocks of edges -----------------------------------------------------------------------------------------


def block_weights(
    channel_map: ChannelMap, channels: int, size: int, outputs: int, weight: LayerWeight
) -> list[LayerWeight]:
    """How the blocks of edges from a source layer to a target layer are read.

    Args:
        channel_map: which channels of the source reach which input positions of the target.
        channels: nodes of the source layer.
        size: input positions of the target layer.
        outputs: its nodes.
        weight: of the target layer, as if each channel owned a run of input positions.

    Returns:
        One weight for each block, on the device of the layer's weight.
    """
    if _is_regular(channel_map, channels, size, weight.groups):
        return [weight]
    with shapes_only():
        device = weight.read().device
    depth, targets = size // weight.groups, outputs // weight.groups
    bundles = _full_bundles if channel_map.positions is None else _bundles
    by_width: dict[int, list[_Bundle]] = defaultdict(list)
    for bundle in bundles(channel_map, weight.groups, depth):
        by_width[len(bundle.channels)].append(bundle)
    return [replace(weight, wiring=_wiring(alike, depth, targets).to(device)) for alike in by_width.values()]


def _is_regular(channel_map: ChannelMap, channels: int, size: int, groups: int) -> bool:
    """Whether position ``j`` is reached by channel ``j // (size / channels)`` alone, as after a flatten."""
    if size % channels or channels % groups:
        return False
    if channel_map.positions is None:
        return channels == 1
    positions = torch.arange(size)
    return torch.equal(channel_map.positions, positions) and torch.equal(
        channel_map.channels, positions // (size // channels)
    )


@dataclass(frozen=True)
class _Bundle:
    """The source channels that reach one group of the target's weight.

    Channels that reach the same positions form a class.

    Attributes:
        group: number of the group.
        channels: the source channels.
        members: the class of each channel.
        classes: for each class, the positions within the group that it reaches.
    """

    group: int
    channels: list[int]
    members: list[int]
    classes: list[Tensor]


def _full_bundles(channel_map: ChannelMap, groups: int, depth: int) -> Iterator[_Bundle]:
    """Every channel reaches every position of every group."""
    channels = channel_map.channels.tolist()
    for group in range(groups):
        yield _Bundle(group, channels, [0] * len(channels), [torch.arange(depth)])


def _bundles(channel_map: ChannelMap, groups: int, depth: int) -> Iterator[_Bundle]:
    assert channel_map.positions is not None
    group_of = channel_map.positions // depth
    order = torch.argsort(group_of, stable=True)
    found, sizes = torch.unique_consecutive(group_of[order], return_counts=True)
    pairs = (tensor[order].split(sizes.tolist()) for tensor in (channel_map.channels, channel_map.positions))
    for group, sources, positions in zip(found.tolist(), *pairs, strict=True):
        channels, counts = torch.unique_consecutive(sources, return_counts=True)
        known: dict[bytes, int] = {}
        members: list[int] = []
        classes: list[Tensor] = []
        for reached in (positions % depth).split(counts.tolist()):
            key = reached.numpy().tobytes()
            if key not in known:
                known[key] = len(classes)
                classes.append(reached)
            members.append(known[key])
        yield _Bundle(group, channels.tolist(), members, classes)


def _wiring(bundles: list[_Bundle], depth: int, targets: int) -> Wiring:
    """The wiring of bundles with the same number of channels."""
    groups = torch.tensor([bundle.group for bundle in bundles])
    levels = [_levels(bundle.classes, depth) for bundle in bundles]
    classes = torch.full((max(map(len, levels)), len(bundles), depth), -1)
    for index, level in enumerate(levels):
        classes[: len(level), index] = level
    return Wiring(
        sources=torch.tensor([bundle.channels for bundle in bundles]),
        targets=groups[:, None] * targets + torch.arange(targets),
        groups=groups,
        classes=classes,
        members=torch.tensor([bundle.members for bundle in bundles]),
        count=max(len(bundle.classes) for bundle in bundles),
    )


def _levels(classes: list[Tensor], depth: int) -> Tensor:
    """The classes that reach each position in ascending order, LongTensor[p, depth], -1 behind the last."""
    positions = torch.cat(classes)
    class_of = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(one) for one in classes]))
    order = torch.argsort(positions, stable=True)
    counts = torch.bincount(positions, minlength=depth)
    positions = positions[order]
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[positions]  # among those at the position
    levels = torch.full((int(counts.max()), depth), -1)
    levels[place, positions] = class_of[order]
    return levels
