"""Follows by hooks which module's forward is running."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from lightning_nndyn.graph.tracing.compiled_modules import named_modules
from lightning_nndyn.graph.tracing.custom_layers import custom_layer
from lightning_nndyn.graph.tracing.operation import tensors_in

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

OnLeave: TypeAlias = Callable[[str, nn.Module, list[Tensor], list[Tensor]], None]


class _Hook:
    """A hook whose copies remove themselves: a step may copy its model, for a teacher or another learner."""

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, module: nn.Module, *args: Any) -> None:
        if self._call is not None:
            self._call(module, *args)
            return
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook is self]:
                del hooks[key]

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class ModuleStack:
    """Follows the modules of a model while their forward runs.

    Args:
        model: the model.
        on_leave: called after each module's forward with its name, the module, and the tensors that went in
            and came out; not for what runs inside a layer that `register_layer` has described.

    Attributes:
        running: names and modules whose forward is running, innermost last.
        entered: names of all modules whose forward was called.
    """

    def __init__(self, model: nn.Module, on_leave: OnLeave) -> None:
        self.running: list[tuple[str, nn.Module]] = []
        self.entered: set[str] = set()
        self._model, self._on_leave = model, on_leave
        self._handles: list[RemovableHandle] = []
        self._custom_layers = 0

    @property
    def in_custom_layer(self) -> bool:
        """Whether a layer that `register_layer` has described is running: its inside is not looked at."""
        return self._custom_layers > 0

    def attach(self) -> None:
        """Installs the hooks."""
        for name, module in named_modules(self._model):
            self._handles += (
                module.register_forward_pre_hook(_Hook(partial(self._enter, name))),
                module.register_forward_hook(_Hook(self._leave), always_call=True, with_kwargs=True),
            )

    def detach(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.running.clear()
        self._custom_layers = 0

    def _enter(self, name: str, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self.running.append((name, module))
        self.entered.add(name)
        self._custom_layers += custom_layer(module) is not None

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        name, _ = self.running.pop()
        self._custom_layers -= custom_layer(module) is not None
        if not self.in_custom_layer:
            self._on_leave(name, module, [*tensors_in(args), *tensors_in(kwargs)], list(tensors_in(output)))
