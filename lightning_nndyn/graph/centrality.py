"""Weighted degree and eigenvector centrality of a rolled graph (section 2.1), on the weights' device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_nndyn.errors import NonFiniteWeightsError
from lightning_nndyn.graph.blocks import add_to_nodes
from lightning_nndyn.graph.eigensolver import RayleighRitzSolver
from lightning_nndyn.graph.matvec import AdjacencyOperator, BlockOperator, CsrOperator
from lightning_nndyn.graph.rolled import RolledGraph

Method = Literal["auto", "blocks", "csr"]

# Residuals below this are out of reach of float32 products: the graph is then copied to float64.
_FLOAT32_TOLERANCE = 5e-7
# A residual of at most so many rounding errors that has not fallen in so many iterations falls no more.
_NEAR_ROUNDING = 128
_PATIENCE = 12
# One of at most so many ends the search at once when the subspace has no direction left.
_AT_ROUNDING = 32


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
    if graph.collective is not None:
        graph.collective.raise_deferred()
    if not bool(degree.isfinite().all()):
        raise NonFiniteWeightsError(_non_finite_message(graph))
    return degree


def degrees(graph: RolledGraph) -> Tensor:
    """`weighted_degree` without the check, and so without waiting for the device."""
    degree = torch.zeros(graph.num_nodes, dtype=graph.dtype, device=graph.device)
    if graph.collective is None:
        _add_degrees(graph, degree)
        return degree
    graph.collective.run_guarded(partial(_add_degrees, graph, degree), degree)
    return graph.collective.all_reduce(degree)


def _add_degrees(graph: RolledGraph, degree: Tensor) -> None:
    parts = list(graph.layers(degree))
    for shared in graph.shared_blocks:
        block, values = shared.block, shared.block.values
        if block.is_remote:
            continue
        given = values.sum(1)
        for source in shared.sources:
            add_to_nodes(parts[source], given, block.source_nodes)
        received = values.sum(2) * len(shared.sources)
        add_to_nodes(block.at_target(parts[block.target]), received, block.target_nodes)


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
    solver = RayleighRitzSolver(adjacency_operator(graph, tol, method), degree, start)
    vector, eigenvalue, residual = iterate(solver, tol, max_iter)
    converged = float(residual) <= tol
    return EigenvectorCentrality(vector, float(eigenvalue), float(residual), solver.iterations, converged)


def iterate(solver: RayleighRitzSolver, tol: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """Extends the solver until its residual is at most ``tol`` or falls no more; returns its `result`."""
    rounding = StagnationTest(solver.dtype)
    while True:
        residual = float(solver.relative_residual())
        exhausted = solver.iterations >= max_iter or rounding.reached(residual, solver.iterations)
        if exhausted or residual <= tol:
            result = solver.result()
            if exhausted or float(result[2]) <= tol:
                return result
        solver.extend(1)


class StagnationTest:
    """Tells when a residual is as small as rounding lets it become, which for large layers is above 1e-6.

    Args:
        dtype: of the products.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._error = torch.finfo(dtype).eps
        self._best, self._since, self._last = math.inf, 0, math.inf

    def reached(self, residual: float, iterations: int) -> bool:
        """Whether so small a residual has not fallen in the last iterations, or no direction is left."""
        if residual < 0.9 * self._best:
            self._best, self._since = residual, iterations
        unchanged, self._last = residual == self._last, residual
        stuck = iterations - self._since >= _PATIENCE
        return (stuck and residual <= _NEAR_ROUNDING * self._error) or (
            unchanged and residual <= _AT_ROUNDING * self._error
        )


def adjacency_operator(graph: RolledGraph, tol: float, method: Method = "auto") -> AdjacencyOperator:
    """The way to multiply by the graph's adjacency that suits its device and the tolerance."""
    dtype = torch.float64 if tol < _FLOAT32_TOLERANCE else graph.dtype
    if method == "auto":
        # On the CPU torch's CSR product is slower than dense blocks on every network measured
        # (benchmarks/signature.py). On a GPU launching kernels dominates, unless blocks are large: one kernel
        # a step against one a block. It keeps 40 bytes an edge, which a large network's training may need.
        launches_dominate = len(graph.blocks) > 8 and graph.num_edges < 1_000_000
        # The edges of a signed subgraph change with its weights.
        whole = graph.collective is None and isinstance(graph, RolledGraph)
        method = "csr" if whole and graph.device.type == "cuda" and launches_dominate else "blocks"
    return CsrOperator(graph, dtype) if method == "csr" else BlockOperator(graph, dtype)
