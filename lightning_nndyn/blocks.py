"""Blocks of edges between two node layers, and the norms of kernel slices that weigh them.

A block of a plain chain is one dense matrix a group, read from a layer's weight. In a data-flow graph a layer
may be fed by several others, each by part of its weight: then a `Wiring` says which of a source's channels
meet which input positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

# Squares are formed in pieces of this many numbers: 2 MiB in float32 stay in a core's share of the cache.
_SCRATCH = 1 << 19
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

    def values(self, norms: Tensor, out: Tensor) -> None:
        """Edge weights from the slices' norms.

        Args:
            norms: [targets of the layer, in / groups], overwritten.
            out: [b, m, k], the result.
        """
        squares = norms.square_().view(-1, out.shape[1], norms.shape[1])
        if squares.shape[0] != len(self.groups):
            squares = squares[self.groups]
        # The last class collects what other layers feed, and is thrown away.
        sums = out.new_zeros(*out.shape[:2], self.count + 1)
        for level in self.classes:
            index = torch.where(level < 0, self.count, level)
            sums.scatter_add_(2, index.unsqueeze(1).expand_as(squares), squares)
        torch.gather(sums, 2, self.members.unsqueeze(1).expand(out.shape), out=out).sqrt_()


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
    """

    name: str
    read: Callable[[], Tensor]
    groups: int = 1
    transposed: bool = False
    columns: Tensor | None = None
    wiring: Wiring | None = None

    def slices(self) -> Tensor:
        """Returns the weight as [out, in / groups, kernel positions]; a view where strides allow one."""
        weight = self.read().detach()
        if self.transposed:
            weight = weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        return weight.flatten(2) if weight.dim() > 2 else weight.unsqueeze(2)


@dataclass(frozen=True)
class Block:
    """The edges from one node layer to another.

    Attributes:
        source: index of the node layer the edges come from.
        target: index of the node layer they lead to.
        values: edge weights [groups, targets / groups, sources / groups], or [b, m, k] if the weight has a
            wiring; a view of the graph's buffer, shared by blocks that read the same slices.
        weight: where the values are read from.
    """

    source: int
    target: int
    values: Tensor
    weight: LayerWeight
    _work: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def refresh(self) -> None:
        """Reads the layer's weights again, into the same memory."""
        slices = self.weight.slices()
        if self.weight.wiring is not None:
            norms = self.values.new_empty(slices.shape[:2])
            self.weight.wiring.values(slice_norms(slices, norms), self.values)
            return
        groups, targets, sources = self.values.shape
        out = self.values.view(groups * targets, sources)
        if self.weight.columns is not None:
            self._refresh_by_column(slices, out)
            return
        positions = slices.shape[1] // sources
        if positions > 1:
            slices = slices.unflatten(1, (sources, positions)).flatten(2)
        slice_norms(slices, out, self._work)

    def _refresh_by_column(self, slices: Tensor, out: Tensor) -> None:
        """The general case: input positions are scattered over the source nodes by an index."""
        norms = self._scratch("norms", slices.shape[:2], out)
        slice_norms(slices, norms, self._work)
        columns = self.weight.columns
        assert columns is not None
        # The last column collects what other layers feed, and is thrown away.
        gathered = self._scratch("gathered", (out.shape[0], out.shape[1] + 1), out).zero_()
        index = torch.where(columns < 0, out.shape[1], columns)
        gathered.index_add_(1, index, norms.square_())
        torch.sqrt(gathered[:, :-1], out=out)

    @property
    def source_places(self) -> Tensor | None:
        """The source node of each column, LongTensor[b, k]; None for all in their order."""
        return None if self.weight.wiring is None else self.weight.wiring.sources

    @property
    def target_places(self) -> Tensor | None:
        """The target node of each row, LongTensor[b, m]; None for all in their order."""
        return None if self.weight.wiring is None else self.weight.wiring.targets

    def _scratch(self, key: str, shape: Sequence[int], like: Tensor) -> Tensor:
        if key not in self._work:
            self._work[key] = like.new_empty(tuple(shape))
        return self._work[key]


def arranged(vector: Tensor, places: Tensor | None, bundles: int) -> Tensor:
    """A vector over a layer's nodes, arranged as a block's columns or rows: [bundles, k]."""
    return vector.view(bundles, -1) if places is None else vector[places]


def add_back(out: Tensor, part: Tensor, places: Tensor | None) -> None:
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
        work: keeps the scratch memory between calls, so that the second call allocates nothing.

    Returns:
        ``out``.
    """
    rows, columns, positions = slices.shape
    same = slices.dtype == out.dtype
    if positions == 1:
        return torch.abs(slices[:, :, 0], out=out) if same else out.copy_(slices[:, :, 0]).abs_()
    if out.device.type != "cpu":
        return torch.linalg.vector_norm(slices, dim=2, out=out, dtype=out.dtype)
    # torch reduces a short inner axis without vector instructions; squares in a cached buffer, summed by one
    # matrix-vector product, take a third of the time (benchmarks/signature.py).
    work = {} if work is None else work
    step = max(1, _SCRATCH // (columns * positions))
    if "squares" not in work:
        work["squares"] = out.new_empty(min(step, rows) * columns * positions)
        work["ones"] = out.new_ones(positions)
    for start in range(0, rows, step):
        piece = slices[start : start + step]
        squares = work["squares"][: piece.numel()].view(piece.shape)
        if same:
            torch.mul(piece, piece, out=squares)
        else:  # half precision would round the squares
            squares.copy_(piece).square_()
        norms = out[start : start + step].view(-1)
        squares = squares.view(-1, positions)
        if positions <= _SHORT:
            norms.addmv_(squares, work["ones"], beta=0)  # in torch 2.5 torch.mv(out=) takes new memory
        else:
            torch.sum(squares, 1, out=norms)
    return out.sqrt_()
