"""The optimizer of a run, from its configuration."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightning_nndyn.corpus.run_config import RunConfig


def make_optimizer(config: RunConfig, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a run; `momentum` is the first beta of those that have betas."""
    rate, decay, momentum = config.learning_rate, config.weight_decay, config.momentum
    optimizer = torch.optim
    if config.optimizer in ("sgd", "nesterov"):
        nesterov = config.optimizer == "nesterov"
        return optimizer.SGD(parameters, rate, momentum, weight_decay=decay, nesterov=nesterov, foreach=True)
    if config.optimizer == "rmsprop":
        return optimizer.RMSprop(parameters, rate, 0.99, weight_decay=decay, momentum=momentum, foreach=True)
    if config.optimizer == "lion":
        return Lion(parameters, rate, (momentum, 0.99), decay)
    kind = optimizer.Adam if config.optimizer == "adam" else optimizer.AdamW
    return kind(parameters, rate, (momentum, 0.999), weight_decay=decay, foreach=True)


class Lion(torch.optim.Optimizer):
    """Steps of the learning rate in the sign of a mixture of gradient and momentum (arXiv 2302.06675).

    Args:
        parameters: To train.
        lr: Learning rate; a third to a tenth of AdamW's.
        betas: Of the mixture, and of the momentum.
        weight_decay: Decoupled, as AdamW's.
    """

    def __init__(
        self,
        parameters: Iterator[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            trained: list[Tensor] = [one for one in group["params"] if one.grad is not None]
            if trained:
                self._step(group, trained)
        return loss

    def _step(self, group: dict[str, Any], trained: list[Tensor]) -> None:
        rate, (mixture, keep) = group["lr"], group["betas"]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        momenta = [self._momentum(parameter) for parameter in trained]
        directions = torch._foreach_lerp(gradients, momenta, mixture)
        torch._foreach_sign_(directions)
        torch._foreach_mul_(trained, 1 - rate * group["weight_decay"])
        torch._foreach_add_(trained, directions, alpha=-rate)
        torch._foreach_lerp_(momenta, gradients, 1 - keep)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]
