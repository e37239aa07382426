"""How far weights have moved from where they began: the part of a snapshot that no norm shows."""

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
"""Entries of a layer's weight that are followed at most: all of a small layer, a lattice of a large one."""


class WeightDistances:
    """Keeps a sample of each layer's first weights, and compares today's with it.

    The sample is the same entries each time, evenly spread: with 8192 of them the distance of a large layer
    is known to about a percent, and a checkpoint that carries them grows by at most 32 KiB a layer.

    Args:
        weights: where the layers' weights are read from.
        first: what an earlier object for the same layers had as its `first`; None to begin with the next
            call of `read`. Samples of other sizes than today's are forgotten.
        rows: the outputs of each weight that are on this process, where other processes have the others.
        collective: with those processes; `read` is a collective operation then.

    Attributes:
        first: the sample of each layer's first weights, on their device; empty before the first call.
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

    def read(self) -> Tensor:
        """Frobenius distances from the weights of the first call, in units of those weights' norm.

        Returns:
            float64, shape [layers], on the weights' device; 0 for the first call. A layer that begins at
            zero (a head, LoRA's second matrix) has no such unit: 1 once it has moved.
        """
        begins = not self.first
        distances = []
        for place, now in enumerate(self._samples()):
            if begins:
                self._begin(now.clone())
            far, size = _norm(now - self.first[place]), self._norms[place]
            size = torch.where(size > 0, size, far).clamp_min(torch.finfo(torch.float32).tiny)
            distances.append((far / size).double())
        return torch.stack(distances)

    def _samples(self) -> Iterator[Tensor]:
        """One at a time: it may be a view of a weight that was computed to be read."""
        if self._collective is None:
            return (_sample(weight.read().detach()) for weight in self._weights)
        with shapes_only():
            whole = [weight.read() for weight in self._weights]
        counts = [_count(weight) for weight in whole]
        samples = torch.zeros(sum(counts), device=whole[0].device).split(counts)
        for sample, rows, weight, all_of_it in zip(samples, self._rows, self._weights, whole, strict=True):
            assert rows is not None
            slices = weight.slices(rows)
            work = partial(_fill, sample, slices, rows.start, _step(all_of_it.numel()))
            self._collective.run_guarded(work, sample)
        return map(self._collective.all_reduce, samples)

    def _resume(self, first: Sequence[Tensor]) -> None:
        with shapes_only():
            counts = [_count(weight.read()) for weight in self._weights]
            device = self._weights[0].read().device
        if [len(sample) for sample in first] == counts:
            for sample in first:
                self._begin(sample.to(device))

    def _begin(self, first: Tensor) -> None:
        self.first.append(first)
        self._norms.append(_norm(first))


def _count(weight: Tensor) -> int:
    """How many entries of a weight are followed."""
    return math.ceil(weight.numel() / _step(weight.numel()))


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dtype=torch.promote_types(values.dtype, torch.float32))


def _fill(sample: Tensor, slices: Tensor, first_row: int, step: int) -> None:
    """Writes those entries of a weight's sample that some of its rows have."""
    before = first_row * slices.shape[2] * slices.shape[3]
    found = _every(slices, -before % step, step)
    place = -(-before // step)
    sample[place : place + len(found)] = found


def _sample(weight: Tensor) -> Tensor:
    """Every n-th entry of a weight, in the order of memory, in which most are a view."""
    order = sorted(range(weight.dim()), key=weight.stride, reverse=True)
    return _every(weight.permute(order), 0, _step(weight.numel()))


def _every(values: Tensor, first: int, step: int) -> Tensor:
    """Every n-th entry; no layout costs a copy of all."""
    try:
        return values.view(-1)[first::step]
    except RuntimeError:  # strides allow no view
        places = torch.arange(first, values.numel(), step, device=values.device)
        return values[torch.unravel_index(places, values.shape)]


def _step(entries: int) -> int:
    """The smallest step to at most `SAMPLE` entries that shares no divisor with an axis: none is favoured."""
    step = max(1, math.ceil(entries / SAMPLE))
    while math.gcd(step, entries) > 1:
        step += 1
    return step
