"""The rolled graph: a k-partite graph of filters and neurons, weighted by norms of kernel slices.

Section 3.1 of the paper. The nodes are the input channels, every filter of a convolution and every neuron of
a fully connected layer; the edge from channel ``k`` to filter ``l`` weighs the L2 norm of ``K[l, k, ...]``,
which is ``|w|`` in a fully connected layer. Across a flatten the norm runs over the spatial positions of a
channel as well.

This module takes tensors, not modules: `lightning_nndyn.tracing` finds out which layer feeds which.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_nndyn.errors import TracingError

if TYPE_CHECKING:
    import networkx

# Squares are formed in pieces of this many numbers: 2 MiB in float32 stay in a core's share of the cache.
_SCRATCH = 1 << 19
# Up to this length a matrix-vector product sums as exactly as torch's pairwise sum, and faster.
_SHORT = 128


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
    """

    name: str
    read: Callable[[], Tensor]
    groups: int = 1
    transposed: bool = False
    columns: Tensor | None = None

    def slices(self) -> Tensor:
        """Returns the weight as [out, in / groups, kernel positions]; a view where strides allow one."""
        weight = self.read().detach()
        if self.transposed:
            weight = weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        return weight.flatten(2) if weight.dim() > 2 else weight.unsqueeze(2)


@dataclass(frozen=True)
class Block:
    """The edges between two consecutive node layers.

    Attributes:
        source: index of the node layer the edges come from.
        target: index of the node layer they lead to.
        values: edge weights [groups, targets / groups, sources / groups], a view of the graph's buffer.
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

    def _scratch(self, key: str, shape: Sequence[int], like: Tensor) -> Tensor:
        if key not in self._work:
            self._work[key] = like.new_empty(tuple(shape))
        return self._work[key]


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


class RolledGraph:
    """The rolled graph of one network (section 3.1), a chain of node layers joined by dense blocks of edges.

    Args:
        layer_sizes: nodes of each node layer, the input channels first.
        weights: for each block but the input, where its edges are read from; ``weights[i]`` joins node layer
            ``i`` to ``i + 1``.
        left_out: parametric layers that are not in the graph, with the reason.

    Raises:
        TracingError: if a weight's shape does not fit the node layers it joins, or weights lie on several
            devices.

    Attributes:
        blocks: the edges, one block for each pair of consecutive node layers.
        layer_sizes: nodes of each node layer.
        layer_names: ``"input"``, then the name of the layer that each node layer stands for; a layer that is
            called again appears as ``"name#2"``.
        left_out: parametric layers that are not in the graph, with the reason.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        weights: Sequence[LayerWeight],
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.layer_sizes = tuple(int(size) for size in layer_sizes)
        self.layer_names = _unique(["input", *(weight.name for weight in weights)])
        self.left_out = dict(left_out or {})
        shapes = [
            _block_shape(weight, sources, targets)
            for weight, (sources, targets) in zip(weights, pairwise(self.layer_sizes), strict=True)
        ]
        first = weights[0].read()
        for weight in weights:
            if weight.read().device != first.device:
                raise TracingError(
                    f"layer {weight.name!r} lies on {weight.read().device}, layer {weights[0].name!r} on "
                    f"{first.device}: a rolled graph needs all its weights on one device"
                )
        dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
        self._buffer = torch.empty(sum(map(_numel, shapes)), dtype=dtype, device=first.device)
        pieces = self._buffer.split([_numel(shape) for shape in shapes])
        self.blocks = tuple(
            Block(i, i + 1, piece.view(shape), weight)
            for i, (piece, shape, weight) in enumerate(zip(pieces, shapes, weights, strict=True))
        )
        self._csr: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.refresh()

    @property
    def num_nodes(self) -> int:
        """Number of nodes, |V| in Table 5."""
        return sum(self.layer_sizes)

    @property
    def num_edges(self) -> int:
        """Number of undirected edges, |E| in Table 5; an edge of weight zero counts."""
        return self._buffer.numel()

    @property
    def device(self) -> torch.device:
        """Where the weights and the graph lie."""
        return self._buffer.device

    @property
    def dtype(self) -> torch.dtype:
        """float64 if the first weight is float64, otherwise float32."""
        return self._buffer.dtype

    @property
    def node_layers(self) -> Tensor:
        """The node layer of each node, LongTensor[V] on the graph's device."""
        sizes = torch.tensor(self.layer_sizes, device=self.device)
        return torch.arange(len(self.layer_sizes), device=self.device).repeat_interleave(sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First node of each node layer, and the number of nodes at the end."""
        offsets = [0]
        for size in self.layer_sizes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)

    def refresh(self) -> RolledGraph:
        """Reads the weights again, in place: no tracing, no new memory. Returns the graph itself."""
        for block in self.blocks:
            block.refresh()
        if self._csr is not None:
            _, _, values, order = self._csr
            torch.index_select(self._buffer, 0, order, out=values)
        return self

    def edge_index(self) -> Tensor:
        """Source and target node of each edge, LongTensor[2, E], in the order of `edge_weight`."""
        return torch.cat([self._block_index(block) for block in self.blocks], dim=1)

    @property
    def edge_weight(self) -> Tensor:
        """Weight of each edge, Tensor[E]; changes with `refresh`."""
        return self._buffer

    def _block_index(self, block: Block) -> Tensor:
        groups, targets, sources = block.values.shape
        source = torch.arange(groups * sources, device=self.device) + self.offsets[block.source]
        target = torch.arange(groups * targets, device=self.device) + self.offsets[block.target]
        return torch.stack(
            (
                source.view(groups, 1, sources).expand_as(block.values).reshape(-1),
                target.view(groups, targets, 1).expand_as(block.values).reshape(-1),
            )
        )

    def adjacency(self) -> Tensor:
        """The symmetric weighted adjacency matrix W, torch sparse CSR [V, V], on the weights' device.

        Its structure is built on the first call and kept; `refresh` renews its values in place.
        """
        if self._csr is None:
            source, target = self.edge_index()
            size = (self.num_nodes, self.num_nodes)
            start, columns, order = csr_order(torch.cat((target, source)), torch.cat((source, target)), size)
            order %= self.num_edges
            self._csr = (start, columns, self._buffer[order], order)
        start, columns, values, _ = self._csr
        return csr_tensor(start, columns, values, (self.num_nodes, self.num_nodes))

    def to_networkx(self) -> networkx.Graph:
        """The same graph for networkx: nodes carry ``layer`` and ``name``, edges carry ``weight``."""
        import networkx

        graph = networkx.Graph()
        for node, layer in enumerate(self.node_layers.tolist()):
            graph.add_node(node, layer=layer, name=self.layer_names[layer])
        source, target = self.edge_index().tolist()
        graph.add_weighted_edges_from(zip(source, target, self._buffer.tolist(), strict=True))
        return graph

    def layers(self, values: Tensor) -> Iterator[Tensor]:
        """Splits a vector over the nodes, Tensor[V], into its node layers (views)."""
        return iter(values.split(self.layer_sizes))

    def __repr__(self) -> str:
        chain = " -> ".join(f"{n}:{s}" for n, s in zip(self.layer_names, self.layer_sizes, strict=True))
        return f"RolledGraph({self.num_nodes} nodes, {self.num_edges} edges: {chain})"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with ``#2``, ``#3`` behind those that came before."""
    counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return tuple(name if count == 1 else f"{name}#{count}" for name, count in zip(names, counts, strict=True))


def csr_order(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The structure of a CSR matrix with entries at (rows, columns).

    Returns:
        Row starts [size[0] + 1], columns [E] by row, and the entry that stands at each place [E].
    """
    order = torch.argsort(rows * size[1] + columns)
    start = torch.zeros(size[0] + 1, dtype=torch.long, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=size[0]), 0, out=start[1:])
    return start, columns[order], order


def csr_tensor(start: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A CSR tensor over the given memory, without torch's notice that CSR is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(start, columns, values, size, check_invariants=False)


def _numel(shape: Sequence[int]) -> int:
    return shape[0] * shape[1] * shape[2]


def _block_shape(weight: LayerWeight, sources: int, targets: int) -> tuple[int, int, int]:
    """Shape of a block's values, [groups, targets / groups, sources / groups]."""
    out, inputs, _ = weight.slices().shape
    groups = weight.groups
    if out != targets:
        raise TracingError(f"layer {weight.name!r} has {out} outputs, its node layer {targets} nodes")
    if weight.columns is not None:
        if groups != 1 or weight.columns.shape != (inputs,):
            raise TracingError(
                f"layer {weight.name!r}: columns must have one entry for each of its {inputs} inputs and "
                f"groups must be 1, got {tuple(weight.columns.shape)} and groups={groups}"
            )
        return 1, targets, sources
    if (inputs * groups) % sources or sources % groups:
        raise TracingError(
            f"layer {weight.name!r} reads {inputs * groups} inputs in {groups} groups, which {sources} "
            f"source nodes cannot feed evenly"
        )
    return groups, targets // groups, sources // groups
