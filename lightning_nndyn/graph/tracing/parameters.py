"""Which weight a tensor is: a parameter, a view or part of one, or a weight that its module computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._C import _functorch as functorch
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_nndyn.graph.sharding import WeightReaders, is_distributed, is_flat_parameter
from lightning_nndyn.graph.tracing.compiled_modules import named_modules, plain_name
from lightning_nndyn.graph.tracing.movements import MOVEMENTS
from lightning_nndyn.graph.tracing.operation import Operation, tensors_in
from lightning_nndyn.graph.weights import weight_of

# Operations whose result shows the same weight: movements, and casts and copies of all of it.
_VIEWS = MOVEMENTS.union(
    """to contiguous clone detach float type type_as requires_grad_ __get__ data conj view_as_complex
    view_as_real""".split()
)


class Weight(NamedTuple):
    """A weight.

    Attributes:
        parameter: the name of its parameter.
        read: returns its value now.
        computed: whether its module computes it, of any of its parameters.
    """

    parameter: str
    read: Callable[[], Tensor]
    computed: bool = False

    @property
    def module(self) -> str:
        """The name of the module that owns it."""
        return self.parameter.rpartition(".")[0]

    @property
    def layer(self) -> str:
        """The layer's name: the module's, or the parameter's if that is not called ``weight``."""
        owner, _, attribute = self.parameter.rpartition(".")
        return owner if attribute == "weight" and owner else self.parameter


class ParameterTable:
    """Finds the weight that a tensor is, by identity, and follows the views that a forward pass takes of it.

    A tied weight has several names: that in the module that runs is taken, otherwise the first.

    Args:
        model: the module.
        running: names and modules whose forward is running, innermost last; kept up to date by the caller.

    Attributes:
        readers: makes readers of the weights.
    """

    def __init__(self, model: nn.Module, running: Sequence[tuple[str, nn.Module]]) -> None:
        self._model, self._running = model, running
        self._modules = dict(named_modules(model))
        self._module_names = {id(module): name for name, module in self._modules.items()}
        self.readers = WeightReaders(model, self._modules)
        self._names = self._current_names()
        self._views: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._is_sharded = any(map(is_distributed, model.parameters()))

    def _current_names(self) -> dict[int, list[str]]:
        """The names of each parameter, by its identity."""
        names: dict[int, list[str]] = {}
        for name, parameter in self._model.named_parameters(remove_duplicate=False):
            if not is_flat_parameter(name):
                names.setdefault(id(parameter), []).append(plain_name(name))
        return names

    def add(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        """Adds a tensor that FSDP puts in the place of a flat weight; the caller must keep it alive."""
        self._names[id(tensor)] = [parameter_name(self._module_names[id(module)], attribute)]

    @property
    def owners(self) -> frozenset[str]:
        """The names of the modules that have parameters of their own."""
        named = self._modules.items()
        return frozenset(name for name, one in named if one._parameters and ".parametrizations" not in name)

    def find_modules_again(self) -> None:
        """Modules may have been replaced: from now on the weights are read of those that have their names."""
        modules = dict(named_modules(self._model))
        self._modules.clear()
        self._modules.update(modules)

    def find(self, tensor: Any) -> Weight | None:
        """The weight that a tensor is or shows part of; None for any other tensor.

        Where `torch.vmap` runs several models at once, with their weights stacked, it is that of the first.
        """
        if not isinstance(tensor, Tensor):
            return None
        if functorch.is_functorch_wrapped_tensor(tensor) and tensor not in self._views:
            return _first_of(self.find(functorch.get_unwrapped(tensor)), functorch.maybe_get_bdim(tensor))
        name = self._name_of(tensor)
        if name is None:
            return self._views.get(tensor)
        owner, _, attribute = name.rpartition(".")
        return Weight(name, self.readers.reader(owner, attribute))

    def _name_of(self, tensor: Tensor) -> str | None:
        names = self._names.get(id(tensor))
        if names is None and self._is_sharded and isinstance(tensor, nn.Parameter):
            # FSDP2 has put whole weights in their places.
            self._names |= self._current_names()
            names = self._names.get(id(tensor))
        return None if names is None else self._name_in_running_module(tensor, names) or names[0]

    def _name_in_running_module(self, tensor: Tensor, names: Sequence[str]) -> str | None:
        """One of the names; none where `functional_call` gives the module a parameter of another one."""
        if self._running:
            owner, module = self._running[-1]
            for attribute, parameter in module.named_parameters(recurse=False):
                name = parameter_name(owner, attribute)
                if parameter is tensor and name in names:
                    return name
        return None

    def find_computed(self, tensor: Tensor) -> Weight | None:
        """The weight that the running module computes (parametrised, standardised); None if it has none.

        Args:
            tensor: what was used as a weight; its shape must be the same.
        """
        name, module = self.running
        if module is None:
            return None
        now = None if self.runs_with_others(module) else weight_of(module)
        if now is None or now.shape != tensor.shape:
            return None
        return Weight(parameter_name(name, "weight"), self.readers.reader(name, "weight"), computed=True)

    def custom(self, module: str, read: Callable[[nn.Module], Tensor]) -> Weight:
        """The weight of a module of the user's own, which a function of the module reads."""
        return Weight(parameter_name(module, "weight"), lambda: read(self._modules[module]), computed=True)

    @property
    def running(self) -> tuple[str, nn.Module | None]:
        """Name and module whose forward is running, the innermost; None if there is none."""
        return self._running[-1] if self._running else ("", None)

    def runs_with_others(self, module: nn.Module) -> bool:
        """Whether a module that runs has other parameters than those of the model.

        `functional_call` gives it other tensors for one call; a hypernetwork may set its ``weight``.
        """
        own = [one for one in own_parameters(module) if one is not None]
        set_by_hand = None if own else vars(module).get("weight")
        if isinstance(set_by_hand, Tensor):
            return self.find(set_by_hand) is None
        return not all(self._belongs_to(module, one) for one in own)

    def _belongs_to(self, module: nn.Module, tensor: Tensor) -> bool:
        names = self._names.get(id(tensor))
        if names is None:
            return self.find(tensor) is not None
        prefix = parameter_name(self._module_names.get(id(module), ""), "")
        return any(name.startswith(prefix) for name in names)

    def follow(self, operation: Operation) -> None:
        """Remembers the views of a weight that an operation has made."""
        if operation.name not in _VIEWS or not operation.args:
            return
        weight = self.find(operation.args[0])
        if weight is None or len(operation.tensors) > 1:
            return
        for index, tensor in enumerate(operation.outputs):
            if id(tensor) not in self._names:
                call = operation.func, operation.args[1:], operation.kwargs
                read = partial(_read_view, weight.read, *call, index)
                self._views[tensor] = Weight(weight.parameter, read)


def own_parameters(module: nn.Module) -> Iterator[Tensor | None]:
    """A module's own parameters and those of its parametrisations; none of its submodules."""
    yield from module._parameters.values()
    if is_parametrized(module):
        for part in cast(nn.Module, module.parametrizations).modules():
            yield from part._parameters.values()


def _first_of(weight: Weight | None, axis: int) -> Weight | None:
    """The first entry of a weight along an axis; all of it where the axis is -1."""
    if weight is None or axis < 0:
        return weight
    return weight._replace(read=partial(_read_view, weight.read, torch.select, (axis, 0), {}, 0))


def parameter_name(module: str, attribute: str) -> str:
    """The name of a module's parameter; the module's own name is empty for the whole model."""
    return f"{module}.{attribute}" if module else attribute


def _read_view(
    read: Callable[[], Tensor],
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    index: int,
) -> Tensor:
    with torch.no_grad():
        return list(tensors_in(func(read(), *args, **kwargs)))[index]
