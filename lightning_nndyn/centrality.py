"""Weighted degree and eigenvector centrality of a rolled graph (section 2.1), on the weights' device.

A chain of node layers is bipartite: edges join even layers to odd ones. With the biadjacency matrix C [odd, even]
the adjacency is ``W = [[0, C'], [C, 0]]``, its spectrum is symmetric, and plain power iteration on W oscillates for
ever. Here the two parity classes are handled apart: Golub-Kahan-Lanczos bidiagonalisation finds the largest singular
triplet ``C v = sigma u``, ``C' u = sigma v`` of C, and ``[v; u] / sqrt(2)`` is the principal eigenvector of W. Each
step multiplies by C and by C' once, which reads every edge twice and raises the degree of the Krylov polynomial in W
by two, where power iteration on W reads every edge twice for a raise of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_nndyn.errors import NonFiniteWeightsError
from lightning_nndyn.graph import RolledGraph
from lightning_nndyn.products import BlockProducts, CsrProducts, Products

Method = Literal["auto", "blocks", "csr"]

# Residuals below this are out of reach of float32 products: the graph is then copied to float64.
_FLOAT32_TOLERANCE = 5e-7
_BASIS = 64  # Krylov vectors kept before a restart
_STEPS = 2  # steps between looks at the residual
_SQUARINGS = 26  # 2 ** 26 powers separate Ritz values that differ by 1e-7


@dataclass(frozen=True)
class EigenvectorCentrality:
    """Result of `eigenvector_centrality`.

    Attributes:
        vector: Tensor[V], non-negative, unit 2-norm.
        eigenvalue: the largest eigenvalue of the adjacency matrix.
        residual: ``|W v - eigenvalue v| / eigenvalue``, measured on ``vector`` itself; 0 for a graph without weight.
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
    if not bool(degree.isfinite().all()):
        raise NonFiniteWeightsError(_non_finite_message(graph))
    return degree


def degrees(graph: RolledGraph) -> Tensor:
    """`weighted_degree` without the check, and so without waiting for the device."""
    degree = torch.zeros(graph.num_nodes, dtype=graph.dtype, device=graph.device)
    parts = list(graph.layers(degree))
    for block in graph.blocks:
        parts[block.source] += block.values.sum(1).view(-1)
        parts[block.target] += block.values.sum(2).view(-1)
    return degree


def _non_finite_message(graph: RolledGraph) -> str:
    for block in graph.blocks:
        if not bool(block.values.isfinite().all()):
            return (
                f"layer {block.weight.name!r} holds NaN or infinite weights (or norms beyond {graph.dtype}): "
                f"the run has diverged, lower its learning rate"
            )
    return f"a sum of weights leaves the range of {graph.dtype}: the run has diverged, lower its learning rate"


def eigenvector_centrality(
    graph: RolledGraph,
    tol: float = 1e-6,
    max_iter: int = 1000,
    start: Tensor | None = None,
    *,
    method: Method = "auto",
) -> EigenvectorCentrality:
    """The principal eigenvector of the adjacency matrix (section 2.1).

    Deviations from networkx: the residual is measured, not the change of the vector; a graph whose parts are not
    connected, or tie for the largest eigenvalue, is answered too.

    Args:
        graph: the graph.
        tol: bound on ``|W v - lambda v| / lambda``. Below 5e-7 the work is done in float64, on a copy of the edges.
        max_iter: bound on multiplications by W; past it the best vector is returned with ``converged=False``.
        start: Tensor[V], for example the previous epoch's vector: the closer, the fewer iterations. None starts
            from the degrees.
        method: ``"blocks"`` multiplies dense blocks, ``"csr"`` sparse matrices, ``"auto"`` takes the one that was
            measured to be faster.

    Returns:
        The vector with eigenvalue and residual. If the graph is not connected, the vector is zero outside the parts
        with the largest eigenvalue, and where several parts tie it is the projection of the start onto their
        eigenvectors. Without any weight every vector is an eigenvector: the uniform one, eigenvalue 0.

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
    """Extends the solver until its measured residual is at most ``tol``; returns its last `result`."""
    while True:
        solver.extend(_STEPS)
        exhausted = solver.iterations >= max_iter
        if exhausted or float(solver.estimate()) <= tol:
            result = solver.result()
            if exhausted or float(result[2]) <= tol:
                return result


def products_for(graph: RolledGraph, tol: float, method: Method = "auto") -> Products:
    """The way to multiply by the graph's adjacency that suits its device and the tolerance."""
    dtype = torch.float64 if tol < _FLOAT32_TOLERANCE else graph.dtype
    if method == "auto":
        # On the CPU torch's CSR product is some fifty times slower than a dense block's (benchmarks/signature.py).
        # On a GPU launching kernels dominates, unless blocks are large: one kernel a step against one a block.
        launches_dominate = len(graph.blocks) > 8 and graph.num_edges < 50_000_000
        method = "csr" if graph.device.type == "cuda" and launches_dominate else "blocks"
    return CsrProducts(graph, dtype) if method == "csr" else BlockProducts(graph, dtype)


class PrincipalVector:
    """Golub-Kahan-Lanczos with full reorthogonalisation, restarted with its best vector when the basis is full.

    No method waits for the device: `extend` and `result` queue work, and the caller decides when to look.

    Args:
        products: how to multiply by C and by its transpose.
        degree: Tensor[V], the weighted degrees: the default start, and what is mixed into ``start``.
        start: Tensor[V] to begin from.

    Raises:
        ValueError: if ``start`` has another shape than ``degree``, or is zero or not finite on the even layers.
    """

    def __init__(self, products: Products, degree: Tensor, start: Tensor | None = None) -> None:
        self.iterations = 0
        self._products = products
        even = products.even(degree)
        if start is not None:
            even = _mixed(products, degree, start)
        self._begin(torch.where(even.sum() > 0, even, torch.ones_like(even)))

    def _begin(self, even: Tensor) -> None:
        """Starts a new basis from one vector over the even nodes."""
        odd_size = self._products.num_odd
        self._even = even.new_zeros(_BASIS + 1, even.numel())
        self._odd = even.new_zeros(_BASIS, odd_size)
        self._bidiagonal = even.new_zeros(_BASIS + 1, _BASIS + 1, dtype=torch.float64)
        self._even[0] = even / _length(even)
        self._size = 0

    def extend(self, steps: int) -> None:
        """Adds ``steps`` vectors for each parity class to the Krylov basis."""
        for _ in range(steps):
            if self._size == _BASIS:
                even, _ = self._ritz()
                self._begin(even)
            self._step()

    def _step(self) -> None:
        j = self._size
        u = self._products.to_odd(self._even[j])
        alpha = _orthogonalise(u, self._odd[:j])
        self._odd[j] = u / alpha
        v = self._products.to_even(self._odd[j])
        beta = _orthogonalise(v, self._even[: j + 1])
        self._even[j + 1] = v / beta
        self._bidiagonal[j, j] = alpha
        self._bidiagonal[j, j + 1] = beta
        self._size += 1
        self.iterations += 2

    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Largest singular triplet of the small bidiagonal matrix: right and left vector, value."""
        small = self._bidiagonal[: self._size, : self._size]
        right = _top_eigenvector(small.T @ small)
        left = small @ right
        value = _length(left)
        return right, left / value, value

    def _ritz(self) -> tuple[Tensor, Tensor]:
        right, left, _ = self._coefficients()
        n = self._size
        return right.to(self._even.dtype) @ self._even[:n], left.to(self._odd.dtype) @ self._odd[:n]

    def estimate(self) -> Tensor:
        """The relative residual that the recurrence promises, a scalar tensor."""
        _, left, value = self._coefficients()
        beta = self._bidiagonal[self._size - 1, self._size]
        return beta * left[-1].abs() / (value * 2**0.5)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """The vector [V], the eigenvalue, and the residual measured with two further products (scalar tensors)."""
        even, odd = self._ritz()
        # Rounding leaves tiny values of either sign where the true entry is zero.
        even, odd = even.abs(), odd.abs()
        vector = self._products.join(even / _length(even), odd / _length(odd)) / 2**0.5
        image = self._products.multiply(vector)
        eigenvalue = (image.double() @ vector.double()).clamp_min(0)
        error = _length(image.double() - eigenvalue * vector.double())
        tiny = torch.finfo(self._even.dtype).tiny
        weightless = eigenvalue <= tiny
        uniform = torch.full_like(vector, vector.numel() ** -0.5)
        vector = torch.where(weightless, uniform, vector)
        zero = torch.zeros_like(eigenvalue)
        residual = torch.where(weightless, zero, error / eigenvalue.clamp_min(tiny))
        return vector, torch.where(weightless, zero, eigenvalue), residual


def _mixed(products: Products, degree: Tensor, start: Tensor) -> Tensor:
    """The start on the even layers, with a little of the degrees so that no part of the graph is left out."""
    if start.shape != degree.shape:
        raise ValueError(f"start has shape {tuple(start.shape)}, the graph {degree.numel()} nodes: pass one a node")
    even, usual = products.even(start), products.even(degree)
    return even / _length(even) + 1e-4 * usual / _length(usual)


def _top_eigenvector(gram: Tensor) -> Tensor:
    """Unit eigenvector of the largest eigenvalue of a small positive semi-definite matrix, float64 [n, n]."""
    if gram.device.type == "cpu":
        return torch.linalg.eigh(gram).eigenvectors[:, -1]
    return _by_squaring(gram)


def _by_squaring(matrix: Tensor) -> Tensor:
    """`_top_eigenvector` without LAPACK's kin, which wait for the device to look for errors."""
    tiny = torch.finfo(matrix.dtype).tiny
    for _ in range(_SQUARINGS):
        matrix = matrix / matrix.diagonal().sum().clamp_min(tiny)
        matrix = matrix @ matrix
    # What is left has rank one: any column is the vector, the one with the largest diagonal entry the longest.
    column = matrix.index_select(1, matrix.diagonal().argmax().view(1)).squeeze(1)
    return column / _length(column)


def _length(vector: Tensor) -> Tensor:
    """2-norm, never zero: dividing by it leaves a zero vector zero."""
    return torch.linalg.vector_norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)


def _orthogonalise(vector: Tensor, basis: Tensor) -> Tensor:
    """Takes out, in place, what lies in the span of the basis; twice is enough. Returns what length is left."""
    for _ in range(2):
        vector -= (basis @ vector) @ basis
    return _length(vector)
