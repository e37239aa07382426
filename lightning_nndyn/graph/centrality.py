"""Weighted degree and eigenvector centrality (section 2.1), on the weights' device.

Of a rolled graph; of a signed part of an unrolled graph; or of a whole unrolled one, by the absolute values
of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_nndyn.errors import NonFiniteWeightsError
from lightning_nndyn.graph.blocks import add_to_nodes
from lightning_nndyn.graph.eigensolver import iterate, solver_for
from lightning_nndyn.graph.matvec import Method, adjacency_operator
from lightning_nndyn.graph.rolled import RolledGraph


@dataclass(frozen=True)
class EigenvectorCentrality:
    """Result of `eigenvector_centrality`.

    Attributes:
        vector: Tensor[V], non-negative, unit 2-norm.
        eigenvalue: the largest eigenvalue of the adjacency matrix.
        residual: ``|W v - eigenvalue v| / eigenvalue``; 0 for a graph without weight.
        iterations: number of products with W.
        converged: whether ``residual <= tol``.
    """

    vector: Tensor
    eigenvalue: float
    residual: float
    iterations: int
    converged: bool


def weighted_degree(graph: RolledGraph) -> Tensor:
    """Sum of the weights of the edges at each node (section 2.1).

    Returns:
        Tensor[V] on the graph's device, in its dtype.

    Raises:
        NonFiniteWeightsError: if a weight, or a norm of weights, is NaN or infinite.
    """
    graph = graph.absolute()
    degree = unchecked_degree(graph)
    if graph.collective is not None:
        graph.collective.raise_deferred()
    if not bool(degree.isfinite().all()):
        raise NonFiniteWeightsError(_non_finite_message(graph))
    return degree


def unchecked_degree(graph: RolledGraph) -> Tensor:
    """`weighted_degree` without the check for finite weights, which would wait for the device."""
    degree = torch.zeros(graph.num_nodes, dtype=graph.dtype, device=graph.device)
    if graph.collective is None:
        _add_degree(graph, degree)
        return degree
    graph.collective.run_guarded(partial(_add_degree, graph, degree), degree)
    return graph.collective.all_reduce(degree)


def _add_degree(graph: RolledGraph, degree: Tensor) -> None:
    layers = list(graph.layers(degree))
    for shared in graph.shared_blocks:
        block, values = shared.block, shared.block.values
        if block.is_remote:
            continue
        outgoing = values.sum(1)
        for source in shared.sources:
            add_to_nodes(layers[source], outgoing, block.source_nodes)
        incoming = values.sum(2) * len(shared.sources)
        add_to_nodes(block.own_targets(layers[block.target]), incoming, block.target_nodes)


def _non_finite_message(graph: RolledGraph) -> str:
    for block in graph.blocks:
        if not bool(block.values.isfinite().all()):
            return (
                f"layer {block.weight.name!r} holds NaN or infinite weights (or norms beyond {graph.dtype}): "
                f"the run has diverged, lower its learning rate"
            )
    return (
        f"a sum of weights leaves the range of {graph.dtype}: the run has diverged, lower its learning rate"
    )


def eigenvector_centrality(
    graph: RolledGraph,
    tol: float = 1e-6,
    max_iter: int = 1000,
    start: Tensor | None = None,
    *,
    method: Method = "auto",
) -> EigenvectorCentrality:
    """The principal eigenvector of the adjacency matrix (section 2.1).

    Differences from networkx: convergence is measured by the residual, not by the change of the vector; a
    graph that is not connected, or whose parts tie for the largest eigenvalue, has a result too.

    Args:
        graph: the graph.
        tol: bound on ``|W v - lambda v| / lambda``. Below 5e-7 the products are formed in float64, on a copy
            of the edges.
        max_iter: bound on products with W; beyond it the best vector is returned with ``converged=False``.
        start: Tensor[V], for example the previous epoch's vector: the closer, the fewer iterations. None
            starts from the degrees.
        method: ``"blocks"`` multiplies dense blocks, ``"csr"`` sparse matrices, ``"auto"`` takes the one that
            was measured to be faster.

    Returns:
        The vector with eigenvalue and residual. If the graph is not connected, the vector is zero outside the
        parts with the largest eigenvalue. Where several parts tie, it is one non-negative vector of the space
        that their eigenvectors span. In a graph without weight every vector is an eigenvector: the result is
        the uniform one with eigenvalue 0.

    Raises:
        NonFiniteWeightsError: if a weight, or a norm of weights, is NaN or infinite.
        ValueError: if ``tol`` or ``max_iter`` is not positive, or ``start`` does not fit the graph.
    """
    if not tol > 0 or max_iter < 1:
        raise ValueError(f"tol and max_iter must be positive, got tol={tol} and max_iter={max_iter}")
    graph = graph.absolute()
    degree = weighted_degree(graph)
    solver = solver_for(adjacency_operator(graph, tol, method), degree, start)
    vector, eigenvalue, residual = iterate(solver, tol, max_iter)
    vector = vector.to(torch.promote_types(vector.dtype, graph.dtype))
    converged = float(residual) <= tol
    return EigenvectorCentrality(vector, float(eigenvalue), float(residual), solver.iterations, converged)
