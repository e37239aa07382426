"""Weights that a module computes from others: they are read without a trace in the module.

`torch.nn.utils.weight_norm`, `torch.nn.utils.spectral_norm` and what `torch.nn.utils.prune` leaves do it in a
hook before each forward pass; so does Lightning's `ModelPruning`. After a step the module still holds the
weight from before it. `torch.nn.utils.parametrize` does it each time the weight is asked for, and in training
some change what they compute from: `spectral_norm` improves its estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def current_weight(module: nn.Module, attribute: str) -> Tensor:
    """A module's weight as its next forward pass would have it; nothing in the module changes.

    Args:
        module: the module.
        attribute: the weight's name in it.
    """
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == attribute:
            return cast(Tensor, hook.compute_weight(module))
        if isinstance(hook, SpectralNorm) and hook.name == attribute:
            return hook.compute_weight(module, do_power_iteration=False)
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == attribute:
            return hook.apply_mask(module)
    if is_parametrized(module, attribute):
        parametrizations = cast(nn.ModuleDict, module.parametrizations)
        with _evaluated(parametrizations[attribute]):
            return cast(Tensor, getattr(module, attribute))
    return cast(Tensor, getattr(module, attribute))


def readable(weight: Tensor) -> Tensor:
    """The weight where it can be summed up in float64: Apple's GPUs have none, so on the CPU there."""
    return weight.cpu() if weight.device.type == "mps" else weight


def weight_of(module: nn.Module) -> Tensor | None:
    """A module's `weight`, as `current_weight` has it; None if it has no such tensor."""
    try:
        found: object = current_weight(module, "weight")
    except AttributeError:
        return None
    return found if isinstance(found, Tensor) else None


@contextmanager
def _evaluated(module: nn.Module) -> Iterator[None]:
    """Out of training for a moment, each of its parts back as it was afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
