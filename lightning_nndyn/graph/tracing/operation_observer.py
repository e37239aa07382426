"""Observes the operations and modules of one forward pass, and changes nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_nndyn.graph.tracing.compiled_modules import uncompiled
from lightning_nndyn.graph.tracing.module_stack import ModuleStack
from lightning_nndyn.graph.tracing.operation import Operation
from lightning_nndyn.graph.tracing.origins import ChannelOrigins
from lightning_nndyn.graph.tracing.parameters import ParameterTable
from lightning_nndyn.graph.tracing.tensor_origins import OriginTable

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from typing_extensions import Self

# The getter of `Tensor._base`: the tables ask for it, and it makes no tensor.
_BASE: Any = vars(torch._C.TensorBase)["_base"].__get__


class OperationObserver(TorchFunctionMode):
    """A context manager for a forward pass; subclasses say what is done with operations and modules.

    Hooks are gone on exit, and no activation is kept alive.

    Args:
        model: the module that is called.
        external: gives the origins of a tensor that was made outside of the pass.
    """

    def __init__(self, model: nn.Module, external: Callable[[Tensor], ChannelOrigins]) -> None:
        super().__init__()
        self._model = model
        self._stack = ModuleStack(model, self._module_returned)
        self._parameters = ParameterTable(model, self._stack.running)
        self._origins = OriginTable([*model.parameters(), *model.buffers()], external)
        self._handles: list[RemovableHandle] = []
        self._uncompiled = ExitStack()

    def __enter__(self) -> Self:
        """Installs the hooks; compiled parts of the model run uncompiled meanwhile."""
        self._uncompiled = uncompiled(self._model)
        self._stack.attach()
        self._handles = self._parameters.readers.on_unflatten(self._add_parameter)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: Any) -> None:
        """Removes the hooks."""
        self._uncompiled.close()
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        self._stack.detach()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the operation, then observes it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not (torch.compiler.is_compiling() or func == _BASE or self._stack.in_custom_layer):
            operation = Operation(func, args, kwargs, out, getattr(func, "__name__", ""))
            if operation.name == "__setitem__":
                self._origins.record_item(*args)
            else:
                self._parameters.follow(operation)
                self._origins.record_outputs(operation, self._output_origins(operation))
        return out

    def _add_parameter(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        """FSDP has put a tensor in the place of a flat weight."""
        self._origins.ignore(tensor)  # which keeps it alive
        self._parameters.add(module, attribute, tensor)

    def _output_origins(self, operation: Operation) -> Sequence[ChannelOrigins]:
        """The origins of each tensor that an operation has returned."""
        raise NotImplementedError

    def _module_returned(
        self, name: str, module: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        """A module was called with ``inputs`` and returned ``outputs``; not within custom layers."""
        raise NotImplementedError
