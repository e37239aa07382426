"""A layer of the unrolled graph: the edges between positions of its input and its output (App. A.2).

Every such layer is a convolution: a pooling is one with a kernel of ones and a group per channel, a linear
layer one on an image of a single pixel. So most questions need no list of edges: edges are counted axis by
axis, and to multiply the matrix of a layer's edges by a vector is to convolve the vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution.

    Attributes:
        inputs: number of input positions along the axis.
        outputs: number of output positions.
        kernel: number of taps of the kernel.
        stride: input positions from one output position to the next.
        dilation: input positions from one tap to the next.
        before: padding before the first input position.
    """

    inputs: int = 1
    outputs: int = 1
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    @property
    def after(self) -> int:
        """Padding after the last input position; negative if the last positions are never read."""
        return (
            self.stride * (self.outputs - 1)
            + self.dilation * (self.kernel - 1)
            + 1
            - self.inputs
            - self.before
        )

    def positions(self) -> Tensor:
        """The input position that each tap reads for each output, LongTensor[kernel, outputs]."""
        taps = torch.arange(self.kernel).unsqueeze(1) * self.dilation
        return torch.arange(self.outputs) * self.stride + taps - self.before

    def inside(self) -> Tensor:
        """Which of these positions lie within the input, BoolTensor[kernel, outputs]."""
        positions = self.positions()
        return (positions >= 0) & (positions < self.inputs)

    def reads(self) -> Tensor:
        """How many outputs read an input position by a tap, 0 or 1: float64 [kernel, inputs]."""
        counts = torch.zeros(self.kernel, self.inputs, dtype=torch.float64)
        tap, output = self.inside().nonzero(as_tuple=True)
        counts[tap, self.positions()[tap, output]] = 1
        return counts


@dataclass(frozen=True)
class UnrolledLayer:
    """The edges from every position of one feature map to every position of the next.

    Attributes:
        name: the layer's name, for messages and plots.
        channels: channels of the input.
        filters: channels of the output.
        rows: the first spatial axis.
        columns: the second spatial axis.
        read: returns the current kernel, [filters, channels / groups, rows.kernel, columns.kernel].
        groups: as in a grouped convolution.
        pooling: whether this is a pooling, with a kernel of ones.
    """

    name: str
    channels: int
    filters: int
    rows: Axis
    columns: Axis
    read: Callable[[], Tensor]
    groups: int = 1
    pooling: bool = False

    @property
    def sources(self) -> int:
        """Number of input positions over all channels."""
        return self.channels * self.rows.inputs * self.columns.inputs

    @property
    def targets(self) -> int:
        """Number of output positions over all filters."""
        return self.filters * self.rows.outputs * self.columns.outputs

    @property
    def num_edges(self) -> int:
        """Number of pairs of an input position and an output position that reads it."""
        return self._kernels * int(self.rows.inside().sum()) * int(self.columns.inside().sum())

    @property
    def artefact_edges(self) -> int:
        """Additional edges if every tap out of bounds reads position (0, 0) of its channel instead.

        One for each channel, filter and output position with such a tap, unless it reads (0, 0) anyway.
        """
        if self.pooling:
            return 0
        within = torch.outer(self.rows.inside().all(0), self.columns.inside().all(0))
        anyway = torch.outer((self.rows.positions() == 0).any(0), (self.columns.positions() == 0).any(0))
        return self._kernels * int((~within & ~anyway).sum())

    @property
    def _kernels(self) -> int:
        return self.filters * self.channels // self.groups

    def kernel(self) -> Tensor:
        """The current kernel: float64 where the weight is, otherwise float32."""
        kernel = self.read().detach()
        return kernel if kernel.dtype == torch.float64 else kernel.float()

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """A list of all edges.

        Returns:
            Source position, target position (both flattened, channels first) and signed weight
            ``K[f, c, i, j]`` of each edge: three tensors [filters, channels / groups, pairs of pixels].
        """
        kernel = self.kernel().double()
        (row_tap, row_out), (column_tap, column_out) = (
            axis.inside().nonzero(as_tuple=True) for axis in (self.rows, self.columns)
        )
        row_in, column_in = (
            self.rows.positions()[row_tap, row_out],
            self.columns.positions()[column_tap, column_out],
        )
        taps = _flat(row_tap, column_tap, self.columns.kernel).to(kernel.device)
        source = _flat(row_in, column_in, self.columns.inputs).to(kernel.device)
        target = _flat(row_out, column_out, self.columns.outputs).to(kernel.device)
        weight = kernel.flatten(2)[:, :, taps]
        filters = torch.arange(self.filters, device=kernel.device).view(-1, 1, 1)
        depth = self.channels // self.groups
        first = filters // (self.filters // self.groups) * depth
        channel = first + torch.arange(depth, device=kernel.device).view(1, -1, 1)
        source = channel * (self.rows.inputs * self.columns.inputs) + source
        target = filters * (self.rows.outputs * self.columns.outputs) + target
        return source, target.expand_as(weight), weight

    def matvec_forward(self, kernel: Tensor, vector: Tensor) -> Tensor:
        """The product of the matrix of edges [targets, sources] with a vector [sources].

        Args:
            kernel: weights in place of the layer's own, of the shape that `read` returns.
            vector: one number for each input position, of the kernel's dtype.
        """
        image = vector.view(1, self.channels, self.rows.inputs, self.columns.inputs)
        stride, dilation = self._steps
        if self._is_symmetric:  # torch pads without a copy
            padding = (self.rows.before, self.columns.before)
            return F.conv2d(image, kernel, None, stride, padding, dilation, self.groups).reshape(-1)
        image = F.pad(image, self._padding)
        return F.conv2d(image, kernel, None, stride, 0, dilation, self.groups).reshape(-1)

    def matvec_backward(self, kernel: Tensor, vector: Tensor) -> Tensor:
        """The product of the transposed matrix [sources, targets] with a vector [targets]."""
        image = vector.view(1, self.filters, self.rows.outputs, self.columns.outputs)
        stride, dilation = self._steps
        if self._is_symmetric:
            padding = (self.rows.before, self.columns.before)
            image = F.conv_transpose2d(image, kernel, None, stride, padding, 0, self.groups, dilation)
            return image.reshape(-1)
        image = F.conv_transpose2d(image, kernel, None, stride, 0, 0, self.groups, dilation)
        return F.pad(image, [-side for side in self._padding]).reshape(-1)

    def sum_to_targets(self, kernel: Tensor) -> Tensor:
        """The row sums of the matrix of edges, float64 [targets]: what a vector of ones gives."""
        by_tap = kernel.sum(1, dtype=torch.float64)  # [filters, taps, taps]
        rows, columns = (axis.inside().double().to(kernel.device) for axis in (self.rows, self.columns))
        return torch.einsum("fij,iy,jx->fyx", by_tap, rows, columns).reshape(-1)

    def sum_to_sources(self, kernel: Tensor) -> Tensor:
        """The column sums of the matrix of edges, float64 [sources]."""
        by_group = kernel.unflatten(0, (self.groups, self.filters // self.groups))
        by_tap = by_group.sum(1, dtype=torch.float64).flatten(0, 1)  # [channels, taps, taps]
        rows, columns = (axis.reads().to(kernel.device) for axis in (self.rows, self.columns))
        return torch.einsum("cij,iy,jx->cyx", by_tap, rows, columns).reshape(-1)

    def count(self, kernel: Tensor) -> int:
        """Number of edges whose weight is not zero, with a kernel in place of the layer's own."""
        by_tap = (kernel != 0).sum((0, 1)).cpu()
        rows, columns = (axis.inside().sum(1) for axis in (self.rows, self.columns))
        return int((by_tap * torch.outer(rows, columns)).sum())

    @property
    def _is_symmetric(self) -> bool:
        """Whether both axes are padded alike at both ends, and read to the end."""
        return all(axis.before == axis.after for axis in (self.rows, self.columns))

    @property
    def _padding(self) -> list[int]:
        return [self.columns.before, self.columns.after, self.rows.before, self.rows.after]

    @property
    def _steps(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.rows.stride, self.columns.stride), (self.rows.dilation, self.columns.dilation)


def _flat(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    return (rows.unsqueeze(1) * width + columns).view(-1)


@dataclass(frozen=True)
class Term:
    """Non-negative edge weights: a part of a layer's kernel, times a factor at each source position.

    Attributes:
        sign: 1 or -1 for the kernel's entries of this sign, 0 for all by their absolute values.
        kernel: the absolute values of these entries, zero elsewhere; in the kernel's shape.
        scale: the factor for each source position, float64 [sources]; None for ones.
    """

    sign: int
    kernel: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, layer: UnrolledLayer, sign: int, scale: Tensor | None = None) -> Term:
        """The term of a layer's current kernel."""
        own = torch.empty_like(layer.kernel(), memory_format=torch.contiguous_format)
        term = cls(sign, own, scale)
        term.refresh(layer)
        return term

    def refresh(self, layer: UnrolledLayer) -> None:
        """Reads the layer's current kernel into the same memory."""
        kernel = layer.kernel()
        if not self.sign:
            torch.abs(kernel, out=self.kernel)
        elif self.sign > 0:
            torch.clamp(kernel, min=0, out=self.kernel)
        else:
            torch.clamp(kernel, max=0, out=self.kernel).neg_()


@dataclass(frozen=True)
class EdgeMatrix:
    """Absolute weights of some of a layer's edges: a matrix [1, targets, sources] that is never formed.

    It has the operations of a dense block's values that the centralities use: sums along an axis, and
    products with a vector.

    Attributes:
        layer: the layer.
        terms: the matrix is their sum.
        transposed: whether the matrix is the transposed one.
    """

    layer: UnrolledLayer
    terms: Sequence[Term]
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """One group, rows and columns, as in a dense block."""
        rows, columns = self.layer.targets, self.layer.sources
        return (1, columns, rows) if self.transposed else (1, rows, columns)

    def transpose(self, first: int, second: int) -> EdgeMatrix:
        """The matrix with rows and columns (axes 1 and 2) exchanged."""
        assert {first, second} == {1, 2}
        return replace(self, transposed=not self.transposed)

    def sum(self, axis: int) -> Tensor:
        """Sums along axis 1 or 2, float64 [the other axis]."""
        to_targets = (axis == 2) != self.transposed
        sums = [self._summed(term, to_targets) for term in self.terms]
        return torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]

    def _summed(self, term: Term, to_targets: bool) -> Tensor:
        if to_targets:
            if term.scale is None:
                return self.layer.sum_to_targets(term.kernel)
            return self.layer.matvec_forward(term.kernel.double(), term.scale)
        sums = self.layer.sum_to_sources(term.kernel)
        return sums if term.scale is None else term.scale * sums

    def count(self) -> int:
        """Number of edges whose weight is not zero."""
        if all(term.scale is None for term in self.terms):
            return sum(self.layer.count(term.kernel) for term in self.terms)
        ones = [
            Term(0, (term.kernel > 0).double(), None if term.scale is None else (term.scale > 0).double())
            for term in self.terms
        ]
        return round(float(replace(self, terms=ones).sum(2).sum()))

    def isfinite(self) -> Tensor:
        """Whether all weights are finite, a boolean scalar."""
        parts = (part for term in self.terms for part in (term.kernel, term.scale) if part is not None)
        return torch.stack([part.isfinite().all() for part in parts]).all()

    def to(self, dtype: torch.dtype) -> EdgeMatrix:
        """The matrix for products with vectors of a dtype; itself if it is of that dtype."""
        converted = [
            replace(term, kernel=term.kernel.to(dtype), scale=_to(term.scale, dtype)) for term in self.terms
        ]
        same = all(
            new.kernel is old.kernel and new.scale is old.scale
            for new, old in zip(converted, self.terms, strict=True)
        )
        return self if same else replace(self, terms=converted)

    def copy_(self, other: EdgeMatrix) -> None:
        """Takes another matrix's kernels over, in place, in this one's dtype."""
        for own, new in zip(self.terms, other.terms, strict=True):
            if own.kernel is not new.kernel:
                own.kernel.copy_(new.kernel)

    def refresh(self) -> None:
        """Reads the layer's current kernel in place; the factors at the source positions stay."""
        for term in self.terms:
            term.refresh(self.layer)

    def __getitem__(self, group: int) -> EdgeMatrix:
        return self

    def __matmul__(self, vector: Tensor) -> Tensor:
        products = [self._product(term, vector) for term in self.to(vector.dtype).terms]
        return torch.stack(products).sum(0) if len(products) > 1 else products[0]

    def _product(self, term: Term, vector: Tensor) -> Tensor:
        layer, scale = self.layer, term.scale
        if self.transposed:
            product = layer.matvec_backward(term.kernel, vector)
            return product if scale is None else scale * product
        return layer.matvec_forward(term.kernel, vector if scale is None else scale * vector)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Makes ``out.addmv_(matrix, vector)`` accept this object as the matrix."""
        if func is Tensor.addmv_ and not kwargs:
            out, matrix, vector = args
            return out.add_(matrix @ vector)
        return NotImplemented


def _to(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(dtype)
