"""The longest chain of convolutions, poolings and linear layers that a forward pass runs through.

Where `tracer` follows channels, this follows positions: every position of a layer's output is labelled, and
the next layer of the chain must read all of them in order. Operations between two layers may change each
entry, and add what comes from earlier layers: shortcuts, and layers in them, add no edges, as in the rolled
graph's chain. If operations mix, drop, reorder or join positions, there is no such chain, and an error names
the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor, nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.sharding import refuse_tensor_parallel
from lightning_nndyn.graph.tracing.custom_layers import custom_layer
from lightning_nndyn.graph.tracing.forward import call_model, side_effect_free
from lightning_nndyn.graph.tracing.operation import Operation, tensors_in
from lightning_nndyn.graph.tracing.operation_observer import OperationObserver
from lightning_nndyn.graph.tracing.origins import NO_ORIGINS, ChannelOrigins, channel_labels
from lightning_nndyn.graph.tracing.propagation import propagate
from lightning_nndyn.graph.tracing.recorder import CONVOLUTIONS, EMBEDDINGS, PRODUCTS
from lightning_nndyn.graph.unrolled_layers import Axis, UnrolledLayer

_POOLING = ("input", "kernel_size", "stride", "padding")
_ARGUMENTS = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "linear": ("input", "weight", "bias"),
    "max_pool2d": (*_POOLING, "dilation"),
    "max_pool2d_with_indices": (*_POOLING, "dilation"),
    "avg_pool2d": _POOLING,
    "adaptive_max_pool2d": ("input", "output_size"),
    "adaptive_avg_pool2d": ("input", "output_size"),
}
_WAY_OUT = (
    "an unrolled graph takes a chain, with shortcuts, of 2-d convolutions, max or average poolings, flatten "
    "and linear layers; nd.rolled_graph takes any network"
)
_Arguments: TypeAlias = Mapping[str, Any]


def trace_chain(
    model: nn.Module, example_input: Any, *, keep_values: bool = False
) -> tuple[list[UnrolledLayer], list[Tensor]]:
    """Runs the model once, in evaluation mode and without side effects, and records its layers.

    Args:
        model: the network.
        example_input: a batch, or a tuple or dict of arguments with one tensor.
        keep_values: whether to keep what each layer reads.

    Returns:
        The layers, first to last; and the values that each one reads, float64 [sources], if they were asked
        for.

    Raises:
        TracingError: if the model has no chain of such layers, or rejects the input.
        ValueError: if values are to be kept of more than one sample.
    """
    inputs = list(tensors_in(example_input))
    if len(inputs) != 1 or inputs[0].dim() < 2:
        raise TracingError(
            f"example_input holds {len(inputs)} tensors, of shapes {[tuple(x.shape) for x in inputs]}: pass "
            f"one batch [N, C, H, W] or [N, features]"
        )
    if keep_values and len(inputs[0]) != 1:
        raise ValueError(
            f"the activation form belongs to one sample, example_input holds {len(inputs[0])}: pass "
            f"example_input[:1]"
        )
    tracer = _PositionTracer(model, inputs[0], keep_values)
    try:
        with side_effect_free(model), tracer:
            out = call_model(model, example_input)
    except TracingError:
        raise
    except Exception as error:  # whatever a model raises on an input that does not fit it
        raise TracingError(
            f"{type(model).__name__} rejects the example input of shape {tuple(inputs[0].shape)} "
            f"({type(error).__name__}: {error}); pass example_input= with a batch that it takes"
        ) from error
    return tracer.chain(out)


@dataclass(frozen=True)
class _Stage:
    """The output of a layer, or the input of the model.

    Attributes:
        nodes: its number of positions.
        layer: the layer; None for the input.
        before: number of the stage that the layer reads along the longest way to it.
        length: layers of this way that have a weight, and all of them.
        values: what the layer reads, if it is kept.
    """

    nodes: int
    layer: UnrolledLayer | None = None
    before: int = 0
    length: tuple[int, int] = (0, 0)
    values: Tensor | None = None


class _PositionTracer(OperationObserver):
    """Labels every position: stage 0 is the input, stage ``i`` the output of the ``i``-th layer call."""

    def __init__(self, model: nn.Module, x: Tensor, keep_values: bool) -> None:
        super().__init__(model, lambda tensor: NO_ORIGINS)
        self._stages = [_Stage(x[0].numel())]
        self._keep_values = keep_values
        self._origins.record(x, self._positions(x))

    def _output_origins(self, operation: Operation) -> Sequence[ChannelOrigins]:
        found = self._layer(operation)
        return propagate(operation, self._origins.__getitem__) if found is None else found

    def _module_returned(self, name: str, module: nn.Module, *_: Any) -> None:
        if custom_layer(module) is not None:
            raise TracingError(f"{name}, a layer of your own ({type(module).__name__}): {_WAY_OUT}")

    def _positions(self, out: Tensor) -> ChannelOrigins:
        labels = channel_labels(self._last, out[0].numel())
        return ChannelOrigins((labels.view(1, *out.shape[1:]),))

    def _layer(self, operation: Operation) -> list[ChannelOrigins] | None:
        """Adds a layer; None for an operation that is no layer."""
        name = operation.name
        if name in _ARGUMENTS:
            first, *rest = operation.outputs  # a max pooling may return indices too
            given = dict(zip(_ARGUMENTS[name], operation.args, strict=False), **operation.kwargs)
            self._append(name, given, first)
            return [self._positions(first), *(NO_ORIGINS for _ in rest)]
        if "pool" in name or self._is_other_layer(operation):
            raise TracingError(f"{name}, after {self._name_of(self._last)}, has no place here: {_WAY_OUT}")
        return None

    def _is_other_layer(self, operation: Operation) -> bool:
        name = operation.name
        if name in CONVOLUTIONS or name in EMBEDDINGS:
            return True
        if name not in PRODUCTS:
            return False
        found = (self._parameters.find(tensor) for tensor in operation.tensors if tensor.dim() > 1)
        # Products in which a parametrisation computes a weight are no layers.
        return any(w is not None and ".parametrizations." not in f".{w.parameter}" for w in found)

    def _append(self, operation: str, given: _Arguments, out: Tensor) -> None:
        x = given["input"]
        axes, shape = (2, "vectors") if operation == "linear" else (4, "images")
        if x.dim() != axes:
            raise TracingError(
                f"{operation}, after {self._name_of(self._last)}, reads a tensor of shape "
                f"{tuple(x.shape)}, not a batch of {shape}: {_WAY_OUT}"
            )
        build = {"linear": self._linear, "conv2d": self._convolution}.get(operation, self._pooling)
        layer = build(operation, given, x, out)
        before = self._source(layer.name, self._origins[x], x)
        weighted, layers = self._stages[before].length
        values = x[0].detach().double().flatten().clone() if self._keep_values else None
        length = (weighted + (not layer.pooling), layers + 1)
        self._stages.append(_Stage(layer.targets, layer, before, length, values))

    def _source(self, name: str, found: ChannelOrigins, x: Tensor) -> int:
        """The stage at the end of the longest way to what a layer reads; the earliest of several.

        It must be read as a whole and in order. What is added to it comes along shorter ways.
        """
        source = self._deepest(found.sources)
        if source is None or source in found.unordered_sources:
            self._refuse(name, found.sources)
        maps = found.maps_of(source)
        if len(maps) != 1 or not self._is_intact(maps[0], source, x):
            self._refuse(name, found.sources)
        return source

    def _deepest(self, stages: frozenset[int]) -> int | None:
        return max(sorted(stages), key=lambda stage: self._stages[stage].length, default=None)

    def _is_intact(self, label_map: Tensor, stage: int, x: Tensor) -> bool:
        """Whether a label map says that every entry of x comes from the stage's position of its place."""
        if label_map.shape[0] != 1:
            return False
        read = label_map.expand(1, *x.shape[1:]).flatten()
        return torch.equal(read, channel_labels(stage, self._stages[stage].nodes))

    def chain(self, out: Any) -> tuple[list[UnrolledLayer], list[Tensor]]:
        """The layers of the longest way to the model's output, and what they read if that was kept."""
        sources = frozenset[int]().union(*(self._origins[tensor].sources for tensor in tensors_in(out)))
        stage = self._deepest(sources)
        layers, values = list[UnrolledLayer](), list[Tensor]()
        while stage and (found := self._stages[stage]).layer is not None:
            layers.append(found.layer)
            values += [] if found.values is None else [found.values]
            stage = found.before
        if not layers:
            raise TracingError(f"the forward pass calls no layer of a chain: {_WAY_OUT}")
        return layers[::-1], values[::-1]

    def _refuse(self, reader: str, sources: frozenset[int]) -> NoReturn:
        if len(sources) == 1:
            what = f"what it reads of {self._name_of(max(sources))} was mixed, reordered or cut before"
        else:
            names = " and ".join(map(self._name_of, sorted(sources))) or "nothing that comes from the input"
            what = f"it reads {names}, not one after the other (a concatenation?)"
        raise TracingError(f"{reader}: {what}. {_WAY_OUT}")

    @property
    def _last(self) -> int:
        return len(self._stages) - 1

    def _name_of(self, stage: int) -> str:
        layer = self._stages[stage].layer
        return "the input" if layer is None else repr(layer.name)

    # -- the three kinds of layers ---------------------------------------------------------------------------

    def _weight(self, weight: Tensor, operation: str) -> tuple[str, Callable[[], Tensor]]:
        found = self._parameters.find(weight) or self._parameters.find_computed(weight)
        if found is None:
            raise TracingError(f"{operation} with a weight that is no parameter of a layer: {_WAY_OUT}")
        refuse_tensor_parallel(weight, found.layer)
        if weight.is_complex():
            raise TracingError(
                f"{found.layer} has complex weights, which have no sign: nd.rolled_graph takes their moduli"
            )
        return found.layer, found.read

    def _linear(self, operation: str, given: _Arguments, x: Tensor, out: Tensor) -> UnrolledLayer:
        name, read = self._weight(given["weight"], operation)
        return UnrolledLayer(name, x.shape[1], out.shape[1], Axis(), Axis(), lambda: read()[:, :, None, None])

    def _convolution(self, operation: str, given: _Arguments, x: Tensor, out: Tensor) -> UnrolledLayer:
        name, read = self._weight(given["weight"], operation)
        stride, dilation = _pair(given.get("stride", 1)), _pair(given.get("dilation", 1))
        kernel = given["weight"].shape[2:]
        padding = given.get("padding", 0)
        if padding == "valid":
            padding = 0
        elif padding == "same":  # of an odd number, the larger half is at the end
            padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
        rows, columns = _axes(x, out, kernel, stride, dilation, _pair(padding))
        return UnrolledLayer(name, x.shape[1], out.shape[1], rows, columns, read, given.get("groups", 1))

    def _pooling(self, operation: str, given: _Arguments, x: Tensor, out: Tensor) -> UnrolledLayer:
        source = self._deepest(self._origins[x].sources)
        layer = None if source is None else self._stages[source].layer
        name = f"{'input' if layer is None else layer.name}/{operation}"
        padding, dilation = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
        if "output_size" in given:
            kernel = stride = _adaptive(name, x, out)
        else:
            kernel = _pair(given["kernel_size"])
            stride = _pair(given.get("stride") or kernel)
        channels = x.shape[1]
        rows, columns = _axes(x, out, kernel, stride, dilation, padding)
        ones = torch.ones(channels, 1, *kernel, device=x.device)
        return UnrolledLayer(name, channels, channels, rows, columns, lambda: ones, channels, pooling=True)


def _adaptive(name: str, x: Tensor, out: Tensor) -> tuple[int, int]:
    """The windows of an adaptive pooling, where they are all of one size."""
    (height, width), (rows, columns) = x.shape[2:], out.shape[2:]
    if height % rows or width % columns:
        raise TracingError(
            f"{name} pools {height}x{width} positions to {rows}x{columns}, in windows of several sizes: pass "
            f"an example_input whose size it divides, or use nd.rolled_graph"
        )
    return height // rows, width // columns


def _axes(x: Tensor, out: Tensor, *geometry: Sequence[int]) -> tuple[Axis, Axis]:
    rows, columns = (Axis(x.shape[i], out.shape[i], *(pair[i - 2] for pair in geometry)) for i in (2, 3))
    return rows, columns


def _pair(value: Any) -> tuple[int, int]:
    """An argument that is one number for both axes, or one for each."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return (int(numbers[0]), int(numbers[-1]))
