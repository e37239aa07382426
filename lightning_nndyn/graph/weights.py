"""Reads a module's weight without changing the module, also if the weight is computed from other tensors.

`torch.nn.utils.weight_norm`, `spectral_norm` and `prune` (and Lightning's `ModelPruning`) compute the weight
in a hook before each forward pass, so after an optimizer step the module still holds the weight from before.
`torch.nn.utils.parametrize` computes it whenever it is read. In training mode that may change the module:
`spectral_norm` improves its estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def current_weight(module: nn.Module, attribute: str) -> Tensor:
    """The weight that a module's next forward pass would use.

    Args:
        module: the module, which does not change.
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
        with _evaluation_mode(parametrizations[attribute]):
            return cast(Tensor, getattr(module, attribute))
    return cast(Tensor, getattr(module, attribute))


def precise_dtype(device: torch.device) -> torch.dtype:
    """float64; float32 on devices without it, such as GPUs of Apple's and some of Intel's."""
    return torch.float64 if _has_float64(device.type) else torch.float32


@cache
def _has_float64(kind: str) -> bool:
    try:
        return torch.ones(2, device=kind).sum(dtype=torch.float64).dtype == torch.float64  # no wait for it
    except Exception:  # each kind of device refuses in its own words
        return False


def on_float64_device(weight: Tensor) -> Tensor:
    """The weight, copied to the CPU from devices that have no float64 to form sums in."""
    return weight if precise_dtype(weight.device) == torch.float64 else weight.cpu()


def weight_of(module: nn.Module) -> Tensor | None:
    """The `current_weight` of a module's ``weight``; None if it has no such tensor."""
    try:
        weight: object = current_weight(module, "weight")
    except AttributeError:
        return None
    return weight if isinstance(weight, Tensor) else None


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a module; afterwards each of its submodules is in the mode that it was in."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
