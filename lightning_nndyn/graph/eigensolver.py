"""Principal eigenvector of a graph's adjacency W, by a Rayleigh-Ritz method with one subspace per node layer.

Two properties of a rolled graph slow down the usual iterations. It is bipartite, so plain power iteration
oscillates. And in a deep network the share of each layer converges slowly, because weight moves along the
chain one layer per step. Within a layer, however, kernel norms are close to rank one and converge at once.
The method therefore does not search a Krylov space, but the larger space spanned by the pieces ``q[j] | layer
l`` of a few vectors ``q[j]``. Projected onto these pieces W is a small block tridiagonal matrix, and its
principal eigenvector gives every layer its own share at every step. The pieces of the residual extend the
space. Each step costs one product with W and contains the step of a Lanczos iteration. In deep networks the
projected matrix is kept as a band: the time of a step is proportional to the number of layers.

A graph in which layers feed others than the next is neither bipartite nor a chain. There vectors are not cut
into pieces, and the method is a restarted Lanczos iteration.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_nndyn.graph.matvec import AdjacencyOperator
from lightning_nndyn.graph.statistics import segment_sum

_MAX_VECTORS = 12  # in the basis, before a restart from the best vector
_MIN_VECTORS = 3
_MAX_PROJECTED = 400  # order of the dense projected matrix; deep networks get fewer vectors to stay below it
_MANY_NODES = 1 << 13  # from here on work on one vector, and on this many nodes, at a time to save memory
_SHIFT_ACCURACY = 1e-13  # of the largest eigenvalue of a band
_MAX_SHIFTS = 100  # some ten do
_SQUARINGS = 26  # the power 2 ** 26 separates Ritz values that differ by 1e-7
# A residual of at most so many rounding errors that has not fallen for so many iterations falls no more.
_STAGNATION_ERRORS = 128
_STAGNATION_ITERATIONS = 12
# A residual of at most so many that no longer changes ends the search: the subspace is exhausted.
_EXHAUSTED_ERRORS = 32


class RayleighRitzSolver:
    """Approximates the principal eigenvector. Nothing here waits for the device: the caller decides when.

    Args:
        operator: the products with W.
        degree: Tensor[V], the weighted degrees: the default start, and part of every start.
        start: Tensor[V] to begin from; None for the degrees.
        before: a solver with the same operator that is done, whose memory this one takes over.

    Attributes:
        iterations: number of products with W so far.
        dtype: dtype of the products.

    Raises:
        ValueError: if ``start`` has another shape than ``degree``.
    """

    def __init__(
        self,
        operator: AdjacencyOperator,
        degree: Tensor,
        start: Tensor | None = None,
        before: RayleighRitzSolver | None = None,
    ) -> None:
        if start is not None and start.shape != degree.shape:
            raise ValueError(
                f"start has shape {tuple(start.shape)}, the graph {degree.numel()} nodes: pass one each"
            )
        self.iterations = 0
        self.dtype = operator.dtype
        self._operator = operator
        self._chain = operator.is_chain
        self._sizes, self._layer = operator.pieces.sizes, operator.pieces.index
        affordable = _MAX_PROJECTED // ((len(self._sizes) + 1) // 2)
        self._banded = affordable < _MIN_VECTORS and is_synchronous(degree.device)
        self._capacity = _MAX_VECTORS if self._banded else max(_MIN_VECTORS, min(_MAX_VECTORS, affordable))
        first = self._per_layer_unit(degree.to(operator.dtype))
        if start is not None:
            # Mix in a little of the degrees: a start that is zero on a part of the graph would stay so.
            first = self._per_layer_unit(start.to(operator.dtype)) + 1e-5 * first
        shape = (self._capacity, first.numel())
        # L and its transpose applied to each basis vector. In a graph that is no chain _forward holds W's.
        # _projected[l, i, j] = <piece i of layer l, what it receives from piece j of layer l - 1>.
        if before is None:
            self._basis, self._forward, self._backward = (first.new_zeros(shape) for _ in range(3))
            self._projected = torch.zeros(
                len(self._sizes), self._capacity, self._capacity, dtype=torch.float64, device=first.device
            )
        else:
            self._basis, self._forward, self._backward = before._basis, before._forward, before._backward
            self._projected = before._projected
        self._restart(first)

    def _restart(self, vector: Tensor) -> None:
        """Starts a new subspace from the pieces of one vector, in the same memory."""
        for memory in (self._basis, self._forward, self._backward, self._projected):
            memory.zero_()
        self._count = 0
        self._append(self._per_layer_unit(vector))
        self._solve()

    def _append(self, vector: Tensor) -> None:
        """Adds a vector's pieces to the basis, and their row and column to the projected matrix."""
        k = self._count
        self._basis[k] = vector
        self._forward[k] = self._operator.matvec_forward(vector)
        self._backward[k] = self._operator.matvec_backward(vector)
        self.iterations += 1
        self._count += 1
        basis = self._basis[: self._count]
        if not self._chain:
            self._forward[k] += self._backward[k]
            column = self._layer_dots(basis, self._forward[k])[0]
            self._projected[0, : k + 1, k] = self._projected[0, k, : k + 1] = column
            return
        self._projected[:, : k + 1, k] = self._layer_dots(basis, self._forward[k])
        self._projected[1:, k, : k + 1] = self._layer_dots(basis, self._backward[k])[:-1]

    def _layer_dots(self, vectors: Tensor, other: Tensor) -> Tensor:
        """Inner products of [n, V] vectors with another, layer by layer: float64 [layers, n]."""
        other = other.double()
        if other.numel() < _MANY_NODES:
            return segment_sum((vectors.double() * other).T.contiguous(), self._sizes)
        return torch.stack([segment_sum(vector.double() * other, self._sizes) for vector in vectors], dim=1)

    def _combine(self, *terms: tuple[Tensor, Tensor]) -> Tensor:
        """Linear combination with coefficients per layer.

        Args:
            terms: pairs of coefficients [layers, n] and vectors [n, V].

        Returns:
            The sum of all terms, Tensor[V].
        """
        parts = []
        for start in range(0, self._layer.numel(), _MANY_NODES):
            nodes = slice(start, start + _MANY_NODES)
            products = [weights[self._layer[nodes]] * vectors[:, nodes].T for weights, vectors in terms]
            parts.append(sum(products[1:], products[0]).sum(1))
        return torch.cat(parts)

    def _per_layer_unit(self, vector: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Scales each layer's piece to unit length. Pieces not longer than ``floor`` become zero.

        So do pieces that are too short to be scaled in the vector's dtype: where a network's weight is
        concentrated in its first layers, shares fall by powers of ten from one layer to the next.
        """
        length = self._layer_dots(vector[None], vector)[:, 0].sqrt()
        shortest = _tiny(vector)
        scale = torch.where((length > floor) & (length > shortest), 1 / length.clamp_min(shortest), 0)
        return vector * scale.to(vector.dtype)[self._layer]

    def extend(self, steps: int) -> None:
        """Adds ``steps`` vectors to the subspace; a full one is restarted from the best vector."""
        for _ in range(steps):
            if self._count == self._capacity:
                self._restart(self._vector)
            else:
                self._append(self._next())
                self._solve()

    def _next(self) -> Tensor:
        """The residual's pieces, made orthonormal to the basis layer by layer."""
        basis = self._basis[: self._count]
        vector = self._residual
        before = self._layer_dots(vector[None], vector)[:, 0].sqrt()
        for _ in range(2):  # the second pass restores the orthogonality that rounding costs the first
            coefficients = self._layer_dots(basis, vector).to(vector.dtype)
            vector = vector - self._combine((coefficients, basis))
        # In exact arithmetic the residual is orthogonal to the basis. Where little of it remains, the layer
        # has no further direction, and the remainder is rounding.
        return self._per_layer_unit(vector, floor=0.1 * before)

    def _solve(self) -> None:
        """Computes the best vector of the subspace, its eigenvalue and its residual."""
        coefficients, self._value = self._ritz_pair_of_chain() if self._chain else self._ritz_pair_of_graph()
        weights = coefficients.to(self._basis.dtype)
        basis, forward, backward = (t[: self._count] for t in (self._basis, self._forward, self._backward))
        self._vector = self._combine((weights, basis))
        if not self._chain:
            self._residual = forward.T @ weights[0] - self._value.to(weights.dtype) * self._vector
            return
        # A layer receives from the one before it by L, and from the one behind it by L's transpose.
        none = weights.new_zeros(1, self._count)
        from_before, from_behind = torch.cat((none, weights[:-1])), torch.cat((weights[1:], none))
        image = self._combine((from_before, forward), (from_behind, backward))
        self._residual = image - self._value.to(image.dtype) * self._vector

    def _ritz_pair_of_graph(self) -> tuple[Tensor, Tensor]:
        """Principal eigenvector [1, count] of the projected W, and its eigenvalue."""
        matrix = self._projected[0, : self._count, : self._count]
        # Shifted by a bound on its norm, the largest eigenvalue is also the largest in modulus.
        shift = matrix.abs().sum(1).max() * torch.eye(self._count, dtype=matrix.dtype, device=matrix.device)
        vector = leading_eigenvector(matrix + shift)
        return vector[None], vector @ matrix @ vector

    def _ritz_pair_of_chain(self) -> tuple[Tensor, Tensor]:
        """Principal eigenvector [layers, count] of the projected W, and its eigenvalue.

        The projected W is bipartite, too: the principal singular vectors of its odd-by-even half suffice.
        """
        n, layers = self._count, len(self._sizes)
        if self._banded:
            vector, value = leading_pair_of_band(self._projected[1:, :n, :n].numpy())
            return torch.from_numpy(vector), torch.tensor(value, dtype=self._projected.dtype)
        even, odd = (layers + 1) // 2, layers // 2
        half = self._projected.new_zeros(odd, n, even, n)
        couplings = self._projected[:, :n, :n]
        i = torch.arange(odd, device=half.device)
        half[i, :, i, :] = couplings[1::2]  # layer 2 i + 1 receives from layer 2 i
        i = torch.arange(even - 1, device=half.device)
        half[i, :, i + 1, :] = couplings[2::2].transpose(1, 2)  # and feeds layer 2 i + 2
        matrix = half.reshape(odd * n, even * n)
        right = leading_eigenvector(matrix.T @ matrix)
        left = matrix @ right
        value = torch.linalg.vector_norm(left)
        left = left / value.clamp_min(_tiny(value))
        result = half.new_zeros(layers, n)
        result[0::2], result[1::2] = right.view(even, n), left.view(odd, n)
        return result / 2**0.5, value

    def relative_residual(self) -> Tensor:
        """``|W v - lambda v| / lambda`` of the best vector so far, a scalar tensor."""
        value = self._value.clamp_min(_tiny(self._value))
        return torch.linalg.vector_norm(self._residual.double()) / value

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """The vector [V], non-negative and of unit length, its eigenvalue, and its residual (scalar tensors).

        The residual comes from the products of the search. Where negative entries were replaced by their
        absolute values it is an upper bound: four times the length of these entries is added.
        """
        vector = self._vector * self._vector.sum().sign()
        negative = torch.linalg.vector_norm(vector.clamp_max(0).double())
        vector = vector.abs() / torch.linalg.vector_norm(vector).clamp_min(_tiny(vector))
        weightless = self._value <= _tiny(vector)
        uniform = torch.full_like(vector, vector.numel() ** -0.5)
        zero = torch.zeros_like(self._value)
        return (
            torch.where(weightless, uniform, vector),
            torch.where(weightless, zero, self._value),
            torch.where(weightless, zero, self.relative_residual() + 4 * negative),
        )


class LayerwiseSolver(RayleighRitzSolver):
    """The same search for graphs with few and large node layers: it works on one layer at a time.

    So it needs no vector of layer numbers, and no copy of more than one layer. Sums have another order than
    in `RayleighRitzSolver`, and may differ in the last digits.
    """

    def _layer_dots(self, vectors: Tensor, other: Tensor) -> Tensor:
        pairs = zip(vectors.split(self._lengths, 1), other.split(self._lengths), strict=True)
        return torch.stack([many.double() @ one.double() for many, one in pairs])

    def _combine(self, *terms: tuple[Tensor, Tensor]) -> Tensor:
        result = torch.zeros_like(terms[0][1][0])
        for weights, vectors in terms:
            parts = zip(weights, vectors.split(self._lengths, 1), result.split(self._lengths), strict=True)
            for weight, vector, out in parts:
                out.addmv_(vector.T, weight)
        return result

    @property
    def _lengths(self) -> list[int]:
        return list(self._operator.layer_sizes) if self._chain else [self._layer.numel()]


def solver_for(
    operator: AdjacencyOperator,
    degree: Tensor,
    start: Tensor | None = None,
    before: RayleighRitzSolver | None = None,
) -> RayleighRitzSolver:
    """The solver that suits the operator's graph; see `RayleighRitzSolver`."""
    kind = LayerwiseSolver if operator.has_large_layers else RayleighRitzSolver
    return kind(operator, degree, start, before)


def iterate(solver: RayleighRitzSolver, tol: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """Extends the solver until its residual is at most ``tol`` or falls no more; returns its `result`."""
    stagnation = StagnationTest(solver.dtype)
    while True:
        residual = float(solver.relative_residual())
        exhausted = solver.iterations >= max_iter or stagnation.reached(residual, solver.iterations)
        if exhausted or residual <= tol:
            result = solver.result()
            if exhausted or float(result[2]) <= tol:
                return result
        solver.extend(1)


class StagnationTest:
    """Detects that rounding keeps a residual from falling further, for large layers above 1e-6.

    Args:
        dtype: dtype of the products.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._eps = torch.finfo(dtype).eps
        self._best, self._best_at, self._last = math.inf, 0, math.inf

    def reached(self, residual: float, iterations: int) -> bool:
        """Whether so small a residual has not fallen for several iterations, or has not changed at all."""
        if residual < 0.9 * self._best:
            self._best, self._best_at = residual, iterations
        unchanged, self._last = residual == self._last, residual
        stagnant = iterations - self._best_at >= _STAGNATION_ITERATIONS
        return (stagnant and residual <= _STAGNATION_ERRORS * self._eps) or (
            unchanged and residual <= _EXHAUSTED_ERRORS * self._eps
        )


def leading_eigenvector(gram: Tensor) -> Tensor:
    """Unit eigenvector of the largest eigenvalue of a small positive semi-definite matrix, float64 [n, n]."""
    if is_synchronous(gram.device):
        return torch.linalg.eigh(gram).eigenvectors[:, -1]
    return eigenvector_by_squaring(gram)


def leading_pair_of_band(couplings: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Unit eigenvector of the largest eigenvalue of a symmetric matrix that couples neighbouring layers only.

    Inverse iteration with shifts from above. ``shift - matrix`` has a Cholesky decomposition if and only if
    the shift is above all eigenvalues: so the pair is the leading one, however close the next is. The time of
    a decomposition is proportional to the number of layers.

    Args:
        couplings: of layer l + 1 (rows) and layer l (columns), shape [layers - 1, n, n].

    Returns:
        The vector [layers, n], and the eigenvalue; not finite if the couplings are not.
    """
    from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded  # takes a while to import

    gaps, n, _ = couplings.shape
    order = (gaps + 1) * n
    band = np.zeros((2 * n, order))  # entry [i - j, j] is the matrix' entry [i, j]
    row, column = np.indices((n, n))
    columns = column + n * np.arange(gaps)[:, None, None]
    band[n + row - column, columns] = -couplings
    row_sums = np.zeros((gaps + 1, n))
    row_sums[1:] += np.abs(couplings).sum(2)
    row_sums[:-1] += np.abs(couplings).sum(1)
    low, high = 0.0, float(row_sums.max()) * (1 + 1e-9)
    vector = np.random.default_rng(0).standard_normal(order)
    vector /= np.linalg.norm(vector)
    if not 0 < high < math.inf:
        return (vector * high).reshape(gaps + 1, n), high
    trial = high
    for _ in range(_MAX_SHIFTS):
        band[0] = trial
        try:
            factor = cholesky_banded(band, lower=True, check_finite=False)
        except LinAlgError:  # not above the largest eigenvalue
            low, step = trial, 0.5
        else:
            high, step = trial, 0.01
            for _ in range(2):
                solved = cho_solve_banded((factor, True), vector, check_finite=False)
                length = float(np.linalg.norm(solved))
                low = max(low, high - float(vector @ solved / length**2))
                vector = solved / length
        if high - low <= _SHIFT_ACCURACY * high:
            break
        trial = low + step * (high - low)
    return vector.reshape(gaps + 1, n), low


def is_synchronous(device: torch.device) -> bool:
    """Whether looking at a number is free. On a GPU it waits for all queued work, and so does `eigh`."""
    return device.type == "cpu"


def eigenvector_by_squaring(matrix: Tensor) -> Tensor:
    """`leading_eigenvector` by repeated squaring, which never waits for the device."""
    for _ in range(_SQUARINGS):
        matrix = matrix / matrix.diagonal().sum().clamp_min(_tiny(matrix))
        matrix = matrix @ matrix
    # The result has rank one. Any column is the vector; that of the largest diagonal entry is the longest.
    column = matrix.index_select(1, matrix.diagonal().argmax().view(1)).squeeze(1)
    return column / torch.linalg.vector_norm(column).clamp_min(_tiny(column))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
