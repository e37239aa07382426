"""Multiplying a vector over the nodes by a rolled graph's adjacency: dense blocks, or sparse matrices.

The adjacency is ``W = L + L'``, where L leads along the network and its transpose back. `BlockProducts` takes
one dense matrix-vector product a block and suits a CPU, or few large layers; `CsrProducts` takes one sparse
product whatever the number of layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_nndyn.graph import RolledGraph, csr_order, csr_tensor


class Products(ABC):
    """Products with L [V, V], the edges along the network, and with its transpose.

    Args:
        graph: the graph; after its `refresh` call this object's.
        dtype: of the vectors and products.
    """

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.layer_sizes = graph.layer_sizes

    @abstractmethod
    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""

    @abstractmethod
    def forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]: what each node receives from the layer before."""

    @abstractmethod
    def backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]: what each node receives from the layer behind."""


class BlockProducts(Products):
    """One dense product a block."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        # The graph's own memory, unless the products want more digits than it has.
        self._blocks = [(block, block.values.to(dtype)) for block in graph.blocks]

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        for block, values in self._blocks:
            if values is not block.values:
                values.copy_(block.values)

    def forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        result = torch.zeros_like(vector)
        given, made = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for block, values in self._blocks:
            _add_product(made[block.target], values, given[block.source])
        return result

    def backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        result = torch.zeros_like(vector)
        given, made = vector.split(self.layer_sizes), result.split(self.layer_sizes)
        for block, values in self._blocks:
            _add_product(made[block.source], values.transpose(1, 2), given[block.target])
        return result


def _add_product(out: Tensor, matrices: Tensor, vector: Tensor) -> None:
    """Adds the product of [groups, m, n] matrices with a vector [groups * n] to ``out``, in place."""
    groups = matrices.shape[0]
    if groups == 1:
        out.addmv_(matrices[0], vector)
    else:
        out += torch.bmm(matrices, vector.view(groups, -1, 1)).view(-1)


class CsrProducts(Products):
    """One sparse CSR product."""

    def __init__(self, graph: RolledGraph, dtype: torch.dtype) -> None:
        super().__init__(graph, dtype)
        source, target = graph.edge_index()
        self._weight = graph.edge_weight
        size = (graph.num_nodes, graph.num_nodes)
        self._along, self._along_order = self._matrix(target, source, size)
        self._back, self._back_order = self._matrix(source, target, size)

    def _matrix(self, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        start, columns, order = csr_order(rows, columns, size)
        return csr_tensor(start, columns, self._weight[order].to(self.dtype), size), order

    def refresh(self) -> None:
        """Follows the graph's `refresh`, in place."""
        self._along.values().copy_(self._weight[self._along_order])
        self._back.values().copy_(self._weight[self._back_order])

    def forward(self, vector: Tensor) -> Tensor:
        """``L @ vector``, Tensor[V]."""
        return self._along @ vector

    def backward(self, vector: Tensor) -> Tensor:
        """``L.T @ vector``, Tensor[V]."""
        return self._back @ vector
