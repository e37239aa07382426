"""Whose weight a tensor is: a parameter, a view or part of one, or a weight that its module computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_nndyn.graph.sharding import WeightReaders, is_flat_parameter
from lightning_nndyn.graph.tracing import origins as pv
from lightning_nndyn.graph.tracing.compiled_modules import named_modules, plain_name
from lightning_nndyn.graph.weights import weight_of

_SAME_VALUES = frozenset("to contiguous clone detach float type type_as requires_grad_ __get__ data".split())
_VIEWS = pv.MOVEMENTS | {"_unsafe_view"} | _SAME_VALUES


class Weight(NamedTuple):
    """A weight's parameter and how to read it again."""

    parameter: str
    read: Callable[[], Tensor]

    @property
    def module(self) -> str:
        """The name of the module that owns it."""
        return self.parameter.rpartition(".")[0]

    @property
    def layer(self) -> str:
        """The layer's name: the module's, or the parameter's where that is not called ``weight``."""
        owner, _, attribute = self.parameter.rpartition(".")
        return owner if attribute == "weight" and owner else self.parameter


class ParameterNames:
    """Knows a model's parameters by name, and what FSDP puts in their places.

    A tied weight has several names: the one in the module that runs is meant, or else the first.

    Args:
        model: the module.
        stack: names and modules whose forward is running, innermost last; kept up by the caller.
    """

    def __init__(self, model: nn.Module, stack: Sequence[tuple[str, nn.Module]]) -> None:
        self._model, self._stack = model, stack
        self._owners = {id(module): name for name, module in named_modules(model)}
        self._names = self._now()

    def _now(self) -> dict[int, str]:
        named = reversed(list(self._model.named_parameters(remove_duplicate=False)))
        return {id(p): plain_name(name) for name, p in named if not is_flat_parameter(name)}

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._names

    def of(self, tensor: Tensor) -> str | None:
        """The name of a parameter; None for any other tensor."""
        name = self._names.get(id(tensor))
        if name is None and isinstance(tensor, nn.Parameter):  # FSDP puts whole ones in their places
            self._names |= self._now()
            name = self._names.get(id(tensor))
        return None if name is None else self._name_here(tensor) or name

    def _name_here(self, tensor: Tensor) -> str | None:
        if self._stack:
            owner, module = self._stack[-1]
            for attribute, parameter in module.named_parameters(recurse=False):
                if parameter is tensor:
                    return name_of(owner, attribute)
        return None

    def learn(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        """A tensor is in the place of a weight that FSDP keeps flat; the caller keeps it alive."""
        self._names[id(tensor)] = name_of(self._owners[id(module)], attribute)


def name_of(module: str, attribute: str) -> str:
    """The name of a parameter that a module of a name, empty for the whole model, has under an attribute."""
    return f"{module}.{attribute}" if module else attribute


class WeightNames:
    """Knows a model's parameters, and follows the views that its forward pass takes of them.

    Args:
        model: the module.
        stack: names and modules whose forward is running, innermost last; kept up by the caller.

    Attributes:
        names: of the parameters.
        readers: of the weights.
    """

    def __init__(self, model: nn.Module, stack: Sequence[tuple[str, nn.Module]]) -> None:
        self._stack = stack
        self._modules = dict(named_modules(model))
        self.readers = WeightReaders(model)
        self.names = ParameterNames(model, stack)
        self._views: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def find(self, tensor: Any) -> Weight | None:
        """The weight that a tensor is or shows part of; None for others."""
        if not isinstance(tensor, Tensor):
            return None
        name = self.names.of(tensor)
        if name is None:
            return self._views.get(tensor)
        owner, _, attribute = name.rpartition(".")
        return Weight(name, self.readers.reader(self._modules[owner], attribute))

    def computed(self, weight: Tensor) -> Weight | None:
        """A weight that is no parameter (parametrised, standardised, sharded): that of its module, if any."""
        if not self._stack:
            return None
        name, module = self._stack[-1]
        now = weight_of(module)
        if now is None or now.shape != weight.shape:
            return None
        return Weight(name_of(name, "weight"), self.readers.reader(module, "weight"))

    def follow(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Remembers the views of a weight that an operation has made."""
        if getattr(func, "__name__", "") not in _VIEWS or not args:
            return
        weight = self.find(args[0])
        rest = (args[1:], kwargs)
        if weight is None or any(True for _ in pv.tensors_in(rest)):
            return
        for index, tensor in enumerate(pv.tensors_in(out)):
            if tensor not in self.names:
                read = partial(_again, weight.read, func, args[1:], dict(kwargs), index)
                self._views[tensor] = Weight(weight.parameter, read)


def _again(
    read: Callable[[], Tensor],
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    index: int,
) -> Tensor:
    with torch.no_grad():
        return list(pv.tensors_in(func(read(), *args, **kwargs)))[index]
