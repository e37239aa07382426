"""Distances of weights from their first values, which the norms in a snapshot do not show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.collectives import EdgeShardGroup
from lightning_nndyn.graph.sharding import shapes_only

SAMPLE = 8192
"""At most so many entries of a weight are compared: all of a small weight, every n-th of a large one."""


class WeightDistances:
    """Keeps a sample of each layer's first weights, and compares the current weights with it.

    The sample consists of the same, evenly spaced entries each time. With 8192 of them the distance of a
    large layer is accurate to about a percent, and samples in a checkpoint take at most 32 KiB per layer.

    Args:
        weights: the layers' weights.
        first: `first` of an earlier object for the same layers; None to begin with the next call of `read`.
            Samples whose sizes do not fit the weights are ignored.
        rows: the outputs of each weight that belong to this process, where weights are sharded.
        collective: the processes that share the weights; `read` is a collective operation then.

    Attributes:
        first: the sample of each layer's first weights, on their device; empty before the first `read`.
    """

    def __init__(
        self,
        weights: Sequence[LayerWeight],
        first: Sequence[Tensor] | None = None,
        *,
        rows: Sequence[range | None] = (),
        collective: EdgeShardGroup | None = None,
    ) -> None:
        self._weights, self._rows, self._collective = weights, rows, collective
        self.first: list[Tensor] = []
        self._norms: list[Tensor] = []
        if first:
            self._resume(first)

    def read(self, samples: Sequence[Tensor] = ()) -> Tensor:
        """Frobenius distances from the weights of the first call, relative to the norm of those weights.

        Args:
            samples: `sample` of each weight, where it has been read already.

        Returns:
            float64, shape [layers], on the weights' device; 0 in the first call. Of a layer that begins at
            zero (a head, LoRA's second matrix) the distance is 1 once it has moved.
        """
        is_first = not self.first
        distances = []
        for i, current in enumerate(samples or self._samples()):
            if is_first:
                self._append_first(current.clone())
            distance, unit = _norm(current - self.first[i]), self._norms[i]
            unit = torch.where(unit > 0, unit, distance).clamp_min(torch.finfo(torch.float32).tiny)
            distances.append((distance / unit).double())
        return torch.stack(distances)

    def _samples(self) -> Iterator[Tensor]:
        """The current samples, one at a time: each may be a view of a weight that was computed for it."""
        if self._collective is None:
            return (sample(weight.read().detach()) for weight in self._weights)
        with shapes_only():
            numels = [weight.read().numel() for weight in self._weights]
            device = self._weights[0].read().device
        samples = torch.zeros(sum(map(_count, numels)), device=device).split([_count(n) for n in numels])
        for sample, rows, weight, numel in zip(samples, self._rows, self._weights, numels, strict=True):
            assert rows is not None
            slices = weight.slices(rows)
            work = partial(_fill, sample, slices, rows.start, _step(numel))
            self._collective.run_guarded(work, sample)
        return map(self._collective.all_reduce, samples)

    def _resume(self, first: Sequence[Tensor]) -> None:
        with shapes_only():
            counts = [_count(weight.read().numel()) for weight in self._weights]
            device = self._weights[0].read().device
        if [len(sample) for sample in first] == counts:
            for sample in first:
                self._append_first(sample.to(device))

    def _append_first(self, sample: Tensor) -> None:
        self.first.append(sample)
        self._norms.append(_norm(sample))


def _count(numel: int) -> int:
    """Size of the sample of a weight with so many entries."""
    return math.ceil(numel / _step(numel))


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32))


def _fill(sample: Tensor, slices: Tensor, first_row: int, step: int) -> None:
    """Writes the entries of a weight's sample that lie in some of its rows."""
    before = first_row * slices.shape[2] * slices.shape[3]
    entries = _every(slices, -before % step, step)
    start = -(-before // step)
    sample[start : start + len(entries)] = entries


def sample(weight: Tensor) -> Tensor:
    """Every n-th entry of a weight in memory order, which is a view of almost every weight."""
    order = sorted(range(weight.dim()), key=weight.stride, reverse=True)
    return _every(weight.permute(order), 0, _step(weight.numel()))


def _every(values: Tensor, first: int, step: int) -> Tensor:
    """Every n-th entry, from the entry ``first`` on; never copies all entries."""
    try:
        return values.view(-1)[first::step]
    except RuntimeError:  # the strides allow no view
        index = torch.arange(first, values.numel(), step, device=values.device)
        return values[torch.unravel_index(index, values.shape)]


def _step(numel: int) -> int:
    """The smallest step that gives at most `SAMPLE` entries and is coprime to ``numel``.

    A step that shared a divisor with an axis would sample some positions along it and never the others.
    """
    step = max(1, math.ceil(numel / SAMPLE))
    while math.gcd(step, numel) > 1:
        step += 1
    return step
