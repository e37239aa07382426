"""Finds out which parametric layer feeds which, by watching one forward pass.

Every operation of the pass goes through a `TorchFunctionMode`: products with a weight are layer calls,
everything else carries the makers of its inputs on to its outputs (`origins`). The rolled
graph is the chain along the main path, the longest path, in parametric layers, of the true data-flow graph:
skips and projections beside it add nothing (section 3.1). The whole data-flow graph is the other topology
(`lightning_nndyn.graph.tracing.dataflow`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import WeightReaders, refuse_tensor_parallel, shapes_only
from lightning_nndyn.graph.tracing import origins as pv
from lightning_nndyn.graph.tracing.compiled_modules import named_modules, plain_name, uncompiled
from lightning_nndyn.graph.tracing.custom_layers import LayerKind, kind_of
from lightning_nndyn.graph.tracing.dataflow import DataFlow
from lightning_nndyn.graph.tracing.layer_kinds import EMBEDDING, module_kind, product_kind
from lightning_nndyn.graph.tracing.parameters import ParameterNames
from lightning_nndyn.graph.weights import weight_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.hooks import RemovableHandle

Topology: TypeAlias = Literal["chain", "dataflow"]
"""What a rolled graph shows: the main path alone, as in the paper, or all that flows between layers."""

_CONVOLUTIONS = frozenset("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d".split())
_RIGHT_PRODUCTS = frozenset("matmul mm __matmul__ addmm".split())
_UNSUPPORTED = frozenset(
    """multi_head_attention_forward lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    bilinear bmm baddbmm einsum tensordot inner embedding_bag conv_tbc __rmatmul__ mv addmv
    chain_matmul""".split()
)
_TRANSPOSES = frozenset("t transpose swapaxes swapdims permute adjoint".split())
_BASE: Any = vars(torch._C.TensorBase)["_base"].__get__  # shows a tensor, and makes none
_WAY_OUT = "name the chain's layers yourself: layers=['first', ..., 'last']"
_WAYS_OUT = f"take the graph of the whole data flow: topology='dataflow'; or {_WAY_OUT}"


@dataclass
class _Call:
    """One call of a parametric layer."""

    name: str
    weight: LayerWeight | None  # None for a layer that has no place in a rolled graph
    kind: str
    inputs: int
    outputs: int
    vectors: list[Tensor] = field(default_factory=list)  # who made each input position, one vector a plane
    opaque: frozenset[int] = frozenset()  # sources whose layout was lost on the way

    @property
    def sources(self) -> frozenset[int]:
        return self.opaque.union(*map(pv.makers, self.vectors))


class LayerTracer(TorchFunctionMode):
    """Watches a forward pass that somebody else makes and builds the rolled graph from it.

    Use it as a context manager around the pass. Nothing of the pass is changed: no random numbers are drawn,
    no input is kept, and hooks are gone on exit.

    Args:
        model: the module whose layers are wanted.
        layers: names of the chain's layers, first to last; given, nothing is traced.
        topology: ``"chain"`` for the main path, ``"dataflow"`` for the graph of the whole data flow.

    Raises:
        ValueError: if ``topology`` is unknown, or layers are named for another than the chain.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str] | None = None, *, topology: Topology = "chain"
    ) -> None:
        super().__init__()
        check_topology(topology, layers)
        self._flow = DataFlow(model) if topology == "dataflow" else None
        self._closed = 0  # registered layers running
        self._model = model
        self._layers = layers
        self._calls: list[_Call] = []
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._transposed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._modules = dict(named_modules(model))
        self._stack: list[tuple[str, nn.Module]] = []
        self._names = ParameterNames(model, self._stack)
        self._handles: list[RemovableHandle] = []
        self._embeddings: dict[str, str] = {}
        self._uncompiled = ExitStack()
        self._readers = WeightReaders(model)
        self._kept: list[Tensor] = []  # in the place of weights that FSDP keeps flat: their identity counts

    def __enter__(self) -> LayerTracer:
        """Installs the hooks and starts watching; compiled parts of the model run uncompiled meanwhile."""
        if self._layers is not None:
            return self
        self._uncompiled = uncompiled(self._model)
        if self._flow is not None:
            self._flow.attach()
            super().__enter__()  # type: ignore[no-untyped-call]
            return self
        for name, module in _traced_modules(self._model):
            self._handles.append(module.register_forward_pre_hook(partial(self._enter_module, name)))
            self._handles.append(module.register_forward_hook(self._leave_module, always_call=True))
        self._handles += self._readers.on_unflatten(self._learn)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: Any) -> None:
        """Stops watching and removes the hooks."""
        if self._layers is not None:
            return
        self._uncompiled.close()
        self._kept.clear()
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        if self._flow is not None:
            self._flow.detach()
        self._handles.clear()
        self._stack.clear()
        self._closed = 0

    def _learn(self, module: nn.Module, attribute: str, tensor: Tensor) -> None:
        self._names.learn(module, attribute, tensor)
        self._kept.append(tensor)

    def _enter_module(self, name: str, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._stack.append((name, module))
        self._closed += kind_of(module) is not None

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        name, _ = self._stack.pop()
        kind = kind_of(module)
        if kind is None:
            return
        self._closed -= 1
        tensors = [next(pv.tensors_in(tree), None) for tree in (args, output)]
        if not self._closed and isinstance(tensors[0], Tensor) and isinstance(tensors[1], Tensor):
            with torch._C.DisableTorchFunction():
                self._registered_call(name, module, kind, tensors[0], tensors[1])

    def _registered_call(self, name: str, module: nn.Module, kind: LayerKind, x: Tensor, out: Tensor) -> None:
        """Notes a call of a layer that `register_layer` was told about."""
        of = type(module).__name__
        layer = LayerWeight(
            name or "weight", partial(kind.read, module), kind.groups_of(module), kind.transposed, kind=of
        )
        call = _Call(layer.name, layer, of, x.shape[kind.axis], out.shape[kind.axis])
        self._stamp(out, self._noted(call, self._provenance(x), kind.axis, out.dim()))

    def _noted(self, call: _Call, read: pv.Provenance, axis: int, ndim: int) -> pv.Provenance:
        """Notes a layer call; returns the provenance of its output, with channels along ``axis``."""
        call.vectors, call.opaque = pv.along(read, axis, call.inputs)
        self._calls.append(call)
        return pv.output_of(len(self._calls) - 1, call.outputs, axis, ndim)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Runs the operation and notes where its outputs come from."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if torch.compiler.is_compiling() or func == _BASE:
            return out
        if self._flow is not None:
            self._flow.note(func, args, kwargs, out)
        elif not self._closed:
            self._note(func, args, kwargs, out)
        return out

    def _note(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        name = getattr(func, "__name__", "")
        if name == "__setitem__":
            target, index, value = args
            self._stamp(target, pv.write(target, index, value, self._provenance))
            return
        if name in _TRANSPOSES or name == "__get__":
            self._note_transpose(args, out)
        found = self._layer_call(name, args, kwargs, out)
        if found is None:
            found = pv.propagate(func, args, kwargs, out, self._provenance)
        for tensor, provenance in zip(pv.tensors_in(out), found, strict=True):
            self._stamp(tensor, provenance)

    # -- provenance of tensors

    def _provenance(self, tensor: Tensor) -> pv.Provenance:
        own: pv.Provenance = self._known.get(tensor, pv.NOTHING)
        if own or tensor._base is None:
            return own
        # A view made before its base was written to: who wrote is known, where is not.
        base: pv.Provenance = self._known.get(tensor._base, pv.NOTHING)
        return pv.Provenance((), base.sources)

    def _stamp(self, tensor: Tensor, provenance: pv.Provenance) -> None:
        if not provenance and tensor not in self._known:
            return
        self._known[tensor] = provenance
        base = tensor._base
        if base is not None:
            before: pv.Provenance = self._known.get(base, pv.NOTHING)
            new = provenance.sources - before.sources
            if new:  # written through a view
                self._known[base] = pv.Provenance(before.planes, before.opaque | new)

    def _note_transpose(self, args: Sequence[Any], out: Any) -> None:
        """Remembers that a tensor is a weight matrix, transposed: ``x @ self.weight.t()``."""
        name = self._names.of(args[0])
        if name is None or not isinstance(out, Tensor) or out.dim() != 2:
            return
        if out.shape == args[0].shape[::-1] and out.stride() == args[0].stride()[::-1]:
            self._transposed[out] = name

    # -- layer calls

    def _layer_call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> list[pv.Provenance] | None:
        """Notes a call of a parametric layer; None if the operation is none."""
        if name == "embedding":
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            parameter = self._names.of(weight) or "embedding"
            self._embeddings[_owner(parameter)] = "an embedding: its outputs are the graph's inputs"
            return [pv.NOTHING]
        if name == "linear" or name in _CONVOLUTIONS:
            named = dict(zip(("input", "weight", "bias"), args, strict=False), **kwargs)
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1) if name != "linear" else 1
            return self._product(name, named["input"], named["weight"], groups, out)
        if name in _RIGHT_PRODUCTS and self._weight_name(args[-1]) is not None and args[-1].dim() == 2:
            return self._product("matmul", args[-2], args[-1], 1, out)
        if name in _UNSUPPORTED or name in _RIGHT_PRODUCTS:
            weights = (self._weight_name(t) for t in pv.tensors_in((args, kwargs)) if t.dim() > 1)
            weight = next(filter(None, weights), None)
            if weight is not None and ".parametrizations." not in f".{weight}":  # there a weight is computed
                return self._unsupported(name, weight, args, kwargs, out)
        return None

    def _weight_name(self, weight: Tensor) -> str | None:
        name = self._names.of(weight)
        return self._transposed.get(weight) if name is None else name

    def _product(
        self, operation: str, x: Tensor, weight: Tensor, groups: int, out: Tensor
    ) -> list[pv.Provenance]:
        # Which axis of the weight is the input's, and which axis of the activations holds the channels.
        first = operation == "matmul" or operation.startswith("conv_transpose")
        axis = 1 - weight.dim() if operation in _CONVOLUTIONS else -1
        name, read, turned = self._locate(weight)
        if read is None:
            return self._computed_weight(x)
        inputs, outputs = x.shape[axis], out.shape[axis]
        kind = product_kind(operation, groups, inputs)
        layer = LayerWeight(name, read, groups, transposed=first != turned, kind=kind)
        call = _Call(name, layer, operation, inputs, outputs)
        return [self._noted(call, self._provenance(x), axis, out.dim())]

    def _locate(self, weight: Tensor) -> tuple[str, Callable[[], Tensor] | None, bool]:
        """The layer's name, how to read its weight again, and whether the operation saw it transposed."""
        parameter = self._weight_name(weight)
        if parameter is not None:
            refuse_tensor_parallel(weight, parameter)
            owner, _, attribute = parameter.rpartition(".")
            module = self._modules[owner]
            name = owner if attribute == "weight" and owner else parameter
            return name, self._readers.reader(module, attribute), weight not in self._names
        if self._stack:  # a weight computed on the fly (parametrisation, sharding): ask its module for it
            name, module = self._stack[-1]
            now = weight_of(module)
            if now is not None and now.shape == weight.shape:
                return name, self._readers.reader(module, "weight"), False
        return "", None, False

    def _computed_weight(self, x: Tensor) -> list[pv.Provenance]:
        """A product with what is no parameter (a fixed blur, a hypernetwork): no layer, layout lost."""
        return [pv.Provenance((), self._provenance(x).sources)]

    def _unsupported(
        self, operation: str, parameter: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> list[pv.Provenance]:
        call = _Call(_owner(parameter), None, operation, 0, 0)
        call.opaque = frozenset().union(
            *(self._provenance(tensor).sources for tensor in pv.tensors_in((args, kwargs)))
        )
        self._calls.append(call)
        made = pv.Provenance((), frozenset({len(self._calls) - 1}))
        return [made for _ in pv.tensors_in(out)]

    # -- the graph

    def graph(self) -> RolledGraph:
        """Builds the rolled graph of the pass that was watched.

        Returns:
            The chain along the main path, or the whole data flow; ``left_out`` names every other parametric
            layer with the reason.

        Raises:
            TracingError: if no layer was called, or the chain's main path cannot be followed; the message
                names the layer and the way out.
        """
        if self._flow is not None:
            return self._flow.graph()
        if self._layers is not None:
            return _chain_by_name(self._model, self._layers, self._readers)
        if not self._calls:
            raise TracingError(
                f"no convolution or linear layer of {type(self._model).__name__} was called in the forward "
                f"pass (compiled and scripted code hides its layers); {_WAY_OUT}"
            )
        path = self._main_path()
        calls = [self._calls[index] for index in path]
        for call in calls:
            if call.weight is None:
                raise TracingError(
                    f"layer {call.name!r} ({call.kind}) lies on the main path and has no place in a rolled "
                    f"graph of convolutions and linear layers; {_WAYS_OUT}"
                )
        assert calls[0].weight is not None
        weights = [calls[0].weight, *(self._edge(source, target) for source, target in pairwise(path))]
        sizes = [calls[0].inputs, *(call.outputs for call in calls)]
        kinds = [EMBEDDING] if self._embeddings else []
        return RolledGraph(sizes, weights, self._left_out(calls), kinds=kinds)

    def _main_path(self) -> list[int]:
        """The longest chain of calls; on a tie the earliest source and the latest end."""
        depth: list[int] = []
        best: list[int | None] = []
        for call in self._calls:
            source = max(sorted(call.sources), key=depth.__getitem__, default=None)
            best.append(source)
            depth.append(1 if source is None else depth[source] + 1)
        index: int | None = max(reversed(range(len(depth))), key=depth.__getitem__)
        path = []
        while index is not None:
            path.append(index)
            index = best[index]
        return path[::-1]

    def _edge(self, source: int, target: int) -> LayerWeight:
        """The target's weight, with the input positions that the source feeds."""
        made, call = self._calls[source], self._calls[target]
        assert call.weight is not None
        vector = next((v for v in call.vectors if source in pv.makers(v)), None)
        if vector is None:
            raise TracingError(
                f"layer {made.name!r} feeds {call.name!r}, but an operation between them hides which of its "
                f"{made.outputs} channels goes where; {_WAYS_OUT}"
            )
        columns = pv.channels_of(source, vector)
        even = call.inputs % made.outputs == 0 and torch.equal(
            columns, torch.arange(call.inputs) // (call.inputs // made.outputs)
        )
        weight = call.weight
        if even:
            return weight
        with shapes_only():
            return replace(weight, columns=columns.to(weight.read().device))

    def _left_out(self, chain: Sequence[_Call]) -> dict[str, str]:
        kept = {call.name for call in chain}
        called = {call.name: call for call in self._calls}
        reasons = dict(self._embeddings)
        for name, _ in _traced_modules(self._model):
            if name not in kept and name not in called:
                reasons[name] = "never called in the traced forward pass"
        for name, call in called.items():
            if name not in kept:
                kind = "" if call.weight is not None else f" ({call.kind})"
                reasons[name] = f"beside the main path{kind}"
        return reasons


def rolled_graph(
    model: nn.Module,
    example_input: Any = None,
    *,
    layers: Sequence[str] | None = None,
    topology: Topology = "chain",
) -> RolledGraph:
    """The rolled graph of a network (section 3.1), traced with a forward pass of its own.

    The pass runs in evaluation mode without gradients and leaves no trace: buffers, random state and training
    flags are as before.

    Args:
        model: any module of convolutions and linear layers.
        example_input: a tensor, or a tuple or dict of arguments for ``model``. None takes the module's
            ``example_input_array``, or tries the usual image sizes.
        layers: names of the chain's layers, first to last, for a model that cannot be traced; no pass is
            made.
        topology: ``"chain"`` takes the main path alone, as the paper does: the longest path of layers.
            ``"dataflow"`` takes all layers, each joined to every layer that feeds it through operations
            without a weight; whatever has no meaning there is named in ``left_out``.

    Returns:
        The graph, on the weights' device.

    Raises:
        TracingError: if a chain's layers cannot be joined, or the model has none, or rejects the input; the
            message names the layer and the way out.
        ValueError: if ``topology`` is unknown, or ``layers`` are named for another than the chain.
    """
    check_topology(topology, layers)
    if layers is not None:
        return _chain_by_name(model, layers, WeightReaders(model))
    candidates = [example_input] if example_input is not None else _candidate_inputs(model)
    failure: Exception | None = None
    for candidate in candidates:
        tracer = LayerTracer(model, topology=topology)
        try:
            with undisturbed(model), tracer:
                call_model(model, candidate)
        except Exception as error:  # whatever a model raises on an input that does not fit it
            failure = error
            continue
        return tracer.graph()
    tried = "the example input" if example_input is not None else f"{len(candidates)} guessed inputs"
    raise TracingError(
        f"{type(model).__name__} rejects {tried} (last error: {type(failure).__name__}: {failure}); pass "
        f"example_input= with a batch that it takes, or {_WAY_OUT}"
    ) from failure


def check_topology(topology: str, layers: Sequence[str] | None) -> None:
    """Raise ValueError if it is unknown, or layers are named for another than the chain."""
    if topology not in ("chain", "dataflow"):
        raise ValueError(f"topology={topology!r} is unknown: take 'chain' or 'dataflow'")
    if layers is not None and topology != "chain":
        raise ValueError(f"layers= names the layers of a chain: drop it, or topology={topology!r}")


def call_model(model: nn.Module, example: Any) -> Any:
    """Calls a module with one tensor, a tuple of arguments, or a dict of them."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, (tuple, list)) else model(example)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; training flags and random state are put back."""
    modes = [(module, module.training) for module in model.modules()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it would run an encoder in one kernel, past every hook
    devices = {p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, training in modes:
            module.training = training


# CIFAR first, then ImageNet's, MNIST's and other usual sizes.
_IMAGE_SIZES = (32, 224, 28, 64, 8, 16, 96, 128, 48, 256, 299, 384, 512)


def _candidate_inputs(model: nn.Module) -> list[Any]:
    """Inputs that the model may take, from its own example or the shape of its first layer."""
    own = getattr(model, "example_input_array", None)
    if own is not None:
        return [own]
    first = next((module for _, module in _layer_modules(model)), None)
    if first is None:
        raise TracingError(
            f"{type(model).__name__} has no convolution or linear layer to guess an input from; pass "
            f"example_input=, or {_WAY_OUT}"
        )
    weight = first.weight
    if isinstance(first, nn.Linear):
        shapes: list[tuple[int, ...]] = [(2, first.in_features)]
    else:
        spatial = weight.dim() - 2
        shapes = [(2, first.in_channels, *(size,) * spatial) for size in _IMAGE_SIZES]
    return [torch.zeros(shape, dtype=weight.dtype, device=weight.device) for shape in shapes]


def _layer_modules(model: nn.Module) -> list[tuple[str, Any]]:
    return [(name, m) for name, m in named_modules(model) if isinstance(m, (nn.Linear, _ConvNd))]


def _traced_modules(model: nn.Module) -> list[tuple[str, Any]]:
    """With the layers that `register_layer` was told about."""
    layers = dict(_layer_modules(model))
    return [(n, m) for n, m in named_modules(model) if n in layers or kind_of(m) is not None]


def _chain_by_name(model: nn.Module, layers: Sequence[str], readers: WeightReaders) -> RolledGraph:
    """The chain of the named layers, joined by their sizes alone."""
    modules = dict(_layer_modules(model))
    layers = [plain_name(name) for name in layers]
    if not layers:
        raise TracingError("layers=[] names no layer: name at least one convolution or linear layer")
    for name in layers:
        if name not in modules:
            raise TracingError(
                f"layers= names {name!r}, which is no convolution or linear layer of {type(model).__name__}; "
                f"it has {', '.join(modules) or 'none'}"
            )
    weights = []
    for name in layers:
        module = modules[name]
        transposed = isinstance(module, _ConvTransposeNd)
        read = readers.reader(module, "weight")
        groups, kind = getattr(module, "groups", 1), module_kind(module)
        weights.append(LayerWeight(name, read, groups, transposed, kind=kind))
    first = modules[layers[0]]
    inputs = first.in_features if isinstance(first, nn.Linear) else first.in_channels
    chain = [modules[name] for name in layers]
    outputs = [m.out_features if isinstance(m, nn.Linear) else m.out_channels for m in chain]
    left_out = {name: "not named in layers=" for name in modules if name not in layers}
    return RolledGraph([inputs, *outputs], weights, left_out)


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
