"""Blocks of edges between two node layers, with weights read from a layer's weight (section 3.1).

The simplest block is one dense matrix per group of a layer's weight. Where a layer reads several others, each
through part of its weight, a `Wiring` says which channels of a source meet which input positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from lightning_nndyn.graph.sharding import local_rows
from lightning_nndyn.graph.slice_norms import Scratch, pieces, scratch_tensor, slice_norms


@dataclass(frozen=True)
class Wiring:
    """Which channels of a source layer meet which input positions of a target layer.

    The block consists of ``b`` complete bipartite graphs ("bundles"), each of ``k`` source channels and ``m``
    target nodes. Source channels that meet the same input positions form a class: their edges weigh the same.

    Attributes:
        sources: LongTensor[b, k], the source channel of each column of the block's values.
        targets: LongTensor[b, m], the target node of each row.
        groups: LongTensor[b], the group of the weight that each bundle belongs to.
        classes: LongTensor[p, b, in / groups], the classes that meet each input position of the group, padded
            with -1; ``p`` is the largest number of classes that meet one position.
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
        """The same wiring on another device."""
        moved = {name: getattr(self, name).to(device) for name in self._TENSORS}
        return replace(self, **moved)

    def values(self, norms: Tensor, bundles: slice, out: Tensor) -> None:
        """Edge weights from the norms of kernel slices, for some rows of some bundles.

        Args:
            norms: [bundles, rows, in / groups], overwritten.
            bundles: the bundles.
            out: [bundles, rows, k], the result.
        """
        # An extra class at the end collects the positions that other layers feed. It is dropped.
        sums = out.new_zeros(*norms.shape[:2], self.count + 1)
        squares = norms.square_()
        for level in self.classes[:, bundles]:
            index = torch.where(level < 0, self.count, level)
            sums.scatter_add_(2, index.unsqueeze(1).expand_as(squares), squares)
        members = self.members[bundles].unsqueeze(1).expand(out.shape)
        torch.gather(sums, 2, members, out=out).sqrt_()


@dataclass(frozen=True)
class LayerWeight:
    """A layer's weight, from which a block of edges is read.

    Attributes:
        name: the layer's name, for messages and plots.
        read: returns the current weight: [out, in / groups, *kernel], or [in, out / groups, *kernel] if
            ``transposed``.
        groups: the number of groups of a grouped convolution.
        transposed: whether the input axis comes first (transposed convolutions, ``x @ w``).
        wiring: which source channels meet which input positions; None if position ``j`` belongs to source
            node ``j // (in / sources)``, as after a flatten.
        kind: the layer's kind, see `lightning_nndyn.graph.tracing.layer_kinds`; empty if unknown.
        parameter: the name of the weight's parameter; of one that is computed, the name that it has in its
            module.
    """

    name: str
    read: Callable[[], Tensor]
    groups: int = 1
    transposed: bool = False
    wiring: Wiring | None = None
    kind: str = ""
    parameter: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of outputs, and number of input positions of each group."""
        first, second = self.read().shape[:2]
        return (second * self.groups, first // self.groups) if self.transposed else (first, second)

    def slices(self, rows: range | None = None) -> Tensor:
        """Returns the weight as [groups, out / groups, in / groups, kernel positions], a view.

        Each position of a complex weight is two, real and imaginary part: norms are those of the moduli.

        Args:
            rows: the outputs to return; all or none if there are several groups. None for all.
        """
        if rows is not None and not self.transposed:
            weight = local_rows(self.read, rows)
            if weight is not None:
                return self.by_group(weight.detach())
        slices = self.by_group(self.read().detach())
        return slices if rows is None else slices[:, rows.start : rows.stop]

    def by_group(self, weight: Tensor) -> Tensor:
        """The whole weight, or whole rows of it, as `slices` returns them."""
        if weight.is_complex():
            weight = torch.view_as_real(weight.resolve_conj())
        by_group = weight.unflatten(0, (self.groups, len(weight) // self.groups))
        if self.transposed:
            by_group = by_group.transpose(1, 2)
        return by_group.flatten(3) if by_group.dim() > 3 else by_group.unsqueeze(3)


@dataclass(frozen=True)
class Block:
    """The edges from one node layer to another.

    Attributes:
        source: index of the node layer that the edges come from.
        target: index of the node layer that they lead to.
        values: edge weights [groups, targets / groups, sources / groups], or [b, m, k] if the weight has a
            wiring; a view of the graph's buffer, shared by blocks that read the same slices.
        weight: the layer's weight, from which the values are read.
        rows: this process's share of the target nodes, where the block is sharded; empty if it has none. None
            for all target nodes.
    """

    source: int
    target: int
    values: Tensor
    weight: LayerWeight
    rows: range | None = None
    _scratch: Scratch = field(default_factory=dict, repr=False)

    def refresh(self, on_read: Callable[[Tensor], None] | None = None) -> None:
        """Reads the layer's current weight into the same memory.

        Args:
            on_read: is given the whole weight, which may have been computed or copied to the CPU for us.
        """
        if on_read is None:
            self.fill(self.weight.slices(self.rows))
            return
        weight = self.weight.read().detach()
        on_read(weight)
        self.fill(self.weight.by_group(weight))

    def fill(self, slices: Tensor) -> None:
        """Computes the values from the slices of the block's rows, [groups, rows, in / groups, positions]."""
        if self.is_remote:
            return
        if self.weight.wiring is not None:
            self._fill_by_wiring(self.weight.wiring, slices)
        else:
            self._fill_evenly(slices)

    def _fill_evenly(self, slices: Tensor) -> None:
        """Each source node owns equally many consecutive input positions."""
        groups, targets, sources = self.values.shape
        out = self.values.view(-1, sources)
        try:
            slice_norms(slices.view(*out.shape, -1), out, self._scratch)
            return
        except RuntimeError:  # the strides allow no view: copy it piece by piece
            pass
        for group, rows in pieces(groups, targets, slices[0, 0].numel(), slices.device):
            part = self.values[group, rows].view(-1, sources)
            slice_norms(slices[group, rows].reshape(*part.shape, -1), part, self._scratch)

    def _fill_by_wiring(self, wiring: Wiring, slices: Tensor) -> None:
        """Each source node owns the positions of its class."""
        bundles, targets, _ = self.values.shape
        one_to_one = len(slices) == bundles  # then bundle i is group i
        for group, rows in pieces(bundles, targets, slices[0, 0].numel(), slices.device):
            groups = wiring.groups[group]
            part = slices[group, rows] if one_to_one else slices[:, rows].index_select(0, groups)
            norms = scratch_tensor(self._scratch, "norms", part.shape[:3], self.values)
            slice_norms(part.flatten(0, 1), norms.view(-1, part.shape[2]), self._scratch)
            wiring.values(norms, group, self.values[group, rows])

    @property
    def is_remote(self) -> bool:
        """Whether all of its edges are on other processes."""
        return self.rows is not None and not self.rows

    def own_targets(self, vector: Tensor) -> Tensor:
        """The entries of a vector over the target layer's nodes that belong to the block's rows, a view."""
        return vector if self.rows is None else vector[self.rows.start : self.rows.stop]

    @property
    def source_nodes(self) -> Tensor | None:
        """The source node of each column, LongTensor[b, k]; None if they are all nodes in order."""
        return None if self.weight.wiring is None else self.weight.wiring.sources

    @property
    def target_nodes(self) -> Tensor | None:
        """The target node of each row, LongTensor[b, m]; None if they are all nodes in order."""
        return None if self.weight.wiring is None else self.weight.wiring.targets


def take_nodes(vector: Tensor, nodes: Tensor | None, bundles: int) -> Tensor:
    """The entries of a vector over a layer's nodes, arranged as a block's columns or rows.

    Args:
        vector: [nodes of the layer].
        nodes: `Block.source_nodes` or `Block.target_nodes`.
        bundles: the number of bundles ``b``.

    Returns:
        Tensor[b, k].
    """
    return vector.view(bundles, -1) if nodes is None else vector[nodes]


def add_to_nodes(out: Tensor, part: Tensor, nodes: Tensor | None) -> None:
    """The reverse of `take_nodes`: adds ``part`` [b, k] to a vector over a layer's nodes, in place."""
    if nodes is None:
        out += part.reshape(-1)
    else:
        out.index_add_(0, nodes.reshape(-1), part.reshape(-1))
