"""Blocks of edges between two node layers, and the norms of kernel slices that weigh them.

A block of a plain chain is one dense matrix a group, read from a layer's weight. In a data-flow graph a layer
may be fed by several others, each by part of its weight: then a `Wiring` says which of a source's channels
meet which input positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from lightning_nndyn.graph.sharding import local_rows

# What must be copied or squared is done so in pieces of this many numbers: 2 MiB in float32 stay in a core's
# share of the cache. A GPU has more cores and pays for each launch.
_SCRATCH = 1 << 19
_SCRATCH_ELSEWHERE = 1 << 22
# Up to this length a matrix-vector product sums as exactly as torch's pairwise sum, and faster.
_SHORT = 128


@dataclass(frozen=True)
class Wiring:
    """Which channels of a source layer meet which input positions of a target layer.

    The block is a bundle of ``b`` complete bipartite graphs, each of ``k`` source channels and ``m`` targets.
    Source channels that meet the same input positions make a class: their edges weigh the same.

    Attributes:
        sources: LongTensor[b, k], the source channel of each column of the block's values.
        targets: LongTensor[b, m], the target node of each row.
        groups: LongTensor[b], the group of the weight that each bundle belongs to.
        classes: LongTensor[p, b, in / groups], the class that meets each input position of the group, -1 for
            none; ``p`` classes at most meet the same position.
        members: LongTensor[b, k], the class of each source channel.
        count: the number of classes in each bundle.
    """

    sources: Tensor
    targets: Tensor
    groups: Tensor
    classes: Tensor
    members: Tensor
    count: int

    _TENSORS: ClassVar = ("sources", "targets", "groups", "classes", "members")

    def to(self, device: torch.device) -> Wiring:
        """The same on another device."""
        moved = {name: getattr(self, name).to(device) for name in self._TENSORS}
        return replace(self, **moved)

    def values(self, norms: Tensor, bundles: slice, out: Tensor) -> None:
        """Edge weights from the slices' norms, for some rows of some bundles.

        Args:
            norms: [bundles, rows, in / groups], overwritten.
            bundles: which.
            out: [bundles, rows, k], the result.
        """
        # The last class collects what other layers feed, and is thrown away.
        sums = out.new_zeros(*norms.shape[:2], self.count + 1)
        squares = norms.square_()
        for level in self.classes[:, bundles]:
            index = torch.where(level < 0, self.count, level)
            sums.scatter_add_(2, index.unsqueeze(1).expand_as(squares), squares)
        members = self.members[bundles].unsqueeze(1).expand(out.shape)
        torch.gather(sums, 2, members, out=out).sqrt_()


@dataclass(frozen=True)
class LayerWeight:
    """Where a block of edges gets its weights from.

    Attributes:
        name: the layer's name, for messages and drawings.
        read: returns the weight now: [out, in / groups, *kernel], or [in, out / groups, *kernel] if
            ``transposed``.
        groups: the number of groups of a grouped convolution.
        transposed: whether the input axis comes first (transposed convolutions, ``x @ w``).
        columns: None if input position ``j`` belongs to source node ``j // (in / sources)``, as after a
            flatten; otherwise the source node of each input position, LongTensor[in], -1 for positions that
            other layers feed (concatenation).
        wiring: what says the same for any groups and for part of the source nodes; ``columns`` is then None.
        kind: of the layer, see `lightning_nndyn.graph.tracing.layer_kinds`; empty if unknown.
    """

    name: str
    read: Callable[[], Tensor]
    groups: int = 1
    transposed: bool = False
    columns: Tensor | None = None
    wiring: Wiring | None = None
    kind: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of outputs, and of input positions of each group."""
        first, second = self.read().shape[:2]
        return (second * self.groups, first // self.groups) if self.transposed else (first, second)

    def slices(self, rows: range | None = None) -> Tensor:
        """Returns the weight as [groups, out / groups, in / groups, kernel positions], a view.

        Args:
            rows: the outputs that are wanted, of several groups all or none; None for all.
        """
        if rows is not None and not self.transposed:
            weight = local_rows(self.read, rows)
            if weight is not None:
                return self._by_group(weight.detach())
        slices = self._by_group(self.read().detach())
        return slices if rows is None else slices[:, rows.start : rows.stop]

    def _by_group(self, weight: Tensor) -> Tensor:
        by_group = weight.unflatten(0, (self.groups, len(weight) // self.groups))
        if self.transposed:
            by_group = by_group.transpose(1, 2)
        return by_group.flatten(3) if by_group.dim() > 3 else by_group.unsqueeze(3)


@dataclass(frozen=True)
class Block:
    """The edges from one node layer to another.

    Attributes:
        source: index of the node layer the edges come from.
        target: index of the node layer they lead to.
        values: edge weights [groups, targets / groups, sources / groups], or [b, m, k] if the weight has a
            wiring; a view of the graph's buffer, shared by blocks that read the same slices.
        weight: where the values are read from.
        rows: the target nodes that the edges lead to, where other processes have the rest of the block; none
            of them are read then where the range is empty. None for all of them.
    """

    source: int
    target: int
    values: Tensor
    weight: LayerWeight
    rows: range | None = None
    _work: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def refresh(self) -> None:
        """Reads the layer's weights again, into the same memory."""
        self.fill(self.weight.slices(self.rows))

    def fill(self, slices: Tensor) -> None:
        """Forms the values, of the slices of its rows: [groups, rows, in / groups, kernel positions]."""
        if self.is_remote:
            return
        if self.weight.wiring is not None:
            self._fill_by_class(self.weight.wiring, slices)
        elif self.weight.columns is not None:
            self._fill_by_column(self.weight.columns, slices)
        else:
            self._fill_evenly(slices)

    def _fill_evenly(self, slices: Tensor) -> None:
        """Each source node owns a run of input positions."""
        groups, targets, sources = self.values.shape
        out = self.values.view(-1, sources)
        try:
            slice_norms(slices.view(*out.shape, -1), out, self._work)
            return
        except RuntimeError:  # strides allow no view: a piece at a time is copied
            pass
        for some, rows in _pieces(groups, targets, slices[0, 0].numel(), slices.device):
            part = self.values[some, rows].view(-1, sources)
            slice_norms(slices[some, rows].reshape(*part.shape, -1), part, self._work)

    def _fill_by_column(self, columns: Tensor, slices: Tensor) -> None:
        """Input positions are scattered over the source nodes by an index."""
        slices, out = slices[0], self.values[0]
        # The last column collects what other layers feed, and is thrown away.
        index = torch.where(columns < 0, out.shape[1], columns)
        for _, rows in _pieces(1, len(out), slices[0].numel(), slices.device):
            part = slices[rows]
            norms = _scratch(self._work, "norms", part.shape[:2], out)
            gathered = _scratch(self._work, "gathered", (len(part), out.shape[1] + 1), out).zero_()
            gathered.index_add_(1, index, slice_norms(part, norms, self._work).square_())
            torch.sqrt(gathered[:, :-1], out=out[rows])

    def _fill_by_class(self, wiring: Wiring, slices: Tensor) -> None:
        """The general case: bundles, with classes of positions."""
        bundles, targets, _ = self.values.shape
        all_groups = len(slices) == bundles  # then they are in their order
        for some, rows in _pieces(bundles, targets, slices[0, 0].numel(), slices.device):
            part = slices[some, rows] if all_groups else slices[:, rows].index_select(0, wiring.groups[some])
            norms = _scratch(self._work, "norms", part.shape[:3], self.values)
            slice_norms(part.flatten(0, 1), norms.view(-1, part.shape[2]), self._work)
            wiring.values(norms, some, self.values[some, rows])

    @property
    def is_remote(self) -> bool:
        """Whether other processes have all of its edges."""
        return self.rows is not None and not self.rows

    def at_target(self, vector: Tensor) -> Tensor:
        """What a vector over the target layer's nodes has for the block's rows, a view."""
        return vector if self.rows is None else vector[self.rows.start : self.rows.stop]

    @property
    def source_nodes(self) -> Tensor | None:
        """The source node of each column, LongTensor[b, k]; None for all in their order."""
        return None if self.weight.wiring is None else self.weight.wiring.sources

    @property
    def target_nodes(self) -> Tensor | None:
        """The target node of each row, LongTensor[b, m]; None for all in their order."""
        return None if self.weight.wiring is None else self.weight.wiring.targets


def _pieces(groups: int, rows: int, width: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Whole groups, or some rows of one: of so many entries as scratch memory is there for.

    Args:
        groups: number of groups.
        rows: of each group.
        width: entries of each row.
        device: where the work is done.
    """
    room = _SCRATCH // 2 if device.type == "cpu" else _SCRATCH_ELSEWHERE  # several are needed at a time
    some_rows = max(1, min(rows, room // width))
    some = max(1, room // (some_rows * width)) if some_rows == rows else 1
    for first in range(0, groups, some):
        for row in range(0, rows, some_rows):
            yield slice(first, first + some), slice(row, row + some_rows)


def _scratch(work: dict[str, Tensor], key: str, shape: Sequence[int], like: Tensor) -> Tensor:
    """Memory that is kept for the next piece; its content is lost."""
    wanted = math.prod(shape)
    if key not in work or work[key].numel() < wanted:
        work.pop(key, None)
        work[key] = like.new_empty(wanted)
    return work[key][:wanted].view(tuple(shape))


def take_nodes(vector: Tensor, places: Tensor | None, bundles: int) -> Tensor:
    """A vector over a layer's nodes, arranged as a block's columns or rows: [bundles, k]."""
    return vector.view(bundles, -1) if places is None else vector[places]


def add_to_nodes(out: Tensor, part: Tensor, places: Tensor | None) -> None:
    """Adds numbers arranged as a block's columns or rows to a vector over the layer's nodes, in place."""
    if places is None:
        out += part.reshape(-1)
    else:
        out.index_add_(0, places.reshape(-1), part.reshape(-1))


def slice_norms(slices: Tensor, out: Tensor, work: dict[str, Tensor] | None = None) -> Tensor:
    """L2 norms over the last axis, written into ``out``.

    Args:
        slices: [rows, columns, positions], any strides and floating dtype.
        out: [rows, columns], the result.
        work: keeps the scratch memory between calls, so that the second call allocates nothing; those of
            several layers may share it.

    Returns:
        ``out``.
    """
    rows, columns, positions = slices.shape
    if positions == 1:
        same = slices.dtype == out.dtype
        return torch.abs(slices[:, :, 0], out=out) if same else out.copy_(slices[:, :, 0]).abs_()
    if out.device.type != "cpu":
        return torch.linalg.vector_norm(slices, dim=2, out=out, dtype=out.dtype)
    # torch reduces a short inner axis without vector instructions; squares in a cached buffer, summed by one
    # matrix-vector product, take a third of the time (benchmarks/signature.py).
    work = {} if work is None else work
    wide = max(1, min(columns, _SCRATCH // positions))
    step = max(1, _SCRATCH // (columns * positions))
    for start in range(0, rows, step):
        for first in range(0, columns, wide):
            places = slice(start, start + step), slice(first, first + wide)
            _sum_squares(slices[places], out[places], work)
    return out.sqrt_()


def _sum_squares(piece: Tensor, out: Tensor, work: dict[str, Tensor]) -> None:
    """Sums of squares over the last axis of [rows, columns, positions]; one row if not all columns."""
    positions = piece.shape[2]
    squares = _scratch(work, "squares", piece.shape, out)
    if piece.dtype == out.dtype:
        torch.mul(piece, piece, out=squares)
    else:  # half precision would round the squares
        squares.copy_(piece).square_()
    squares, sums = squares.view(-1, positions), out.view(-1)
    if positions > _SHORT:
        torch.sum(squares, 1, out=sums)
        return
    if "ones" not in work:
        work["ones"] = out.new_ones(_SHORT)
    sums.addmv_(squares, work["ones"][:positions], beta=0)  # in torch 2.5 torch.mv(out=) takes new memory
