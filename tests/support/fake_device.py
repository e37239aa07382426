"""A device that this machine does not have: its tensors are on the CPU, and copies to and fro are counted.

Torch knows the device from `register` on, for the rest of the process: only scripts may use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lightning_nndyn.graph import weights

DEVICE = torch.device("privateuseone", 0)
SUPPORTED = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")  # torch 2.10


class OnDevice(Tensor):
    """A tensor that lies on the device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("FakeDevice is not on")


class FakeDevice(TorchDispatchMode):
    """Makes the device work.

    Args:
        has_float64: whether it takes float64.

    Attributes:
        to_host: operations that have copied from the device to the host, or looked at a number there.
        to_device: those that have copied from the host to the device.
    """

    def __init__(self, has_float64: bool) -> None:
        super().__init__()
        self.has_float64 = has_float64
        self.to_host: list[str] = []
        self.to_device: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), str(func)
        tensors = _tensors((args, kwargs))
        there = [one for one in tensors if isinstance(one, OnDevice)]
        stays = self._stays(name, args, kwargs, bool(there))
        looks = "_local_scalar_dense" in name
        if there and (looks or not stays):
            self.to_host.append(name)
        if stays and "copy" in name and len(there) < len(tensors):
            self.to_device.append(name)
        out = func(*_unwrapped(args), **_unwrapped(kwargs))
        return tree_map_only(Tensor, self._wrapped, out) if stays else out

    def _stays(self, name: str, args: Any, kwargs: dict[str, Any], has_tensors_there: bool) -> bool:
        """Whether the result lies on the device."""
        wanted = kwargs.get("device")
        if wanted is not None:
            there = torch.device(wanted).type == DEVICE.type
            kwargs["device"] = "cpu"
            return there
        return isinstance(args[0], OnDevice) if "copy_." in name else has_tensors_there

    def _wrapped(self, tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64 and not self.has_float64:
            raise RuntimeError("Required aspect fp64 is not supported on the device")
        return OnDevice(tensor)

    def move(self, model: nn.Module) -> nn.Module:
        """Moves a model's parameters to the device."""
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(OnDevice(parameter.detach()))
        return model


def _unwrapped(tree: Any) -> Any:
    return tree_map_only(OnDevice, lambda one: one.inner, tree)


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, tree)
    return found


def register() -> None:
    """Makes torch know the device."""
    backend_registration._setup_privateuseone_for_python_backend()


@contextmanager
def fake_device(has_float64: bool) -> Iterator[FakeDevice]:
    """The device works inside; what it has is not remembered afterwards."""
    weights._has_float64.cache_clear()
    torch._C._set_only_lift_cpu_tensors(True)  # so that `torch.tensor` shows how it copies
    try:
        with FakeDevice(has_float64) as device:
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        weights._has_float64.cache_clear()
