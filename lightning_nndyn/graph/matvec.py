"""Products of a vector over the nodes with a graph's adjacency matrix, as dense blocks or as a sparse matrix.

The adjacency is ``W = L + L'``: L holds the edges in the network's direction, its transpose the same edges in
the other direction. `BlockOperator` takes one dense product per block and suits a CPU, or few large layers.
`CsrOperator` takes one sparse product, whatever the number of layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import Block, add_to_nodes, take_nodes
from lightning_nndyn.graph.rolled import RolledGraph, csr_order, csr_tensor
from lightning_nndyn.graph.statistics import Segments

Method = Literal["auto", "blocks", "csr"]

# Float32 products cannot reach residuals below this: the graph is then copied to float64.
_FLOAT32_TOLERANCE = 5e-7

# In so many layers without a shortcut a search that does not tell them apart takes hundreds of products.
_MANY_LAYERS = 64


class AdjacencyOperator(ABC):
    """Products with L [V, V], the edges in the network's direction, and with its transpose.

    Args:
        graph: the graph; after its `refresh` call this object's.
        dtype: dtype of the vectors and products.

    Attributes:
        is_chain: whether the search may take the graph for a chain.
        pieces: what the search cuts vectors into: the layers of a chain, or nothing.
        has_large_layers: whether it works on them layer by layer, see `LayerwiseSolver`.
    """

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.layer_sizes = graph.layer_sizes
        self.has_large_layers = graph.has_large_layers
        in_line = all(block.target == block.source + 1 for block in graph.blocks)
        self.is_chain = graph.is_chain or (in_line and len(self.layer_sizes) > _MANY_LAYERS)
        self.pieces = Segments(self.layer_sizes if self.is_chain else (graph.num_nodes,), graph.device)

    @abstractmethod
    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""

    @abstractmethod
    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]: what each node receives from the layers that feed it."""

    @abstractmethod
    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]: what each node receives from the layers that it feeds."""


class BlockOperator(AdjacencyOperator):
    """One dense product for all blocks that share their values."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        local = [shared for shared in graph.shared_blocks if not shared.block.is_remote]
        # `to` copies only if the products need a higher precision than the graph has.
        self._shared_blocks = [(shared, shared.block.values.to(dtype)) for shared in local]
        self._collective = graph.collective

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        for shared, values in self._shared_blocks:
            if values is not shared.block.values:
                values.copy_(shared.block.values)

    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        return self._reduced(self._add_forward, vector)

    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        return self._reduced(self._add_backward, vector)

    def _reduced(self, add_product: Callable[[Tensor, Tensor], None], vector: Tensor) -> Tensor:
        """The product over the edges of all processes."""
        result = torch.zeros_like(vector)
        if self._collective is None:
            add_product(vector, result)
            return result
        self._collective.run_guarded(partial(add_product, vector, result), result)
        return self._collective.all_reduce(result)

    def _add_forward(self, vector: Tensor, result: Tensor) -> None:
        inputs, outputs = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for shared, values in self._shared_blocks:
            summed = sum((inputs[source] for source in shared.sources[1:]), inputs[shared.sources[0]])
            block = shared.block
            if _is_dense(block):
                block.own_targets(outputs[block.target]).addmv_(values[0], summed)
            else:
                part = _batched_matvec(values, take_nodes(summed, block.source_nodes, len(values)))
                add_to_nodes(outputs[block.target], part, block.target_nodes)

    def _add_backward(self, vector: Tensor, result: Tensor) -> None:
        inputs, outputs = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for shared, values in self._shared_blocks:
            block, transposed = shared.block, values.transpose(1, 2)
            received = block.own_targets(inputs[block.target])
            if len(shared.sources) == 1 and _is_dense(block):
                outputs[block.source].addmv_(transposed[0], received)
                continue
            part = _batched_matvec(transposed, take_nodes(received, block.target_nodes, len(values)))
            for source in shared.sources:
                add_to_nodes(outputs[source], part, block.source_nodes)


def _is_dense(block: Block) -> bool:
    """Whether every source node is joined to every target node."""
    return block.values.shape[0] == 1 and block.source_nodes is None


def _batched_matvec(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of matrices [b, m, n] with vectors [b, n]: [b, m]."""
    return torch.bmm(matrices, vectors.unsqueeze(2)).squeeze(2)


class CsrOperator(AdjacencyOperator):
    """One sparse CSR product."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        source, target = graph.edge_index()
        self._weight = graph.distinct_weights
        index, size = graph.edge_weight_index(), (graph.num_nodes, graph.num_nodes)
        self._forward, self._forward_order = self._matrix(target, source, index, size)
        self._backward, self._backward_order = self._matrix(source, target, index, size)

    def _matrix(
        self, rows: Tensor, columns: Tensor, index: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """A CSR matrix, and the index into the distinct weights of each of its entries."""
        start, columns, order = csr_order(rows, columns, size)
        order = index[order]
        return csr_tensor(start, columns, self._weight[order].to(self.dtype), size), order

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        self._forward.values().copy_(self._weight[self._forward_order])
        self._backward.values().copy_(self._weight[self._backward_order])

    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        return self._forward @ vector

    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        return self._backward @ vector


def adjacency_operator(graph: RolledGraph, tol: float, method: Method = "auto") -> AdjacencyOperator:
    """The operator that suits the graph's device and the tolerance of the eigenvector.

    Args:
        graph: the graph.
        tol: bound on the residual; very small ones need float64 products.
        method: ``"blocks"``, ``"csr"``, or ``"auto"`` for the one that was measured to be faster.
    """
    dtype = torch.float64 if tol < _FLOAT32_TOLERANCE else graph.product_dtype
    if method == "auto":
        # On a CPU torch's CSR product is slower than dense blocks on every network measured
        # (benchmarks/signature.py). On a GPU the number of kernel launches dominates unless blocks are large:
        # one per product against one per block. CSR keeps 40 bytes an edge, memory that training a large
        # network may need.
        launches_dominate = len(graph.blocks) > 8 and graph.num_edges < 1_000_000
        # The structure must be fixed and local: the edges of a signed subgraph change with its weights.
        fixed = graph.collective is None and isinstance(graph, RolledGraph)
        method = "csr" if fixed and graph.device.type == "cuda" and launches_dominate else "blocks"
    return CsrOperator(graph, dtype) if method == "csr" else BlockOperator(graph, dtype)
