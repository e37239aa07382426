"""Principal eigenvector of a chain of layers, by a Rayleigh-Ritz method with one subspace for each layer.

Two things make a rolled graph hard for the usual iterations. It is bipartite, so that plain power iteration
oscillates; and in a deep network the share of each layer settles slowly, as weight wanders along the chain
one layer a step. Within a layer, though, kernel norms are close to rank one and settle at once. So the vector
is not searched in a Krylov space but in one that is cut at the layers' bounds: with the pieces ``q[j] | layer
l`` of a few vectors as a basis, the small matrix that W becomes on them is block tridiagonal, and its
principal eigenvector gives every layer its own share at every step. The residual, cut in the same way, is the
next vector. Each step costs one product with W, and contains the step of a Lanczos iteration.

A graph whose layers feed others than the next is neither bipartite nor a chain. There the subspace is not
cut, and the method is a restarted Lanczos iteration.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_nndyn.graph.matvec import AdjacencyOperator
from lightning_nndyn.graph.statistics import segment_index, segment_sum

_MAX_VECTORS = 12  # kept before a restart with the best vector
_MAX_SMALL = 400  # order of the small matrix at which fewer are kept
_MANY_NODES = 1 << 13  # from which on vectors are taken one at a time, and nodes so many at a time
_SQUARINGS = 26  # 2 ** 26 powers separate Ritz values that differ by 1e-7


class RayleighRitzSolver:
    """The search for the principal eigenvector. Nothing here waits for the device: the caller decides.

    Args:
        products: how to multiply by W.
        degree: Tensor[V], the weighted degrees: the default start, and what is mixed into ``start``.
        start: Tensor[V] to begin from.

    Attributes:
        iterations: products with W so far.
        dtype: of the products.

    Raises:
        ValueError: if ``start`` has another shape than ``degree``.
    """

    def __init__(self, products: AdjacencyOperator, degree: Tensor, start: Tensor | None = None) -> None:
        if start is not None and start.shape != degree.shape:
            raise ValueError(
                f"start has shape {tuple(start.shape)}, the graph {degree.numel()} nodes: pass one each"
            )
        self.iterations = 0
        self.dtype = products.dtype
        self._products = products
        self._chain = products.is_chain
        sizes = products.layer_sizes if self._chain else (degree.numel(),)
        self._sizes = torch.tensor(sizes, device=degree.device)
        self._layer = segment_index(self._sizes, degree.numel())
        even_layers = (len(self._sizes) + 1) // 2
        self._capacity = max(3, min(_MAX_VECTORS, _MAX_SMALL // even_layers))
        usual = self._per_layer_unit(degree.to(products.dtype))
        if start is not None:
            # A little of the degrees, so that no part of the graph is left out.
            usual = self._per_layer_unit(start.to(products.dtype)) + 1e-5 * usual
        shape = (self._capacity, usual.numel())
        self._basis, self._ahead, self._behind = (usual.new_zeros(shape) for _ in range(3))
        # _small[l, i, j]: basis piece i of layer l against what it receives from piece j of layer l - 1.
        self._small = torch.zeros(
            len(self._sizes), self._capacity, self._capacity, dtype=torch.float64, device=usual.device
        )
        self._begin(usual)

    def _begin(self, vector: Tensor) -> None:
        """Starts a new subspace from the pieces of one vector, in the memory of the one before."""
        for memory in (self._basis, self._ahead, self._behind, self._small):
            memory.zero_()
        self._count = 0
        self._append(self._per_layer_unit(vector))
        self._solve()

    def _append(self, vector: Tensor) -> None:
        """Adds a vector's pieces to the basis, with what W makes of them."""
        k = self._count
        self._basis[k] = vector
        self._ahead[k] = self._products.matvec_forward(vector)
        self._behind[k] = self._products.matvec_backward(vector)
        self.iterations += 1
        self._count += 1
        n = self._count
        # The new row and column of every layer's small matrix; behind[k] is what forward's transpose makes of
        # it.
        if not self._chain:  # W is symmetric, and all of it is in one place
            self._ahead[k] += self._behind[k]
            self._small[0, :n, k] = self._small[0, k, :n] = self._layer_dots(self._basis[:n], self._ahead[k])[
                0
            ]
            return
        self._small[:, :n, k] = self._layer_dots(self._basis[:n], self._ahead[k])
        self._small[1:, k, :n] = self._layer_dots(self._basis[:n], self._behind[k])[:-1]

    def _layer_dots(self, vectors: Tensor, other: Tensor) -> Tensor:
        """Inner products of [n, V] vectors with another, layer by layer: float64 [layers, n]."""
        other = other.double()
        if other.numel() < _MANY_NODES:
            return segment_sum((vectors.double() * other).T.contiguous(), self._sizes)
        return torch.stack([segment_sum(vector.double() * other, self._sizes) for vector in vectors], dim=1)

    def _combined(self, *weighed: tuple[Tensor, Tensor]) -> Tensor:
        """Sums of vectors [n, V] whose pieces are weighed layer by layer [layers, n]: Tensor[V]."""
        parts = []
        for first in range(0, self._layer.numel(), _MANY_NODES):
            nodes = slice(first, first + _MANY_NODES)
            products = [share[self._layer[nodes]] * vectors[:, nodes].T for share, vectors in weighed]
            parts.append(sum(products[1:], products[0]).sum(1))
        return torch.cat(parts)

    def _per_layer_unit(self, vector: Tensor, floor: Tensor | float = 0.0) -> Tensor:
        """Scales each layer's piece to unit length; pieces not longer than ``floor`` become zero.

        So do those that are too short to be scaled in the vector's dtype: where a network's weight gathers in
        its first layers, shares fall by powers of ten from one layer to the next.
        """
        length = self._layer_dots(vector[None], vector)[:, 0].sqrt()
        shortest = _tiny(vector)
        scale = torch.where((length > floor) & (length > shortest), 1 / length.clamp_min(shortest), 0)
        return vector * scale.to(vector.dtype)[self._layer]

    def extend(self, steps: int) -> None:
        """Adds ``steps`` vectors to the subspace, restarting from the best one when it is full."""
        for _ in range(steps):
            if self._count == self._capacity:
                self._begin(self._vector)
            else:
                self._append(self._next())
                self._solve()

    def _next(self) -> Tensor:
        """The residual's pieces, orthonormal to the basis layer by layer."""
        basis = self._basis[: self._count]
        vector = self._residual
        before = self._layer_dots(vector[None], vector)[:, 0].sqrt()
        for _ in range(2):
            parts = self._layer_dots(basis, vector).to(vector.dtype)
            vector = vector - self._combined((parts, basis))
        # In exact arithmetic the residual is orthogonal to the basis already. Where little is left of it the
        # layer has no more directions, and what is left is rounding.
        return self._per_layer_unit(vector, floor=0.1 * before)

    def _solve(self) -> None:
        """Finds the best vector of the subspace, its value and its residual."""
        weights, self._value = self._small_eigenpair()
        share = weights.to(self._basis.dtype)
        basis, ahead, behind = (t[: self._count] for t in (self._basis, self._ahead, self._behind))
        self._vector = self._combined((share, basis))
        if not self._chain:
            self._residual = ahead.T @ share[0] - self._value.to(share.dtype) * self._vector
            return
        none = share.new_zeros(1, self._count)
        from_before, from_behind = torch.cat((none, share[:-1])), torch.cat((share[1:], none))
        image = self._combined((from_before, ahead), (from_behind, behind))
        self._residual = image - self._value.to(image.dtype) * self._vector

    def _small_eigenpair(self) -> tuple[Tensor, Tensor]:
        """Principal eigenvector [layers, count] of W on the basis, and its eigenvalue.

        Even and odd layers make it bipartite as well: its half, rows odd and columns even, is all there is.
        """
        n, layers = self._count, len(self._sizes)
        if not self._chain:
            matrix = self._small[0, :n, :n]
            # Its bound makes the largest eigenvalue the largest in modulus, too.
            shift = matrix.abs().sum(1).max() * torch.eye(n, dtype=matrix.dtype, device=matrix.device)
            vector = leading_eigenvector(matrix + shift)
            return vector[None], vector @ matrix @ vector
        even, odd = (layers + 1) // 2, layers // 2
        half = self._small.new_zeros(odd, n, even, n)
        couplings = self._small[:, :n, :n]
        place = torch.arange(odd, device=half.device)
        half[place, :, place, :] = couplings[1::2]  # odd layer 2 i + 1 receives from layer 2 i
        inner = torch.arange(even - 1, device=half.device)
        half[inner, :, inner + 1, :] = couplings[2::2].transpose(1, 2)  # and gives to layer 2 i + 2
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

        The residual is formed from the products of the search, and made an upper bound where negative entries
        were turned round: at most four times their length is added.
        """
        vector = self._vector * self._vector.sum().sign()
        flipped = torch.linalg.vector_norm(vector.clamp_max(0).double())
        vector = vector.abs() / torch.linalg.vector_norm(vector).clamp_min(_tiny(vector))
        weightless = self._value <= _tiny(vector)
        uniform = torch.full_like(vector, vector.numel() ** -0.5)
        zero = torch.zeros_like(self._value)
        return (
            torch.where(weightless, uniform, vector),
            torch.where(weightless, zero, self._value),
            torch.where(weightless, zero, self.relative_residual() + 4 * flipped),
        )


def leading_eigenvector(gram: Tensor) -> Tensor:
    """Unit eigenvector of the largest eigenvalue of a small positive semi-definite matrix, float64 [n, n]."""
    if _has_lapack_without_waiting(gram.device):
        return torch.linalg.eigh(gram).eigenvectors[:, -1]
    return eigenvector_by_squaring(gram)


def _has_lapack_without_waiting(device: torch.device) -> bool:
    return device.type == "cpu"


def eigenvector_by_squaring(matrix: Tensor) -> Tensor:
    """`leading_eigenvector` without LAPACK's kin, which wait for the device to look for errors."""
    for _ in range(_SQUARINGS):
        matrix = matrix / matrix.diagonal().sum().clamp_min(_tiny(matrix))
        matrix = matrix @ matrix
    # What is left has rank one: any column is the vector, the one with the largest diagonal entry the
    # longest.
    column = matrix.index_select(1, matrix.diagonal().argmax().view(1)).squeeze(1)
    return column / torch.linalg.vector_norm(column).clamp_min(_tiny(column))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny
