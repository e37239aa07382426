"""Modules wrapped by `torch.compile`, FSDP or activation checkpointing: plain names, uncompiled calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FunctionType, MethodType
from typing import Any

from torch import nn

# The attributes in which wrappers keep the module that they wrap.
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def plain_name(name: str) -> str:
    """The name that a module or parameter would have if nothing were wrapped."""
    return ".".join(part for part in name.split(".") if part not in _INSIDE)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by their plain names; in place of each wrapper the module that it wraps."""
    for name, module in model.named_modules():
        if not any(inside in module._modules for inside in _INSIDE):
            yield plain_name(name), module


def uncompiled(model: nn.Module) -> ExitStack:
    """Makes compiled modules and methods of a model run as they were written, until the stack is closed.

    Only entries in the modules' own dictionaries are replaced. Compiled functions that no module holds stay
    compiled. (The compiler's stance `force_eager` does not serve: it holds for all threads, and operators
    that capture a part of the model, such as `torch.cond`, fail in it.)

    Args:
        model: its modules may be wrapped by `torch.compile`, compiled in place by `module.compile()`, or have
            methods that are compiled.
    """
    stack = ExitStack()
    methods = {kind: _compiled_methods(kind) for kind in {type(module) for module in model.modules()}}
    for module in model.modules():
        own = vars(module)
        written = {
            name: MethodType(f, module) for name, f in methods[type(module)].items() if name not in own
        }
        written |= {name: f for name, value in own.items() if (f := _as_written(value)) is not None}
        for name, call in written.items():
            stack.callback(_put_back, own, name, call, *([own[name]] if name in own else []))
            own[name] = call
    return stack


def _put_back(own: dict[str, Any], name: str, call: Any, *before: Any) -> None:
    if own.get(name) is not call:  # it was replaced meanwhile: leave it
        return
    if before:
        (own[name],) = before
    else:
        del own[name]


def _compiled_methods(kind: type[nn.Module]) -> dict[str, Callable[..., Any]]:
    attributes = {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
    return {name: f for name, value in attributes.items() if (f := _as_written(value)) is not None}


def _as_written(value: Any) -> Any:
    """The function that a compiled function was made from; None for anything else."""
    # The check of the dictionary is for speed: it is empty for nearly all functions.
    if not isinstance(value, FunctionType) or not value.__dict__ or hasattr(value, "_torchdynamo_disable"):
        return None
    original = getattr(value, "_torchdynamo_orig_callable", None)
    # A decorator around a compiled function has copied its attributes, but does more than that function.
    return original if original is getattr(value, "__wrapped__", None) else None
