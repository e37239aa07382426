"""The unrolled graph: a node for every position of every feature map (section 2.3 and App. A.2 of the paper).

An edge leads from a position of a feature map to every position of the next one that a convolution, a pooling
window or a linear layer computes from it; padding adds no edges. Edges are listed only on request: counts,
degrees and eigenvectors need no list.

    graph = nd.unrolled_graph(model, images[:1])
    nd.weighted_degree(graph.negative())        # G_neg, the best of the three in the paper
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lightning_nndyn.graph.rolled import SharedBlock, csr_order, csr_tensor
from lightning_nndyn.graph.tracing.sequential import trace_chain
from lightning_nndyn.graph.unrolled_layers import EdgeMatrix, Term, UnrolledLayer

Form = Literal["parameter", "activation"]

MAX_EDGES = 50_000_000
"""Larger graphs are not listed edge by edge, unless a larger bound is passed."""

_BYTES_PER_EDGE = 32  # column and weight of 8 bytes each, twice in the symmetric matrix


class UnrolledGraph:
    """The unrolled graph of one chain of layers. It stores no edges: they are derived from the layers.

    The signed weight of an edge is the filter value ``K[f, c, i, j]`` or the entry of a linear layer's weight
    (``form="parameter"``), in the activation form multiplied by the value at the source position. The paper
    does not define the edges of a pooling window: here they weigh 1, in the activation form multiplied by the
    value. Biases, normalisations and activation functions have neither nodes nor edges.

    Args:
        layers: the layers, first to last.
        values: for the activation form, the values [sources] at each layer's input; otherwise None.

    Attributes:
        layers: layer ``i`` joins node layers ``i`` and ``i + 1``.
        layer_names: ``"input"``, then the layer that each node layer is the output of.
        layer_sizes: nodes of each node layer.
    """

    def __init__(self, layers: Sequence[UnrolledLayer], values: Sequence[Tensor] | None = None) -> None:
        self.layers = tuple(layers)
        self.layer_names = ("input", *(layer.name for layer in layers))
        self.layer_sizes = (layers[0].sources, *(layer.targets for layer in layers))
        self._values = values

    @property
    def num_nodes(self) -> int:
        """Number of nodes, |V| of the unrolled graph in Table 5."""
        return sum(self.layer_sizes)

    @property
    def num_edges(self) -> int:
        """Number of undirected edges by the paper's definition; an edge of weight zero counts."""
        return self.count_edges()

    def count_edges(self, *, padding_artefact: bool = False) -> int:
        """Number of undirected edges, counted layer by layer without unrolling them.

        Args:
            padding_artefact: whether to count as in Table 5, where each tap of a convolution out of bounds
                is joined to position (0, 0) of its channel. Only networks with padding differ.
        """
        extra = sum(layer.artefact_edges for layer in self.layers) if padding_artefact else 0
        return sum(layer.num_edges for layer in self.layers) + extra

    def positive(self) -> SignedSubgraph:
        """G_pos of App. A.2: all nodes, and the edges of positive weight."""
        return SignedSubgraph(self, 1)

    def negative(self) -> SignedSubgraph:
        """G_neg of App. A.2: all nodes, and the edges of negative weight with its absolute value.

        In the parameter form a pooling has no edges of negative weight. So G_neg is disconnected at every
        pooling, and its principal eigenvector is zero except on one component.
        """
        return SignedSubgraph(self, -1)

    def absolute(self) -> SignedSubgraph:
        """The whole graph by the absolute values of its weights, as the centralities take it."""
        return SignedSubgraph(self, 0)

    def adjacency(self, *, max_edges: int = MAX_EDGES) -> Tensor:
        """The symmetric signed adjacency matrix, torch sparse CSR [V, V], float64.

        Raises:
            ValueError: if the graph has more than ``max_edges`` edges.
        """
        _check_size(self.num_edges, max_edges)
        return _csr(self.edges(), self.num_nodes)

    def edges(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Source node, target node and signed weight of each edge, three tensors [edges] a layer."""
        offsets = pairwise(accumulate(self.layer_sizes[:-1], initial=0))
        for layer, values, (first, second) in zip(self.layers, self._scales(), offsets, strict=True):
            source, target, weight = (part.reshape(-1) for part in layer.edges())
            yield source + first, target + second, weight * values[source]

    def _scales(self) -> list[Tensor]:
        """The factor by which each source position scales the weights of its edges, float64 [sources]."""
        if self._values is not None:
            return list(self._values)
        device = self.layers[0].read().device
        return [torch.ones(layer.sources, dtype=torch.float64, device=device) for layer in self.layers]

    def matrices(self, sign: int) -> list[EdgeMatrix]:
        """The absolute weights of the edges of one sign, 1 or -1, or of all (0): one matrix per layer."""
        if self._values is None:
            return [EdgeMatrix(layer, [Term.of(layer, sign)]) for layer in self.layers]
        if not sign:
            pairs = zip(self.layers, self._values, strict=True)
            return [EdgeMatrix(layer, [Term.of(layer, 0, scale.abs())]) for layer, scale in pairs]
        matrices = []
        for layer, scale in zip(self.layers, self._values, strict=True):
            terms = [  # two negative factors make a positive weight
                Term.of(layer, sign, scale.clamp_min(0)),
                Term.of(layer, -sign, (-scale).clamp_min(0)),
            ]
            matrices.append(EdgeMatrix(layer, terms))
        return matrices

    def __repr__(self) -> str:
        chain = " -> ".join(f"{n}:{s}" for n, s in zip(self.layer_names, self.layer_sizes, strict=True))
        return f"UnrolledGraph({self.num_nodes} nodes, {self.num_edges} edges: {chain})"


class SignedBlock(NamedTuple):
    """The edges of one sign from node layer ``source`` to ``target``, and the layer they come from."""

    source: int
    target: int
    values: EdgeMatrix
    weight: UnrolledLayer
    source_nodes: Tensor | None = None
    target_nodes: Tensor | None = None
    is_remote: bool = False

    def own_targets(self, vector: Tensor) -> Tensor:
        """All of a vector over the target layer's nodes."""
        return vector


class SignedSubgraph:
    """Edges of an unrolled graph with absolute weights: of one sign, 1 or -1 (App. A.2), or all (0).

    It has a rolled graph's interface: `weighted_degree`, `eigenvector_centrality` and `SnapshotReader`
    (without ``per_layer``) accept it. Its size does not matter to them on a CPU, as they list no edges.

    Attributes:
        blocks: the edges, one block for each pair of consecutive node layers.
        shared_blocks: the same blocks, each with its source.
        layer_names, layer_sizes, num_nodes: the unrolled graph's; nodes without edges of this sign are kept.
    """

    dtype = torch.float64
    is_chain = True
    collective = None
    has_large_layers = True
    kinds: tuple[str, ...] = ()  # unknown

    def __init__(self, graph: UnrolledGraph, sign: int) -> None:
        self._graph, self._sign = graph, sign
        self.layer_names, self.layer_sizes = graph.layer_names, graph.layer_sizes
        self.num_nodes, self.depth = graph.num_nodes, len(graph.layers)
        blocks = enumerate(zip(graph.matrices(sign), graph.layers, strict=True))
        self.blocks = tuple(SignedBlock(i, i + 1, values, layer) for i, (values, layer) in blocks)
        self.shared_blocks = tuple(
            SharedBlock(block, (block.source,))  # type: ignore[arg-type]  # it has a block's interface
            for block in self.blocks
        )

    @property
    def num_edges(self) -> int:
        """Number of undirected edges of this sign when weights were last read; counted without a list."""
        return sum(block.values.count() for block in self.blocks)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.blocks[0].values.terms[0].kernel.device

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of products with a vector, unless they must be more precise: that of the weights."""
        return self.blocks[0].values.terms[0].kernel.dtype

    def layers(self, values: Tensor) -> Iterator[Tensor]:
        """Splits a vector over the nodes, Tensor[V], into its node layers (views)."""
        return iter(values.split(self.layer_sizes))

    def absolute(self) -> SignedSubgraph:
        """The graph by the absolute values of its weights: itself."""
        return self

    def refresh(self) -> SignedSubgraph:
        """Reads the current weights in place; the activation form keeps its values. Returns itself."""
        for block in self.blocks:
            block.values.refresh()
        return self

    def edge_index(self, *, max_edges: int = MAX_EDGES) -> Tensor:
        """Source and target node of each edge, LongTensor[2, E], in the order of `edge_weight`.

        Raises:
            ValueError: if there are more than ``max_edges`` edges.
        """
        return torch.cat([torch.stack(edges[:2]) for edges in self._edges(max_edges)], dim=1)

    @property
    def edge_weight(self) -> Tensor:
        """Current absolute weight of each edge, Tensor[E]; bounded like `edge_index`."""
        return torch.cat([weight for _, _, weight in self._edges(MAX_EDGES)])

    @property
    def distinct_weights(self) -> Tensor:
        """The same as `edge_weight`: no two edges share a weight."""
        return self.edge_weight

    def edge_weight_index(self) -> Tensor:
        """Index of each edge's weight in `distinct_weights`, LongTensor[E]."""
        return torch.arange(self.num_edges, device=self.device)

    def adjacency(self, *, max_edges: int = MAX_EDGES) -> Tensor:
        """The symmetric adjacency matrix of absolute weights, torch sparse CSR [V, V], float64.

        Raises:
            ValueError: if there are more than ``max_edges`` edges.
        """
        return _csr(self._edges(max_edges), self.num_nodes)

    def _edges(self, max_edges: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        _check_size(self.num_edges, max_edges)
        for source, target, weight in self._graph.edges():
            of_sign = self._sign * weight > 0 if self._sign else weight != 0
            kept = of_sign.nonzero().view(-1)
            yield source[kept], target[kept], weight[kept].abs()

    def __repr__(self) -> str:
        return f"SignedSubgraph({self.num_nodes} nodes, {self.num_edges} edges, sign {self._sign:+d})"


def unrolled_graph(model: nn.Module, example_input: Any, *, form: Form = "parameter") -> UnrolledGraph:
    """The unrolled graph of a network (section 2.3), found by a forward pass.

    The pass runs in evaluation mode without gradients and does not change the model. The graph reads the
    model's weights whenever it is asked for them; the values of the activation form are those of this pass.

    Args:
        model: a chain of 2-d convolutions, max or average poolings, flattening and linear layers. Shortcuts
            may lead past some of them; they add neither nodes nor edges, as in the rolled graph's chain.
        example_input: a batch [N, C, H, W] or [N, features], or arguments that contain one; only its shape
            matters, except in the activation form.
        form: ``"parameter"`` weighs edges by the weights alone; ``"activation"`` multiplies by the value at
            the source, for the one sample of ``example_input``.

    Returns:
        The graph, on the weights' device.

    Raises:
        TracingError: if the model has no such chain (concatenation, other layers) or rejects the input; the
            message names the layer and a remedy.
        ValueError: if ``form`` is unknown, or the activation form gets more than one sample.
    """
    if form not in ("parameter", "activation"):
        raise ValueError(f"form={form!r} is unknown: take 'parameter' or 'activation'")
    layers, values = trace_chain(model, example_input, keep_values=form == "activation")
    return UnrolledGraph(layers, values if form == "activation" else None)


def _check_size(edges: int, bound: int) -> None:
    if edges > bound:
        raise ValueError(
            f"{edges:,} edges are more than max_edges={bound:,}: as a sparse matrix they take "
            f"{edges * _BYTES_PER_EDGE / 2**30:.1f} GiB, six times that while it is built. weighted_degree "
            f"and eigenvector_centrality take positive() and negative() as they are; with enough memory pass "
            f"max_edges={edges}"
        )


def _csr(edges: Iterator[tuple[Tensor, Tensor, Tensor]], nodes: int) -> Tensor:
    """The symmetric matrix [nodes, nodes] with these edges."""
    source, target, weight = (torch.cat(parts) for parts in zip(*edges, strict=True))
    rows, columns, size = torch.cat((target, source)), torch.cat((source, target)), (nodes, nodes)
    start, columns, order = csr_order(rows, columns, size)
    return csr_tensor(start, columns, weight[order % len(weight)], size)
