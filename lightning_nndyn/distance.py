"""How far weights have moved from where they began: the part of a snapshot that no norm shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_nndyn.graph import LayerWeight

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

    Attributes:
        first: the sample of each layer's first weights, on their device; empty before the first call.
    """

    def __init__(self, weights: Sequence[LayerWeight], first: Sequence[Tensor] | None = None) -> None:
        self._weights = weights
        self.first: list[Tensor] = []
        self._norms: list[Tensor] = []
        if first:
            self._begin(first)

    def read(self) -> Tensor:
        """Frobenius distances from the weights of the first call, in units of those weights' norm.

        Returns:
            float64, shape [layers], on the weights' device; 0 for the first call.
        """
        samples = [_sample(weight.read().detach()) for weight in self._weights]
        if [sample.shape for sample in samples] != [sample.shape for sample in self.first]:
            self._begin([sample.clone() for sample in samples])
        pairs = zip(samples, self.first, self._norms, strict=True)
        return torch.stack([_norm(now - first) / norm for now, first, norm in pairs]).double()

    def _begin(self, first: Sequence[Tensor]) -> None:
        device = self._weights[0].read().device
        self.first = [sample.to(device) for sample in first]
        self._norms = [_norm(sample).clamp_min(torch.finfo(torch.float32).tiny) for sample in self.first]


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dtype=torch.float32)


def _sample(weight: Tensor) -> Tensor:
    """Every n-th entry of a weight as a view, in the order of memory: no layout costs a copy."""
    order = sorted(range(weight.dim()), key=weight.stride, reverse=True)
    flat = weight.permute(order).reshape(-1)
    return flat[:: _step(flat.numel())]


def _step(entries: int) -> int:
    """The smallest step to at most `SAMPLE` entries that shares no divisor with an axis: none is favoured."""
    step = max(1, math.ceil(entries / SAMPLE))
    while math.gcd(step, entries) > 1:
        step += 1
    return step
