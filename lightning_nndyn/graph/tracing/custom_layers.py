"""Layers of the user's own, described by `register_layer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lightning_nndyn.graph.weights import on_float64_device

_REGISTERED: dict[type[nn.Module], CustomLayer] = {}


@dataclass(frozen=True)
class CustomLayer:
    """How a class of modules multiplies its input by a weight.

    Attributes:
        weight: the weight's attribute, or a function of the module that returns it.
        groups: the number of groups, or the attribute that holds it.
        transposed: whether the weight's input axis comes first.
        axis: the axis of input and output that holds the channels.
    """

    weight: str | Callable[[nn.Module], Tensor] = "weight"
    groups: int | str = 1
    transposed: bool = False
    axis: int = -1

    def read(self, module: nn.Module) -> Tensor:
        """The current weight."""
        found: Tensor = getattr(module, self.weight) if isinstance(self.weight, str) else self.weight(module)
        return on_float64_device(found)

    def groups_of(self, module: nn.Module) -> int:
        """The module's number of groups."""
        return int(getattr(module, self.groups)) if isinstance(self.groups, str) else self.groups


def register_layer(
    cls: type[nn.Module],
    weight: str | Callable[[nn.Module], Tensor] = "weight",
    *,
    groups: int | str = 1,
    transposed: bool = False,
    axis: int = -1,
) -> None:
    """Describes a class of modules as layers: each call of such a module is one layer call.

    For layers that tracing cannot look into: fused kernels, compiled code, quantised weights. Example::

        nd.register_layer(Int8Linear, lambda module: module.int_weight.float() * module.scale[:, None])

    Args:
        cls: the class; it stands for its subclasses as well.
        weight: name of the attribute that holds the weight, or a function of the module that returns it:
            [out, in / groups, *kernel], of a floating dtype.
        groups: the number of groups, or the name of the attribute that holds it.
        transposed: whether the weight is [in, out / groups, *kernel].
        axis: the axis that holds the channels in the module's first argument and in its output: -1 for layers
            like ``nn.Linear``, 1 for convolutions.

    Raises:
        TypeError: if ``cls`` is no subclass of ``nn.Module``.
    """
    if not issubclass(cls, nn.Module):
        raise TypeError(f"register_layer takes a subclass of torch.nn.Module, got {cls!r}")
    _REGISTERED[cls] = CustomLayer(weight, groups, transposed, axis)


def custom_layer(module: nn.Module) -> CustomLayer | None:
    """The description of a module's class, or of the nearest one that it inherits from; None without one."""
    if not _REGISTERED:  # the usual case: modules are asked twice for each call
        return None
    return next((_REGISTERED[cls] for cls in type(module).__mro__ if cls in _REGISTERED), None)
