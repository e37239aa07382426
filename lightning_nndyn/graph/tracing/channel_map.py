"""Which channels of which layer reach which input positions of another, and the blocks of edges that follow.

A source channel reaches an input position of a layer if it made any entry of the input there, alone or in a
sum. The edge from the channel to one of the layer's nodes weighs the norm of the kernel slice over all
positions that the channel reaches. Where an operation between two layers hides which channel goes where
(attention's queries and keys, a spectrum), every channel reaches every position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import Wiring
from lightning_nndyn.graph.tracing import origins as pv

_MASK = (1 << 32) - 1
_PIECE = 1 << 16  # labels that are looked at in one go


@dataclass(frozen=True)
class Reach:
    """The pairs of a source's channels and a layer's input positions that belong together.

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


def everywhere(channels: int) -> Reach:
    """Every channel reaches every position."""
    return Reach(torch.arange(channels), None)


def reaches(provenance: pv.Provenance, axis: int, size: int) -> dict[int, Reach]:
    """Reads the planes of a layer's input.

    Args:
        provenance: who made the input.
        axis: of the input, the one that holds the layer's input positions.
        size: their number.

    Returns:
        For each source whose layout is known, its channels' reach.
    """
    if not provenance.planes:
        return {}
    vectors = [plane.reshape(-1) for plane in provenance.planes if plane.numel() == plane.shape[axis]]
    others = [_rows(plane, axis) for plane in provenance.planes if plane.numel() > plane.shape[axis]]
    some = max(1, _PIECE // size)
    pieces = (vectors[first : first + some] for first in range(0, len(vectors), some))
    rows = (torch.stack([vector.expand(size) for vector in piece]) for piece in pieces)
    codes: dict[int, list[Tensor]] = defaultdict(list)
    for row in chain(rows, others):
        labels, positions = _entries(row, size)
        calls = labels >> 32
        for call in torch.unique(calls).tolist():
            here = calls == call
            codes[call].append(torch.unique((labels[here] & _MASK) * size + positions[here]))
    return {call: _reach(torch.cat(codes.pop(call)), size) for call in sorted(codes)}


def _rows(plane: Tensor, axis: int) -> Tensor:
    """The plane as rows along an axis; where labels do not change along it, one label a row."""
    rows = plane.movedim(axis, -1).reshape(-1, plane.shape[axis])
    return torch.unique(rows).view(-1, 1) if rows.shape[1] == 1 else rows


def _entries(rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The labels in rows along an axis, and the position at which each stands."""
    labels = rows.expand(len(rows), size)
    made = labels >= 0
    return labels[made], torch.arange(size).expand_as(labels)[made]


def _reach(codes: Tensor, size: int) -> Reach:
    codes = torch.unique(codes)
    channels = codes // size
    distinct = torch.unique(channels)
    if len(codes) == len(distinct) * size and size > 1:
        return Reach(distinct, None)
    return Reach(channels, codes % size)


def wirings(reach: Reach, channels: int, size: int, groups: int, outputs: int) -> list[Wiring | None]:
    """The blocks that join a source layer to a target layer.

    Args:
        reach: which channels of the source meet which input positions of the target.
        channels: nodes of the source layer.
        size: input positions of the target layer.
        groups: groups of its weight.
        outputs: its nodes.

    Returns:
        One wiring a block; None for the plain one, in which each channel owns a run of input positions, as
        after a flatten.
    """
    if _is_plain(reach, channels, size, groups):
        return [None]
    found = (
        _whole(reach.channels, size, groups) if reach.positions is None else _bundles(reach, size // groups)
    )
    bundles: dict[int, list[_Bundle]] = defaultdict(list)
    for bundle in found:
        bundles[len(bundle.channels)].append(bundle)
    return [_wiring(alike, size // groups, outputs // groups) for alike in bundles.values()]


def _is_plain(reach: Reach, channels: int, size: int, groups: int) -> bool:
    """Whether position ``j`` belongs to channel ``j // (size / channels)`` and nothing else."""
    if size % channels or channels % groups:
        return False
    if reach.positions is None:
        return channels == 1
    positions = torch.arange(size)
    return torch.equal(reach.positions, positions) and torch.equal(
        reach.channels, positions // (size // channels)
    )


@dataclass(frozen=True)
class _Bundle:
    """One group of the target's weight: the channels that reach it, and the class of each."""

    group: int
    channels: list[int]
    members: list[int]
    classes: list[Tensor]  # the positions within the group that each class reaches


def _whole(channels: Tensor, size: int, groups: int) -> Iterator[_Bundle]:
    for group in range(groups):
        yield _Bundle(group, channels.tolist(), [0] * len(channels), [torch.arange(size // groups)])


def _bundles(reach: Reach, depth: int) -> Iterator[_Bundle]:
    assert reach.positions is not None
    groups = reach.positions // depth
    order = torch.argsort(groups, stable=True)
    found, sizes = torch.unique_consecutive(groups[order], return_counts=True)
    pairs = (tensor[order].split(sizes.tolist()) for tensor in (reach.channels, reach.positions))
    for group, sources, positions in zip(found.tolist(), *pairs, strict=True):
        channels, counts = torch.unique_consecutive(sources, return_counts=True)
        places = (positions % depth).split(counts.tolist())
        known: dict[bytes, int] = {}
        members: list[int] = []
        classes: list[Tensor] = []
        for place in places:
            key = place.numpy().tobytes()
            if key not in known:
                known[key] = len(classes)
                classes.append(place)
            members.append(known[key])
        yield _Bundle(group, channels.tolist(), members, classes)


def _wiring(bundles: list[_Bundle], depth: int, targets: int) -> Wiring:
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
    """The classes at each position, LongTensor[p, depth], -1 behind the last."""
    filled = torch.zeros(depth, dtype=torch.long)
    levels = torch.full((1, depth), -1)
    for index, places in enumerate(classes):
        height = filled[places]
        if int(height.max()) >= len(levels):
            levels = torch.cat((levels, torch.full((1, depth), -1)))
        levels[height, places] = index
        filled[places] += 1
    return levels
