"""One layer as edges between positions: which pairs a convolution connects, and products with their weights.

Every layer of an unrolled graph is a convolution: a pooling is one of all ones with a group for each channel,
a linear layer one on an image of a single pixel. So nothing needs to be unrolled for most questions: edges
are counted axis by axis, and the matrix of a layer's edges is multiplied by a vector by convolving the
vector.
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
        inputs: positions of the input along the axis.
        outputs: positions of the output.
        kernel: taps of the kernel.
        stride: input positions from one output to the next.
        dilation: input positions from one tap to the next.
        before: padding in front of the first input position.
    """

    inputs: int = 1
    outputs: int = 1
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    before: int = 0

    @property
    def after(self) -> int:
        """Padding behind the last input position; negative where the last ones are never reached."""
        return (
            self.stride * (self.outputs - 1)
            + self.dilation * (self.kernel - 1)
            + 1
            - self.inputs
            - self.before
        )

    def reach(self) -> Tensor:
        """The input position that each tap reads for each output, LongTensor[kernel, outputs]."""
        taps = torch.arange(self.kernel).unsqueeze(1) * self.dilation
        return torch.arange(self.outputs) * self.stride + taps - self.before

    def inside(self) -> Tensor:
        """Which of these positions are within the input, BoolTensor[kernel, outputs]."""
        reach = self.reach()
        return (reach >= 0) & (reach < self.inputs)


@dataclass(frozen=True)
class UnrolledLayer:
    """The edges from every position of one feature map to every position of the next.

    Attributes:
        name: the layer's name, for messages and drawings.
        channels: channels of the input.
        filters: channels of the output.
        rows: the first spatial axis.
        columns: the second one.
        read: returns the kernel now, [filters, channels / groups, rows.kernel, columns.kernel].
        groups: as in a grouped convolution.
        pooling: whether this is a pooling, whose kernel is one everywhere.
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
        """Positions of the input, all channels together."""
        return self.channels * self.rows.inputs * self.columns.inputs

    @property
    def targets(self) -> int:
        """Positions of the output, all filters together."""
        return self.filters * self.rows.outputs * self.columns.outputs

    @property
    def num_edges(self) -> int:
        """Pairs of an input position within bounds and an output position that reads it."""
        return self._kernels * int(self.rows.inside().sum()) * int(self.columns.inside().sum())

    @property
    def artefact_edges(self) -> int:
        """Edges that come in if every tap out of bounds is wired to position (0, 0) of its channel instead.

        One for each channel, filter and output position with such a tap, unless it reads (0, 0) anyway.
        """
        if self.pooling:
            return 0
        within = torch.outer(self.rows.inside().all(0), self.columns.inside().all(0))
        anyway = torch.outer((self.rows.reach() == 0).any(0), (self.columns.reach() == 0).any(0))
        return self._kernels * int((~within & ~anyway).sum())

    @property
    def _kernels(self) -> int:
        return self.filters * self.channels // self.groups

    def kernel(self) -> Tensor:
        """The kernel now, float64: TF32 and autocast would trade its digits for speed."""
        return self.read().detach().double()

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """All edges, one by one.

        Returns:
            Source and target position (flattened, channels first) and signed weight ``K[f, c, i, j]`` of each
            edge, three tensors [filters, channels / groups, pairs of pixels] of which the first two are
            views.
        """
        kernel = self.kernel()
        (row_tap, row_out), (column_tap, column_out) = (
            axis.inside().nonzero(as_tuple=True) for axis in (self.rows, self.columns)
        )
        row_in, column_in = self.rows.reach()[row_tap, row_out], self.columns.reach()[column_tap, column_out]
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
        """Carries a vector along the edges, from the input's positions [sources] to the output's [targets].

        Args:
            kernel: weights of the shape that `read` returns.
            vector: one number a source.
        """
        image = vector.view(1, self.channels, self.rows.inputs, self.columns.inputs)
        image = F.pad(image, self._padding)
        stride, dilation = self._steps
        return F.conv2d(image, kernel, None, stride, 0, dilation, self.groups).view(-1)

    def matvec_backward(self, kernel: Tensor, vector: Tensor) -> Tensor:
        """The transpose of `matvec_forward`: from a vector [targets] to one [sources]."""
        image = vector.view(1, self.filters, self.rows.outputs, self.columns.outputs)
        stride, dilation = self._steps
        image = F.conv_transpose2d(image, kernel, None, stride, 0, 0, self.groups, dilation)
        return F.pad(image, [-side for side in self._padding]).reshape(-1)

    @property
    def _padding(self) -> list[int]:
        return [self.columns.before, self.columns.after, self.rows.before, self.rows.after]

    @property
    def _steps(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.rows.stride, self.columns.stride), (self.rows.dilation, self.columns.dilation)


def _flat(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    return (rows.unsqueeze(1) * width + columns).view(-1)


@dataclass(frozen=True)
class EdgeMatrix:
    """Absolute weights of a layer's edges of one sign: a matrix [1, targets, sources] that is never formed.

    It offers what the centralities ask of a dense block of edges: sums along an axis and products with a
    vector.

    Attributes:
        layer: the layer.
        terms: the matrix is the sum of these: a non-negative kernel, and what its sources are scaled by
            [sources].
        turned: whether it stands transposed.
    """

    layer: UnrolledLayer
    terms: Sequence[tuple[Tensor, Tensor]]
    turned: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """As a dense block's: one group, then rows and columns."""
        rows, columns = self.layer.targets, self.layer.sources
        return (1, columns, rows) if self.turned else (1, rows, columns)

    def transpose(self, first: int, second: int) -> EdgeMatrix:
        """Rows and columns (axes 1 and 2) exchanged."""
        assert {first, second} == {1, 2}
        return replace(self, turned=not self.turned)

    def sum(self, axis: int) -> Tensor:
        """Sums along axis 1 or 2, float64 [the other axis]."""
        ones = self.terms[0][0].new_ones(self.shape[axis])
        return (self if axis == 2 else self.transpose(1, 2)) @ ones

    def count(self) -> int:
        """Edges whose weight is not zero."""
        terms = [((kernel > 0).double(), (scale > 0).double()) for kernel, scale in self.terms]
        return round(float(replace(self, terms=terms).sum(2).sum()))

    def isfinite(self) -> Tensor:
        """Whether all weights are finite, a boolean scalar."""
        return torch.stack([part.isfinite().all() for term in self.terms for part in term]).all()

    def to(self, dtype: torch.dtype) -> EdgeMatrix:
        """Itself: float64 has the digits of every other type."""
        return self

    def __getitem__(self, group: int) -> EdgeMatrix:
        return self

    def __matmul__(self, vector: Tensor) -> Tensor:
        layer = self.layer
        if self.turned:
            return torch.stack([scale * layer.matvec_backward(k, vector) for k, scale in self.terms]).sum(0)
        return torch.stack([layer.matvec_forward(k, scale * vector) for k, scale in self.terms]).sum(0)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Lets ``out.addmv_(matrix, vector)`` take this for a matrix."""
        if func is Tensor.addmv_ and not kwargs:
            out, matrix, vector = args
            return out.add_(matrix @ vector)
        return NotImplemented
