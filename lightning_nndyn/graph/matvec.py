"""Multiplying a vector over the nodes by a rolled graph's adjacency: dense blocks, or sparse matrices.

The adjacency is ``W = L + L'``, where L leads along the network and its transpose back. `BlockOperator` takes
one dense matrix-vector product a block and suits a CPU, or few large layers; `CsrOperator` takes one sparse
product whatever the number of layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import Block, add_to_nodes, take_nodes
from lightning_nndyn.graph.rolled import RolledGraph, csr_order, csr_tensor


class AdjacencyOperator(ABC):
    """Products with L [V, V], the edges along the network, and with its transpose.

    Args:
        graph: the graph; after its `refresh` call this object's.
        dtype: of the vectors and products.
    """

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.layer_sizes = graph.layer_sizes
        self.is_chain = graph.is_chain

    @abstractmethod
    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""

    @abstractmethod
    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]: what each node receives from the layer before."""

    @abstractmethod
    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]: what each node receives from the layer behind."""


class BlockOperator(AdjacencyOperator):
    """One dense product for all blocks that share their values."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        # The graph's own memory, unless the products want more digits than it has.
        here = [shared for shared in graph.shared_blocks if not shared.block.is_remote]
        self._shared_blocks = [(shared, shared.block.values.to(dtype)) for shared in here]
        self._collective = graph.collective

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        for shared, values in self._shared_blocks:
            if values is not shared.block.values:
                values.copy_(shared.block.values)

    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        return self._total(self._add_forward, vector)

    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        return self._total(self._add_backward, vector)

    def _total(self, add: Callable[[Tensor, Tensor], None], vector: Tensor) -> Tensor:
        """What the edges here make of the vector, and those of other processes."""
        result = torch.zeros_like(vector)
        if self._collective is None:
            add(vector, result)
            return result
        self._collective.run_guarded(partial(add, vector, result), result)
        return self._collective.all_reduce(result)

    def _add_forward(self, vector: Tensor, result: Tensor) -> None:
        given, made = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for shared, values in self._shared_blocks:
            vector = sum((given[source] for source in shared.sources[1:]), given[shared.sources[0]])
            block = shared.block
            if _is_dense(block):
                block.at_target(made[block.target]).addmv_(values[0], vector)
            else:
                part = _product(values, take_nodes(vector, block.source_nodes, len(values)))
                add_to_nodes(made[block.target], part, block.target_nodes)

    def _add_backward(self, vector: Tensor, result: Tensor) -> None:
        given, made = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for shared, values in self._shared_blocks:
            block, vector = shared.block, shared.block.at_target(given[shared.block.target])
            if len(shared.sources) == 1 and _is_dense(block):
                made[block.source].addmv_(values.transpose(1, 2)[0], vector)
                continue
            part = _product(values.transpose(1, 2), take_nodes(vector, block.target_nodes, len(values)))
            for source in shared.sources:
                add_to_nodes(made[source], part, block.source_nodes)


def _is_dense(block: Block) -> bool:
    """Whether every source node is joined to every target node."""
    return block.values.shape[0] == 1 and block.source_nodes is None


def _product(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of matrices [b, m, n] with vectors [b, n]: [b, m]."""
    return torch.bmm(matrices, vectors.unsqueeze(2)).squeeze(2)


class CsrOperator(AdjacencyOperator):
    """One sparse CSR product."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        source, target = graph.edge_index()
        self._weight = graph.distinct_weights
        place = graph.edge_weight_index()
        size = (graph.num_nodes, graph.num_nodes)
        self._along, self._along_order = self._matrix(target, source, place, size)
        self._back, self._back_order = self._matrix(source, target, place, size)

    def _matrix(
        self, rows: Tensor, columns: Tensor, place: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        start, columns, order = csr_order(rows, columns, size)
        order = place[order]
        return csr_tensor(start, columns, self._weight[order].to(self.dtype), size), order

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        self._along.values().copy_(self._weight[self._along_order])
        self._back.values().copy_(self._weight[self._back_order])

    def matvec_forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        return self._along @ vector

    def matvec_backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        return self._back @ vector
