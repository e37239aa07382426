"""The optimizers of `training.make_optimizer`, for many runs at once.

Written out here because torch's take one learning rate and momentum for all of their parameters, and a CUDA
graph freezes these at their values when it was recorded. Whatever changes from step to step is computed on
the host, in double precision as torch does it, and looked up by the step's number.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_nndyn.corpus.presets.zoo import schedule_factor
from lightning_nndyn.corpus.run_config import RunConfig

_BETA2, _EPSILON = 0.999, 1e-8


class StackedOptimizer(Protocol):
    """Steps all runs of a stack; nothing passes from one row of weights to another."""

    state: list[Tensor]
    """What it keeps from step to step."""

    def update(self, weights: Tensor, gradient: Tensor, factors: Tensor) -> None:
        """Step weights [runs, numbers] by their gradient; `factors` [runs, k] are those of the step."""

    def factors(self, steps: range) -> Tensor:
        """What these steps, counted from 0 over the whole training, need: float64 [steps, runs, k]."""


def stacked_optimizer(configs: Sequence[RunConfig], steps: int, like: Tensor) -> StackedOptimizer:
    """The optimizer of runs that have the same kind; `steps` of the whole training, weights like `like`."""
    return _SGD(configs, steps, like) if configs[0].optimizer == "sgd" else _Adam(configs, steps, like)


def learning_rates(configs: Sequence[RunConfig], steps: range, total: int) -> Tensor:
    """Of these steps, counted from 0, of `total`: float64 [steps, runs]."""
    schedules = {config.schedule for config in configs}
    progress = [step / total for step in steps]
    factors = {name: [schedule_factor(name, moment) for moment in progress] for name in schedules}
    columns = torch.tensor([factors[config.schedule] for config in configs], dtype=torch.float64)
    rates = torch.tensor([config.learning_rate for config in configs], dtype=torch.float64)
    return columns.T * rates


class _SGD:
    """As torch: the buffer starts as the first gradient, which is what zeros and the rule give."""

    def __init__(self, configs: Sequence[RunConfig], steps: int, like: Tensor) -> None:
        self.configs, self.total = configs, steps
        self.momentum = _column([config.momentum for config in configs], like)
        self.decay = _column([config.weight_decay for config in configs], like)
        self.decays = any(config.weight_decay for config in configs)
        self.buffer = torch.zeros_like(like)
        self.state = [self.buffer]

    def factors(self, steps: range) -> Tensor:
        return learning_rates(self.configs, steps, self.total).unsqueeze(2)

    def update(self, weights: Tensor, gradient: Tensor, factors: Tensor) -> None:
        if self.decays:
            gradient = gradient.addcmul(weights, self.decay)
        self.buffer.mul_(self.momentum).add_(gradient)
        weights.addcmul_(self.buffer, factors, value=-1)


class _Adam:
    """Adam, and AdamW, whose decay acts on the weights themselves."""

    def __init__(self, configs: Sequence[RunConfig], steps: int, like: Tensor) -> None:
        self.configs, self.total = configs, steps
        self.decoupled = configs[0].optimizer == "adamw"
        self.new = _column([1 - config.momentum for config in configs], like)
        self.decay = _column([config.weight_decay for config in configs], like)
        self.mean, self.square = torch.zeros_like(like), torch.zeros_like(like)
        self.state = [self.mean, self.square]

    def factors(self, steps: range) -> Tensor:
        rates = learning_rates(self.configs, steps, self.total)
        number = torch.tensor(steps, dtype=torch.float64).add(1).unsqueeze(1)
        beta1 = torch.tensor([config.momentum for config in self.configs], dtype=torch.float64)
        decay = torch.tensor([config.weight_decay for config in self.configs], dtype=torch.float64)
        correction = (1 - _BETA2**number).sqrt().expand_as(rates)
        return torch.stack((rates / (1 - beta1**number), correction, 1 - rates * decay), dim=2)

    def update(self, weights: Tensor, gradient: Tensor, factors: Tensor) -> None:
        size, correction, kept = factors.unsqueeze(2).unbind(1)
        if self.decoupled:
            weights.mul_(kept)
        else:
            gradient = gradient.addcmul(weights, self.decay)
        self.mean.lerp_(gradient, self.new)
        self.square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = self.square.sqrt().div_(correction).add_(_EPSILON)
        weights.sub_((self.mean / scale).mul_(size))


def _column(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)
