"""Weighted degree and eigenvector centrality of a rolled graph (section 2.1), on the weights' device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_nndyn.blocks import add_back
from lightning_nndyn.errors import NonFiniteWeightsError
from lightning_nndyn.graph import RolledGraph
from lightning_nndyn.products import BlockProducts, CsrProducts, Products
from lightning_nndyn.ritz import PrincipalVector

Method = Literal["auto", "blocks", "csr"]

# Residuals below this are out of reach of float32 products: the graph is then copied to float64.
_FLOAT32_TOLERANCE = 5e-7


@dataclass(frozen=True)
class EigenvectorCentrality:
    """Result of `eigenvector_centrality`.

    Attributes:
        vector: Tensor[V], non-negative, unit 2-norm.
        eigenvalue: the largest eigenvalue of the adjacency matrix.
        residual: ``|W v - eigenvalue v| / eigenvalue``; 0 for a graph without weight.
        iterations: multiplications by W that the work amounts to.
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
    degree = degrees(graph)
    if graph.exchange is not None:
        graph.exchange.settle()
    if not bool(degree.isfinite().all()):
        raise NonFiniteWeightsError(_non_finite_message(graph))
    return degree


def degrees(graph: RolledGraph) -> Tensor:
    """`weighted_degree` without the check, and so without waiting for the device."""
    degree = torch.zeros(graph.num_nodes, dtype=graph.dtype, device=graph.device)
    if graph.exchange is None:
        _add_degrees(graph, degree)
        return degree
    graph.exchange.attempt(partial(_add_degrees, graph, degree), degree)
    return graph.exchange.total(degree)


def _add_degrees(graph: RolledGraph, degree: Tensor) -> None:
    parts = list(graph.layers(degree))
    for stream in graph.streams:
        block, values = stream.block, stream.block.values
        if block.is_elsewhere:
            continue
        for source in stream.sources:
            add_back(parts[source], values.sum(1), block.source_places)
        received = values.sum(2) * len(stream.sources)
        add_back(block.at_target(parts[block.target]), received, block.target_places)


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

    Deviations from networkx: the residual is measured, not the change of the vector; a graph whose parts are
    not connected, or tie for the largest eigenvalue, is answered too.

    Args:
        graph: the graph.
        tol: bound on ``|W v - lambda v| / lambda``. Below 5e-7 the work is done in float64, on a copy of the
            edges.
        max_iter: bound on multiplications by W; past it the best vector is returned with ``converged=False``.
        start: Tensor[V], for example the previous epoch's vector: the closer, the fewer iterations. None
            starts from the degrees.
        method: ``"blocks"`` multiplies dense blocks, ``"csr"`` sparse matrices, ``"auto"`` takes the one that
            was measured to be faster.

    Returns:
        The vector with eigenvalue and residual. If the graph is not connected, the vector is zero outside the
        parts with the largest eigenvalue; where several parts tie it is one non-negative vector of those they
        span. Without any weight every vector is an eigenvector: the uniform one, eigenvalue 0.

    Raises:
        NonFiniteWeightsError: if a weight, or a norm of weights, is NaN or infinite.
        ValueError: if ``tol`` or ``max_iter`` is not positive, or ``start`` does not fit the graph.
    """
    if not tol > 0 or max_iter < 1:
        raise ValueError(f"tol and max_iter must be positive, got tol={tol} and max_iter={max_iter}")
    degree = weighted_degree(graph)
    solver = PrincipalVector(products_for(graph, tol, method), degree, start)
    vector, eigenvalue, residual = iterate(solver, tol, max_iter)
    converged = float(residual) <= tol
    return EigenvectorCentrality(vector, float(eigenvalue), float(residual), solver.iterations, converged)


def iterate(solver: PrincipalVector, tol: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """Extends the solver until its residual is at most ``tol``; returns its last `result`."""
    while True:
        exhausted = solver.iterations >= max_iter
        if exhausted or float(solver.relative_residual()) <= tol:
            result = solver.result()
            if exhausted or float(result[2]) <= tol:
                return result
        solver.extend(1)


def products_for(graph: RolledGraph, tol: float, method: Method = "auto") -> Products:
    """The way to multiply by the graph's adjacency that suits its device and the tolerance."""
    dtype = torch.float64 if tol < _FLOAT32_TOLERANCE else graph.dtype
    if method == "auto":
        # On the CPU torch's CSR product is slower than dense blocks on every network measured
        # (benchmarks/signature.py). On a GPU launching kernels dominates, unless blocks are large: one kernel
        # a step against one a block.
        launches_dominate = len(graph.blocks) > 8 and graph.num_edges < 50_000_000
        whole = graph.exchange is None
        method = "csr" if whole and graph.device.type == "cuda" and launches_dominate else "blocks"
    return CsrProducts(graph, dtype) if method == "csr" else BlockProducts(graph, dtype)
