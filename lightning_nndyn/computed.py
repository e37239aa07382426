"""Weights that a module computes from others before each of its forward passes.

`torch.nn.utils.weight_norm`, `torch.nn.utils.spectral_norm` and what `torch.nn.utils.prune` leaves do it in a
hook; so does Lightning's `ModelPruning`. After a step the module still holds the weight from before it.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
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
    return cast(Tensor, getattr(module, attribute))
