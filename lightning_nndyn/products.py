"""Multiplying a vector by a rolled graph's adjacency: dense blocks, or sparse matrices.

Both split the nodes into even and odd layers. `BlockProducts` takes two matrix-vector products a block and suits a
CPU, or few large layers; `CsrProducts` takes one sparse product a step whatever the number of layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_nndyn.graph import Block, RolledGraph, csr_order, csr_tensor


class Products(ABC):
    """Products with the biadjacency matrix C [odd nodes, even nodes] of a graph, and with its transpose.

    Args:
        graph: the graph; after its `refresh` call this object's.
        dtype: of the vectors and products.
    """

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._sizes = graph.layer_sizes
        self.num_even = sum(self._sizes[0::2])
        self.num_odd = sum(self._sizes[1::2])

    def even(self, vector: Tensor) -> Tensor:
        """The entries [even nodes] of a vector over all nodes."""
        return torch.cat(vector.to(self.dtype).split(self._sizes)[0::2])

    def join(self, even: Tensor, odd: Tensor) -> Tensor:
        """A vector over all nodes, Tensor[V], from its two classes."""
        parts: list[Tensor] = [even] * len(self._sizes)
        parts[0::2] = even.split(self._sizes[0::2])
        parts[1::2] = odd.split(self._sizes[1::2])
        return torch.cat(parts)

    def multiply(self, vector: Tensor) -> Tensor:
        """``W @ vector``, Tensor[V]."""
        odd = torch.cat(vector.split(self._sizes)[1::2])
        return self.join(self.to_even(odd), self.to_odd(self.even(vector)))

    @abstractmethod
    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""

    @abstractmethod
    def to_odd(self, even: Tensor) -> Tensor:
        """``C @ even``, Tensor[odd nodes], in new memory."""

    @abstractmethod
    def to_even(self, odd: Tensor) -> Tensor:
        """``C.T @ odd``, Tensor[even nodes], in new memory."""


class BlockProducts(Products):
    """Two dense products a block."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        # The graph's own memory, unless the products want more digits than it has.
        self._blocks = [(block, block.values.to(dtype)) for block in graph.blocks]

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        for block, values in self._blocks:
            if values is not block.values:
                values.copy_(block.values)

    def to_odd(self, even: Tensor) -> Tensor:
        """``C @ even``, Tensor[odd nodes]."""
        return self._across(even, self._sizes[0::2], self._sizes[1::2], from_odd=False)

    def to_even(self, odd: Tensor) -> Tensor:
        """``C.T @ odd``, Tensor[even nodes]."""
        return self._across(odd, self._sizes[1::2], self._sizes[0::2], from_odd=True)

    def _across(
        self, vector: Tensor, sizes: tuple[int, ...], target_sizes: tuple[int, ...], *, from_odd: bool
    ) -> Tensor:
        result = vector.new_zeros(sum(target_sizes))
        given, made = vector.split(sizes), result.split(target_sizes)
        for block, values in self._blocks:
            forward = block.source % 2 == from_odd
            near, far = (block.source, block.target) if forward else (block.target, block.source)
            _add_product(made[far // 2], values, given[near // 2], forward=forward, block=block)
        return result


def _add_product(out: Tensor, values: Tensor, vector: Tensor, *, forward: bool, block: Block) -> None:
    """Adds a block's product with a vector to ``out``, in place."""
    groups = values.shape[0]
    if groups == 1:
        matrix = values[0] if forward else values[0].T
        out.addmv_(matrix, vector)
        return
    matrix = values if forward else values.transpose(1, 2)
    out += torch.bmm(matrix, vector.view(groups, -1, 1)).view(-1)


class CsrProducts(Products):
    """One sparse CSR product a step."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        rank = self._rank_in_class(graph)
        source, target = graph.edge_index()
        source_is_odd = graph.node_layers[source] % 2 == 1
        odd = rank[torch.where(source_is_odd, source, target)]
        even = rank[torch.where(source_is_odd, target, source)]
        self._weight = graph.edge_weight
        self._forward, self._forward_order = self._matrix(odd, even, (self.num_odd, self.num_even))
        self._backward, self._backward_order = self._matrix(even, odd, (self.num_even, self.num_odd))

    def _rank_in_class(self, graph: RolledGraph) -> Tensor:
        """The place of each node among those of its parity, LongTensor[V]."""
        ranks = torch.arange(self.num_even, device=graph.device), torch.arange(self.num_odd, device=graph.device)
        return self.join(*ranks)

    def _matrix(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        start, columns, order = csr_order(rows, columns, size)
        return csr_tensor(start, columns, self._weight[order].to(self.dtype), size), order

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        self._forward.values().copy_(self._weight[self._forward_order])
        self._backward.values().copy_(self._weight[self._backward_order])

    def to_odd(self, even: Tensor) -> Tensor:
        """``C @ even``, Tensor[odd nodes]."""
        return self._forward @ even

    def to_even(self, odd: Tensor) -> Tensor:
        """``C.T @ odd``, Tensor[even nodes]."""
        return self._backward @ odd
