"""The rolled graph: a k-partite graph of filters and neurons, weighted by norms of kernel slices.

Section 3.1 of the paper. The nodes are the input channels, every filter of a convolution and every neuron of
a fully connected layer. The edge from channel ``k`` to filter ``l`` weighs the L2 norm of ``K[l, k, ...]``,
which is ``|w|`` in a fully connected layer. Across a flatten the norm also runs over the spatial positions of
the channel.

This module works on tensors, not modules: `graph.tracing` finds out which layer feeds which.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_nndyn.errors import TracingError, renamed_arguments
from lightning_nndyn.graph.blocks import Block, LayerWeight, take_nodes
from lightning_nndyn.graph.collectives import EdgeShardGroup
from lightning_nndyn.graph.sharding import shapes_only
from lightning_nndyn.graph.slice_norms import Scratch
from lightning_nndyn.graph.statistics import segment_index

if TYPE_CHECKING:
    import networkx

Edges = tuple[Sequence[int], int]
"""The node layers that a weight leads from, and the one that it leads to."""


@dataclass(frozen=True)
class SharedBlock:
    """A block that stands for several: their sources are added up before the target reads the sum.

    Attributes:
        block: the block from the first source; the others have the same values.
        sources: the node layers that the blocks come from.
    """

    block: Block
    sources: tuple[int, ...]

    def blocks(self) -> Iterator[Block]:
        """One block for each source."""
        yield self.block
        for source in self.sources[1:]:
            yield replace(self.block, source=source)


class RolledGraph:
    """The rolled graph of one network (section 3.1): node layers joined by dense blocks of edges.

    Args:
        layer_sizes: nodes of each node layer, the input channels first.
        weights: the weights that edges are read from; in a chain ``weights[i]`` joins node layer ``i`` to
            ``i + 1``.
        left_out: parametric layers that are not in the graph, each with the reason.
        edges: for each weight the node layers that it leads from and the one that it leads to; None for a
            chain.
        layer_names: the name of each node layer; None takes ``"input"`` and the weights' names.
        kinds: kinds of layers without a weight in ``weights``: embeddings, attention without weights.
        is_chain: whether the given edges are those of a chain, in which a layer may have several weights.

    Raises:
        TracingError: if a weight's shape does not fit the node layers it joins, or weights lie on several
            devices.

    Attributes:
        blocks: the edges: in a chain one block for each pair of consecutive node layers, otherwise at least
            one for each pair of a node layer and one that feeds it.
        shared_blocks: the same blocks; those that share their values count as one.
        layer_sizes: nodes of each node layer.
        layer_names: ``"input"``, then the name of the layer that each node layer stands for; a layer that is
            called again appears as ``"name#2"``.
        is_chain: whether every node layer feeds the next one and no other.
        left_out: parametric layers that are not in the graph, each with the reason.
        collective: the processes that share the edges, where weights are sharded (FSDP); `refresh` and all
            centralities are collective operations then. None if this process holds all edges.
        kinds: the kinds of its layers, sorted, see `lightning_nndyn.graph.tracing.layer_kinds`; empty if
            unknown.
    """

    has_large_layers = False
    """Whether node layers have so many nodes that vectors are worked on layer by layer."""

    @renamed_arguments(joints="edges")
    def __init__(
        self,
        layer_sizes: Sequence[int],
        weights: Sequence[LayerWeight],
        left_out: Mapping[str, str] | None = None,
        *,
        edges: Sequence[Edges] | None = None,
        layer_names: Sequence[str] | None = None,
        kinds: Collection[str] = (),
        is_chain: bool = False,
    ) -> None:
        self.layer_sizes = tuple(int(size) for size in layer_sizes)
        self.layer_names = _unique(layer_names or ["input", *(weight.name for weight in weights)])
        self.left_out = dict(left_out or {})
        self.kinds = tuple(sorted({*kinds, *(weight.kind for weight in weights)} - {""}))
        self.is_chain = is_chain or edges is None
        if edges is None:
            edges = [((i,), i + 1) for i in range(len(self.layer_sizes) - 1)]
        with shapes_only() as sharded:
            shapes = [
                _block_shape(weight, self.layer_sizes[sources[0]], self.layer_sizes[target])
                for weight, (sources, target) in zip(weights, edges, strict=True)
            ]
            first = weights[0].read()
            _check_devices(weights, first.device)
        self._num_edges = sum(
            math.prod(shape) * len(sources) for shape, (sources, _) in zip(shapes, edges, strict=True)
        )
        self.collective = EdgeShardGroup() if sharded else None
        dtype = torch.float64 if first.dtype in (torch.float64, torch.complex128) else torch.float32
        self._buffer = torch.empty(0, dtype=dtype, device=first.device)
        self.shared_blocks = self._allocate(weights, edges, shapes)
        self.blocks = tuple(block for shared in self.shared_blocks for block in shared.blocks())
        self._csr: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        if self.collective is None:
            self.refresh()
        else:  # reading is a collective operation: leave it to the first `refresh`
            self._buffer.zero_()

    def _allocate(
        self,
        weights: Sequence[LayerWeight],
        edges: Sequence[Edges],
        shapes: Sequence[tuple[int, int, int]],
    ) -> tuple[SharedBlock, ...]:
        """Allocates the buffer and cuts it into blocks of these shapes, or this process's rows of them."""
        rows: Sequence[range | None] = [None] * len(weights)
        if self.collective is not None:
            rows = self.collective.shards(weights, shapes)
            shapes = [_cut(shape, len(local)) for shape, local in zip(shapes, rows, strict=True)]
        sizes = [math.prod(shape) for shape in shapes]
        self._buffer = self._buffer.new_empty(sum(sizes))
        scratch: Scratch = {}  # one for all blocks: they are read one after the other
        parts = zip(edges, self._buffer.split(sizes), shapes, weights, rows, strict=True)
        return tuple(
            SharedBlock(Block(sources[0], target, values.view(shape), weight, local, scratch), tuple(sources))
            for (sources, target), values, shape, weight, local in parts
        )

    @property
    def num_nodes(self) -> int:
        """Number of nodes, |V| in Table 5."""
        return sum(self.layer_sizes)

    @property
    def num_edges(self) -> int:
        """Number of undirected edges, |E| in Table 5; an edge of weight zero counts."""
        return self._num_edges

    @property
    def depth(self) -> int:
        """Number of node layers that weights lead to: all but inputs and embeddings."""
        return len({shared.block.target for shared in self.shared_blocks})

    @property
    def device(self) -> torch.device:
        """The device of the weights and of the graph."""
        return self._buffer.device

    @property
    def dtype(self) -> torch.dtype:
        """float64 if the first weight is float64 or complex128, otherwise float32."""
        return self._buffer.dtype

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of products with a vector, unless they must be more precise."""
        return self.dtype

    @property
    def node_layers(self) -> Tensor:
        """The node layer of each node, LongTensor[V] on the graph's device."""
        return segment_index(torch.tensor(self.layer_sizes, device=self.device), self.num_nodes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First node of each node layer, followed by the number of nodes."""
        return tuple(accumulate(self.layer_sizes, initial=0))

    def refresh(self, on_read: Callable[[Tensor], None] | None = None) -> RolledGraph:
        """Reads the current weights, in place and without tracing. Returns the graph itself.

        Layers are read one at a time and in pieces, with a few MiB of scratch memory for all of them.

        Args:
            on_read: is given the weight of each shared block, unless weights are sharded over processes.
        """
        if self.collective is not None:
            self.collective.check_same_graph(self.layer_names, self.layer_sizes, self.device)
        for shared in self.shared_blocks:
            self._refresh(shared.block, on_read)
        if self._csr is not None:
            _, _, values, order = self._csr
            torch.index_select(self._buffer, 0, order, out=values)
        return self

    def _refresh(self, block: Block, on_read: Callable[[Tensor], None] | None) -> None:
        if self.collective is None:
            block.refresh(on_read)
        else:  # reading is a collective operation, so it is not guarded: all processes take part or none
            slices = block.weight.slices(block.rows)
            self.collective.run_guarded(partial(block.fill, slices), block.values)

    def absolute(self) -> RolledGraph:
        """The graph by the absolute values of its weights: itself, as they are norms."""
        return self

    def edge_index(self) -> Tensor:
        """Source and target node of each edge, LongTensor[2, E], in the order of `edge_weight`.

        Raises:
            TracingError: if the edges are sharded over processes.
        """
        if self.collective is not None:
            raise TracingError(
                "the graph's edges are sharded over processes, as the weights are: it has degrees, an "
                "eigenvector and snapshots, but no list of its edges; build it from the whole model instead"
            )
        return torch.cat([self._block_index(block) for block in self.blocks], dim=1)

    @property
    def edge_weight(self) -> Tensor:
        """Weight of each edge, Tensor[E]: a view that follows `refresh` in a chain, otherwise a copy."""
        unshared = len(self.blocks) == len(self.shared_blocks)
        return self._buffer if unshared else self._buffer[self.edge_weight_index()]

    @property
    def distinct_weights(self) -> Tensor:
        """The weights of the shared blocks' edges, Tensor[<= E]: no weight twice. Follows `refresh`."""
        return self._buffer

    def edge_weight_index(self) -> Tensor:
        """Index of each edge's weight in `distinct_weights`, LongTensor[E]."""
        starts = [int(block.values.storage_offset()) for block in self.blocks]
        index = [
            start + torch.arange(block.values.numel(), device=self.device)
            for start, block in zip(starts, self.blocks, strict=True)
        ]
        return torch.cat(index)

    def _block_index(self, block: Block) -> Tensor:
        sizes, offsets = self.layer_sizes, self.offsets
        nodes = torch.arange(max(sizes), device=self.device)
        source = take_nodes(nodes[: sizes[block.source]], block.source_nodes, len(block.values))
        target = take_nodes(nodes[: sizes[block.target]], block.target_nodes, len(block.values))
        return torch.stack(
            (
                (source.unsqueeze(1) + offsets[block.source]).expand_as(block.values).reshape(-1),
                (target.unsqueeze(2) + offsets[block.target]).expand_as(block.values).reshape(-1),
            )
        )

    def adjacency(self) -> Tensor:
        """The symmetric weighted adjacency matrix W, torch sparse CSR [V, V], on the weights' device.

        The first call builds its structure; `refresh` updates its values in place.
        """
        if self._csr is None:
            source, target = self.edge_index()
            size = (self.num_nodes, self.num_nodes)
            start, columns, order = csr_order(torch.cat((target, source)), torch.cat((source, target)), size)
            order = self.edge_weight_index()[order % self.num_edges]
            self._csr = (start, columns, self._buffer[order], order)
        start, columns, values, _ = self._csr
        return csr_tensor(start, columns, values, (self.num_nodes, self.num_nodes))

    def to_networkx(self) -> networkx.Graph:
        """The graph as a networkx graph: nodes have ``layer`` and ``name``, edges have ``weight``."""
        import networkx

        graph = networkx.Graph()
        for node, layer in enumerate(self.node_layers.tolist()):
            graph.add_node(node, layer=layer, name=self.layer_names[layer])
        source, target = self.edge_index().tolist()
        graph.add_weighted_edges_from(zip(source, target, self.edge_weight.tolist(), strict=True))
        return graph

    def layers(self, values: Tensor) -> Iterator[Tensor]:
        """Splits a vector over the nodes, Tensor[V], into its node layers (views)."""
        return iter(values.split(self.layer_sizes))

    def __repr__(self) -> str:
        layers = [f"{n}:{s}" for n, s in zip(self.layer_names, self.layer_sizes, strict=True)]
        drawn = " -> ".join(layers) if self.is_chain else f"{len(self.blocks)} blocks of {', '.join(layers)}"
        return f"RolledGraph({self.num_nodes} nodes, {self.num_edges} edges: {drawn})"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names; a repeated one gets ``#2``, ``#3`` and so on."""
    counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return tuple(name if count == 1 else f"{name}#{count}" for name, count in zip(names, counts, strict=True))


def csr_order(rows: Tensor, columns: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The structure of a CSR matrix with entries at (rows, columns).

    Returns:
        Row starts [size[0] + 1], columns [E] by row, and the order [E]: which entry comes i-th.
    """
    order = torch.argsort(rows * size[1] + columns)
    start = torch.zeros(size[0] + 1, dtype=torch.long, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=size[0]), 0, out=start[1:])
    return start, columns[order], order


def csr_tensor(start: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A CSR tensor over the given memory, without torch's warning that CSR is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(start, columns, values, size, check_invariants=False)


def _check_devices(weights: Sequence[LayerWeight], device: torch.device) -> None:
    for weight in weights:
        if weight.read().device != device:
            raise TracingError(
                f"layer {weight.name!r} lies on {weight.read().device}, layer {weights[0].name!r} on "
                f"{device}: a rolled graph needs all its weights on one device"
            )


def _cut(shape: tuple[int, int, int], rows: int) -> tuple[int, int, int]:
    """The shape of a block when only ``rows`` of its rows are kept."""
    groups, targets, sources = shape
    return shape if rows == groups * targets else (1, rows, sources)


def _block_shape(weight: LayerWeight, sources: int, targets: int) -> tuple[int, int, int]:
    """Shape of a block's values, [groups, targets / groups, sources / groups]."""
    out, inputs = weight.shape
    groups = weight.groups
    if out != targets:
        raise TracingError(f"layer {weight.name!r} has {out} outputs, its node layer {targets} nodes")
    if weight.wiring is not None:
        return (*weight.wiring.targets.shape, weight.wiring.sources.shape[1])
    if (inputs * groups) % sources or sources % groups:
        raise TracingError(
            f"layer {weight.name!r} reads {inputs * groups} inputs in {groups} groups, which {sources} "
            f"source nodes cannot feed evenly"
        )
    return groups, targets // groups, sources // groups
