"""Follows a forward pass from operation to operation, for the graph of its whole data flow.

Each layer call becomes a node layer, joined to every layer that feeds it through operations without a weight:
residual streams, branches, concatenations, gates, attention. What has no meaning as a layer is left out by
name, and what flowed in flows on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import refuse_tensor_parallel
from lightning_nndyn.graph.tracing import origins as pv
from lightning_nndyn.graph.tracing.channel_map import Reach, reaches
from lightning_nndyn.graph.tracing.compiled_modules import named_modules
from lightning_nndyn.graph.tracing.composite_layers import COMPOSITES
from lightning_nndyn.graph.tracing.coverage import reasons
from lightning_nndyn.graph.tracing.custom_layers import LayerKind, kind_of
from lightning_nndyn.graph.tracing.layer_calls import (
    Call,
    Coordinates,
    Origin,
    Port,
    build_graph,
    unknown_layout,
)
from lightning_nndyn.graph.tracing.layer_kinds import ATTENTION, EMBEDDING, LINEAR, product_kind
from lightning_nndyn.graph.tracing.origins import NOTHING, Provenance
from lightning_nndyn.graph.tracing.parameters import Weight, WeightNames, name_of
from lightning_nndyn.graph.tracing.propagation import blend, carries, carry, opaque
from lightning_nndyn.graph.tracing.tensor_origins import Stamps

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split())
_PRODUCTS = frozenset("matmul mm __matmul__ addmm".split())
_WITH_WEIGHTS = frozenset(
    """bilinear bmm baddbmm einsum tensordot inner conv_tbc mv addmv chain_matmul matmul mm addmm __matmul__
    __rmatmul__ _grouped_mm grouped_mm""".split()
)


_ATTENTION = frozenset(
    "matmul mm __matmul__ bmm baddbmm addbmm einsum scaled_dot_product_attention".split()
)  # of activations


@dataclass(frozen=True)
class _Axis:
    """One axis of a tensor that came from outside."""

    tensor: int
    axis: int
    size: int


class DataFlow:
    """The recorder behind `LayerTracer` with ``topology="dataflow"``.

    Args:
        model: the module whose layers are wanted.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stack: list[tuple[str, nn.Module]] = []
        self._handles: list[RemovableHandle] = []
        self._calls: dict[int, Call] = {}
        self._axes: dict[int, _Axis] = {}
        self._arrivals = 0
        self._closed = 0  # modules running whose inside is not looked at
        self._entered: set[str] = set()
        self._refused: dict[str, str] = {}
        self._accepted: set[str] = set()
        self._failure: Exception | None = None
        self._attends = False  # whether activations were multiplied by activations
        self.weights = WeightNames(model, self._stack)
        self.stamps = Stamps([*model.parameters(), *model.buffers()], self._arrival)

    def attach(self) -> None:
        """Installs hooks on all modules, which tell whose forward is running."""
        for name, module in named_modules(self._model):
            self._handles.append(module.register_forward_pre_hook(partial(self._enter, name)))
            self._handles.append(
                module.register_forward_hook(self._leave, always_call=True, with_kwargs=True)
            )

        self._handles += self.weights.readers.on_unflatten(self._learn)

    def _learn(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        self.stamps.own(tensor)  # which keeps it, and so its identity
        self.weights.names.learn(module, attribute, tensor)

    def detach(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()
        self._closed = 0

    def _enter(self, name: str, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._stack.append((name, module))
        self._entered.add(name)
        self._closed += kind_of(module) is not None

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        name, _ = self._stack[-1]
        kind = kind_of(module)
        self._closed -= kind is not None
        inputs, outputs = list(pv.tensors_in((args, kwargs))), list(pv.tensors_in(output))
        self._stack.pop()
        if self._closed:
            return
        try:
            with torch._C.DisableTorchFunction():
                if kind is not None and inputs and outputs:
                    self._registered(name, module, kind, inputs[0], outputs[0])
                self._see_through(inputs, outputs)
        except Exception as error:  # it must not end somebody's training step
            self._failure = error

    def _registered(self, name: str, module: nn.Module, kind: LayerKind, x: Tensor, out: Tensor) -> None:
        """A module of a class that `register_layer` was told about is one layer call."""
        weight = Weight(name_of(name, "weight"), partial(kind.read, module))
        port = self.port(weight, x, kind.axis, groups=kind.groups_of(module), transposed=kind.transposed)
        size, of = out.shape[kind.axis], type(module).__name__
        self.stamps[out] = self.call(weight.layer, name, size, [port], kind.axis, out, of)

    def _see_through(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """What comes out of a module unseen, from compiled or scripted code, was made of what went in."""
        for tensor in outputs:
            if tensor not in self.stamps:
                made = opaque([(x, self.stamps[x]) for x in inputs])
                self.stamps[tensor] = made if carries(tensor) else NOTHING

    def _arrival(self, tensor: Tensor) -> Provenance:
        """Labels every axis of a tensor that came from outside."""
        planes: list[Tensor] = []
        for axis in range(tensor.dim()):
            number = self._number()
            self._axes[number] = _Axis(self._arrivals, axis, tensor.shape[axis])
            planes += pv.output_of(number, tensor.shape[axis], axis, tensor.dim()).planes
        self._arrivals += 1
        return Provenance(tuple(planes))

    def _number(self) -> int:
        return len(self._calls) + len(self._axes)

    # -- operations

    def note(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        """Follows one operation of the forward pass, after it was done."""
        if self._closed:
            return
        name = getattr(func, "__name__", "")
        if name == "__setitem__":
            self.stamps.write(*args)
            return
        self.weights.follow(func, args, kwargs, out)
        found = self._layer(name, args, kwargs, out)
        if found is None:
            self._attends = self._attends or (name in _ATTENTION and self._mixes(args, kwargs))
            found = carry(func, args, kwargs, out, self.stamps.__getitem__)
        given = list(pv.tensors_in((args, kwargs)))
        for tensor, provenance in zip(pv.tensors_in(out), found, strict=True):
            if any(tensor is other for other in given):
                self.stamps.overwrite(tensor, provenance)
            else:
                self.stamps[tensor] = provenance

    def _mixes(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether two of an operation's tensors were made by layers."""
        made = [self.stamps[tensor].sources & self._calls.keys() for tensor in pv.tensors_in((args, kwargs))]
        return len([sources for sources in made if sources]) > 1

    def _layer(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> list[Provenance] | None:
        """Notes a layer call; None for an operation that is none."""
        if name in ("embedding", "embedding_bag"):
            return self._embedding(args, kwargs, out)
        if name == "linear" or name in CONVOLUTIONS:
            return self._named_product(name, args, kwargs, out)
        composite = COMPOSITES.get(name)
        if composite is not None:
            found = composite(self, args, kwargs, out)
            return self._pass_on(name, args, kwargs, out) if found is None else found
        if name in _PRODUCTS:
            return self._matrix_product(name, args, kwargs, out)
        return self._pass_on(name, args, kwargs, out) if name in _WITH_WEIGHTS else None

    def _embedding(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
    ) -> list[Provenance] | None:
        weight = self.weights.find(args[1] if len(args) > 1 else kwargs["weight"])
        if weight is None:
            return None
        rest = [NOTHING for _ in pv.tensors_in(out)][1:]
        first = next(pv.tensors_in(out))
        made = self.call(weight.layer, weight.module, first.shape[-1], [], -1, first, EMBEDDING)
        return [made, *rest]

    def _named_product(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
    ) -> list[Provenance]:
        """A linear layer or convolution called by its function."""
        named = dict(zip(("input", "weight", "bias"), args, strict=False), **kwargs)
        x, tensor, bias = named["input"], named["weight"], named.get("bias")
        groups = kwargs.get("groups", args[6] if len(args) > 6 else 1) if name != "linear" else 1
        axis = 1 - tensor.dim() if name in CONVOLUTIONS else -1
        weight = self.weights.find(tensor) or self.weights.computed(tensor)
        if weight is None:
            return [opaque([(t, self.stamps[t]) for t in (x, tensor)])]
        refuse_tensor_parallel(tensor, weight.layer)
        port = self.port(weight, x, axis, groups=groups, transposed=name.startswith("conv_transpose"))
        kind = product_kind(name, groups, x.shape[axis])
        made = self.call(weight.layer, weight.module, out.shape[axis], [port], axis, out, kind)
        return [self._plus(made, bias, out)]

    def _matrix_product(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor
    ) -> list[Provenance] | None:
        left, right = args[-2:]
        for tensor, x, transposed, axis in ((right, left, True, -1), (left, right, False, -2)):
            weight = self.weights.find(tensor)
            if weight is not None and tensor.dim() == 2 and x.dim() >= -axis:
                port = self.port(weight, x, axis, transposed=transposed)
                made = self.call(weight.layer, weight.module, out.shape[axis], [port], axis, out, LINEAR)
                return [self._plus(made, args[0] if name == "addmm" else None, out)]
        return self._pass_on(name, args, kwargs, out)

    def _plus(self, made: Provenance, addend: Tensor | None, out: Tensor) -> Provenance:
        """A product to which something is added: a parameter, or what other layers made."""
        if addend is None or not self.stamps[addend]:
            return made
        return blend([(out, made), (addend, self.stamps[addend])], out)

    def _pass_on(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> list[Provenance] | None:
        """An operation with a weight that has no place in the graph; None if it has no weight."""
        weights = [self.weights.find(tensor) for tensor in pv.tensors_in((args, kwargs)) if tensor.dim() > 1]
        named = [weight for weight in weights if weight is not None]
        for weight in named:
            self.refuse(weight.layer, f"{name} has no meaning in a rolled graph: it is passed through")
        if not named:
            return None
        lost = opaque([(tensor, self.stamps[tensor]) for tensor in pv.tensors_in((args, kwargs))])
        return [lost if carries(tensor) else NOTHING for tensor in pv.tensors_in(out)]

    # -- what the rules of composite layers use

    def refuse(self, name: str, reason: str) -> None:
        """Leaves a layer out by name, unless it is in the graph elsewhere."""
        self._refused[name] = reason

    def accept(self, name: str) -> None:
        """Takes back a refusal, for good."""
        self._accepted.add(name)

    def port(
        self, weight: Weight, x: Tensor, axis: int, *, groups: int = 1, transposed: bool = False
    ) -> Port:
        """A product that reads ``x`` along an axis."""
        size = x.shape[axis]
        return self.port_of(weight, self.stamps[x], axis, size, groups=groups, transposed=transposed)

    def port_of(
        self,
        weight: Weight,
        provenance: Provenance,
        axis: int,
        size: int,
        *,
        groups: int = 1,
        transposed: bool = False,
    ) -> Port:
        """A product whose input has the given provenance."""
        found = reaches(provenance, axis, size)
        fed = {source: reach for source, reach in found.items() if source in self._calls}
        lost = {source: self._calls[source].size for source in provenance.opaque if source in self._calls}
        origins = self._origins({source: found[source] for source in found if source in self._axes}, size)
        return Port(weight.read, size, groups, transposed, fed | unknown_layout(lost), origins)

    def _origins(self, found: Mapping[int, Reach], size: int) -> dict[Origin, dict[int, Coordinates]]:
        """Which entry of each outside tensor stands at each input position; the first, where several do."""
        tensors: dict[int, list[tuple[_Axis, Reach]]] = {}
        for number, reach in found.items():
            axis = self._axes[number]
            tensors.setdefault(axis.tensor, []).append((axis, reach))
        return dict(_entries(tensor, axes, size) for tensor, axes in tensors.items())

    def call(
        self, name: str, module: str, size: int, ports: Sequence[Port], axis: int, out: Tensor, kind: str
    ) -> Provenance:
        """Notes a layer call.

        Returns:
            The provenance of its output, with ``size`` channels along ``axis``.
        """
        number = self._number()
        self._calls[number] = Call(name, module, size, ports, kind)
        return pv.output_of(number, size, axis, out.dim())

    # -- the graph

    def graph(self) -> RolledGraph:
        """The rolled graph of the pass that was watched.

        Raises:
            TracingError: if no layer was called, or a registered one is not what `register_layer` was told.
        """
        if self._failure is not None:
            raise TracingError(
                f"a module's call could not be followed ({type(self._failure).__name__}: {self._failure}); "
                f"where it is of a registered class, compare it with what register_layer was told"
            ) from self._failure
        if not any(call.ports for call in self._calls.values()):
            raise TracingError(
                f"no layer with a weight of {type(self._model).__name__} was called in the forward pass "
                f"(compiled and scripted code hides its layers); register_layer(cls) describes your own"
            )
        kept = {call.module for call in self._calls.values()}
        read = {call.name for call in self._calls.values()} | self._accepted
        left_out = reasons(self._model, kept, read, self._refused, self._entered)
        return build_graph(self._calls, left_out, [ATTENTION] if self._attends else [])


def _entries(
    tensor: int, axes: Sequence[tuple[_Axis, Reach]], size: int
) -> tuple[Origin, dict[int, Coordinates]]:
    """Coordinates along the axes that tell positions apart."""
    columns = {axis.axis: _first_labels(reach, size) for axis, reach in axes}
    told = [axis.axis for axis, reach in axes if _tells(reach, axis.size)]
    positions = sorted(set().union(*columns.values()))
    entries = {position: tuple(columns[axis].get(position, -1) for axis in told) for position in positions}
    return (tensor, tuple(told)), entries


def _first_labels(reach: Reach, size: int) -> dict[int, int]:
    """The first of the entries along an axis that meet each position."""
    if reach.positions is None:
        return dict.fromkeys(range(size), int(reach.channels[0]))
    pairs = zip(reach.positions.tolist(), reach.channels.tolist(), strict=True)
    return dict(sorted(pairs, reverse=True))


def _tells(reach: Reach, length: int) -> bool:
    """Whether other entries along an axis meet other positions; or one of several meets the only position."""
    if reach.positions is None:
        return False
    order = torch.argsort(reach.positions, stable=True)
    positions, counts = torch.unique_consecutive(reach.positions[order], return_counts=True)
    if len(positions) == 1:
        return len(order) == 1 and length > 1
    if not bool((counts == counts[0]).all()):
        return True
    rows = reach.channels[order].view(len(positions), -1)
    return not bool((rows == rows[0]).all())
