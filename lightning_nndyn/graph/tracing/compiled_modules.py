"""What `torch.compile` wraps: the plain names of its modules, and how to call them as they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FunctionType, MethodType
from typing import Any

from torch import nn

# What wrappers call the module that they wrap: torch.compile, FSDP, activation checkpointing.
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def plain_name(name: str) -> str:
    """The name that a module or parameter has where nothing is wrapped."""
    return ".".join(part for part in name.split(".") if part not in _INSIDE)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by their plain names; of a wrapper, that which it wraps."""
    for name, module in model.named_modules():
        if not any(inside in module._modules for inside in _INSIDE):
            yield plain_name(name), module


def uncompiled(model: nn.Module) -> ExitStack:
    """From now until the stack is closed, calls of compiled modules and methods run as they were written.

    Only those of this model, and only by what its modules' own dictionaries hold. (The compiler's stance
    `force_eager` is no way: it is one for all threads, and operators that capture a part of the model, such
    as `torch.cond`, fail in it.) Compiled functions that no module holds stay compiled.

    Args:
        model: whose modules are meant: wrapped by `torch.compile`, compiled in place by `module.compile()`,
            or with methods that are compiled.
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
    if own.get(name) is not call:  # somebody has put another there
        return
    if before:
        (own[name],) = before
    else:
        del own[name]


def _compiled_methods(kind: type[nn.Module]) -> dict[str, Callable[..., Any]]:
    attributes = {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
    return {name: f for name, value in attributes.items() if (f := _as_written(value)) is not None}


def _as_written(value: Any) -> Any:
    """What a compiled function was made of; None for anything else."""
    # The check of the dictionary is for speed: it is empty for nearly all functions.
    if not isinstance(value, FunctionType) or not value.__dict__ or hasattr(value, "_torchdynamo_disable"):
        return None
    original = getattr(value, "_torchdynamo_orig_callable", None)
    # A decorator around a compiled function has copied its attributes, but does more than that function.
    return original if original is getattr(value, "__wrapped__", None) else None
