"""Which layer calls of a training step belong to the network that is trained.

A step may call other networks beside it: a teacher, frozen or averaged; a target or a metric network. They
are as deep, or deeper, but no weight of theirs both trains and feeds the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from lightning_nndyn.graph.sharding import is_flat_parameter
from lightning_nndyn.graph.tracing.compiled_modules import plain_name
from lightning_nndyn.graph.tracing.layer_calls import LayerCall
from lightning_nndyn.graph.tracing.parameters import Weight

ASIDE = "beside the network that is trained: no optimizer holds its weights, or the loss does not reach them"


class TrainedWeights:
    """The weights that train in a step: an optimizer holds them, and the gradient of the loss reaches them.

    To be constructed before the step: within it requirements of gradients are toggled, and weights exchanged.

    Args:
        model: the model.
        optimizers: those of the training; where they hold none of the model's parameters, because they keep
            copies or are not known, all parameters that require gradients are taken as held.
    """

    def __init__(self, model: nn.Module, optimizers: Iterable[Any] = ()) -> None:
        named = list(model.named_parameters(remove_duplicate=False))
        self._identities = {plain_name(name): id(parameter) for name, parameter in named}
        self._parameters = [parameter for _, parameter in named]
        trainable = {id(parameter) for _, parameter in named if parameter.requires_grad}
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        given = {id(parameter) for group in groups for parameter in group["params"]}
        self._held = trainable & given or trainable
        self._reached = self._held

    @property
    def has_gradients(self) -> bool:
        """Whether any parameter of the model has a gradient now."""
        return any(parameter.grad is not None for parameter in self._parameters)

    def see_loss(self, loss: Tensor) -> None:
        """Finds the weights that its gradient reaches; where none are seen (FSDP), all count as reached."""
        self._reached = self._held & set(map(id, _leaves(loss))) or self._held

    def holds(self, weight: str) -> bool:
        """Whether an optimizer holds the weight of this name, or anything that it is computed from."""
        return any(self._identities[name] in self._held for name in names_behind(weight, self._identities))

    def part(self, calls: Mapping[int, LayerCall]) -> tuple[dict[int, LayerCall], frozenset[int]]:
        """The calls of the network that is trained, and which of them an optimizer holds the weights of.

        It ends where trained weights do. Frozen layers before and between them belong to it, so does a frozen
        layer behind them, but no frozen network there. All calls, where no weight of theirs trains, or flat
        parameters (FSDP) hide which do.

        Args:
            calls: all calls by number, in the order in which they were made.
        """
        weights = {
            number: set[int]().union(*(self._behind(one.weight) for one in call.inputs))
            for number, call in calls.items()
        }
        held = frozenset(number for number in calls if weights[number] & self._held)
        apart = self._frozen_networks({call.module for call in calls.values()})
        behind: set[int] = set()  # what reads something of a weight that trains
        ends: set[int] = set()
        for number, call in calls.items():
            if weights[number] & self._reached or behind & sources(call):
                behind.add(number)
                if number in held or call.module not in apart:
                    ends.add(number)
        if not ends or any(map(is_flat_parameter, self._identities)):
            return dict(calls), frozenset(calls)
        kept = _ancestors(calls, ends)
        return {number: call for number, call in calls.items() if number in kept}, held

    def _frozen_networks(self, modules: Collection[str]) -> set[str]:
        """Those of the modules that lie in a module of several layers, none of whose weights is held."""
        held = (name for name, identity in self._identities.items() if identity in self._held)
        trained = {outer for name in held for outer in _around(name.rpartition(".")[0])}
        outermost = {
            module: next((outer for outer in _around(module) if outer not in trained), "")
            for module in modules
        }
        sizes = Counter(outermost.values())
        return {module for module, outer in outermost.items() if outer and sizes[outer] > 1}

    def _behind(self, weight: Weight) -> set[int]:
        names = names_behind(weight.parameter, self._identities, weight.computed)
        return {self._identities[name] for name in names}


def names_behind(weight: str, parameters: Collection[str], computed: bool = False) -> list[str]:
    """Of the names of a model's parameters, those of a weight: its own, or those that it is computed from."""
    if weight in parameters and not computed:
        return [weight]
    owner = weight.rpartition(".")[0]
    prefix = f"{owner}." if owner else ""
    nested = [name for name in parameters if name.startswith(prefix)]
    rest = {name: name.removeprefix(prefix) for name in nested}
    own = [name for name in nested if "." not in rest[name] or rest[name].startswith("parametrizations.")]
    return own or nested


def sources(call: LayerCall) -> frozenset[int]:
    """The calls that feed a call."""
    return frozenset[int]().union(*(one.origins.sources for one in call.inputs))


def _ancestors(calls: Mapping[int, LayerCall], ends: Collection[int]) -> set[int]:
    """The ends, and all calls that feed them through others."""
    found = set(ends)
    for number in sorted(calls, reverse=True):
        if number in found:
            found |= sources(calls[number]) & calls.keys()
    return found


def _around(module: str) -> Iterator[str]:
    """The names of the modules around a module and its own, outermost first, without the whole model's."""
    return accumulate(module.split("."), "{}.{}".format)


def _leaves(loss: Tensor) -> list[Tensor]:
    """The parameters that the gradient of a loss reaches, as far as autograd shows them."""
    found: list[Tensor] = []
    waiting, seen = [loss.grad_fn], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if type(node).__name__ == "AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
    return found
