"""Finds out which layer feeds which, by tracing one forward pass.

Every operation of the pass goes through a `TorchFunctionMode`. Products with a weight are layer calls; all
other operations pass on which channels of which calls have made each entry of a tensor (`propagation`). From
the recorded calls either the chain along the longest path is built (`chain`), as the paper does (section
3.1), or the graph of the whole data flow (`dataflow`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from lightning_nndyn.errors import TracingError
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import WeightReaders
from lightning_nndyn.graph.tracing.chain import chain_by_name, chain_graph
from lightning_nndyn.graph.tracing.compiled_modules import named_modules
from lightning_nndyn.graph.tracing.coverage import reasons_left_out, reasons_without_call
from lightning_nndyn.graph.tracing.custom_layers import custom_layer
from lightning_nndyn.graph.tracing.dataflow import dataflow_graph
from lightning_nndyn.graph.tracing.forward import call_model, candidate_inputs, side_effect_free
from lightning_nndyn.graph.tracing.layer_kinds import ATTENTION
from lightning_nndyn.graph.tracing.operation import Operation
from lightning_nndyn.graph.tracing.operation_observer import OperationObserver
from lightning_nndyn.graph.tracing.origins import NO_ORIGINS, ChannelOrigins
from lightning_nndyn.graph.tracing.parameters import ParameterTable
from lightning_nndyn.graph.tracing.recorder import OTHER_WEIGHTS, CallRecorder
from lightning_nndyn.graph.tracing.training_part import ASIDE, TrainedWeights

if TYPE_CHECKING:
    from typing_extensions import Self

Topology: TypeAlias = Literal["chain", "dataflow"]
"""What a rolled graph shows: the main path alone, as in the paper, or all that flows between layers."""

_WAY_OUT = "name the chain's layers yourself: layers=['first', ..., 'last']"


class LayerTracer(OperationObserver):
    """Traces a forward pass that somebody else makes, and builds the rolled graph from it.

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
        check_topology(topology, layers)
        super().__init__(model, self._external_origins)
        self._layers, self._topology = layers, topology
        self._recorder = CallRecorder(self._parameters, self._origins)
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Installs the hooks and starts tracing; compiled parts of the model run uncompiled meanwhile."""
        return self if self._layers is not None else super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        """Stops tracing and removes the hooks."""
        if self._layers is None:
            super().__exit__(*exc)

    def _external_origins(self, tensor: Tensor) -> ChannelOrigins:
        """A chain needs none: its inputs are the positions of the first layer."""
        return self._recorder.label_axes(tensor) if self._topology == "dataflow" else NO_ORIGINS

    def _output_origins(self, operation: Operation) -> Sequence[ChannelOrigins]:
        return self._recorder.record_operation(operation)

    def _module_returned(
        self, name: str, module: nn.Module, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        layer = custom_layer(module)
        try:
            with torch._C.DisableTorchFunction():
                if layer is not None and inputs and outputs:
                    self._recorder.record_custom_layer(name, module, layer, inputs[0], outputs[0])
                self._recorder.record_module_outputs(inputs, outputs)
        except Exception as error:  # it must not end the training step that is traced
            self._failure = error

    @property
    def parameters(self) -> ParameterTable:
        """The model's weights."""
        return self._parameters

    @property
    def exchanged(self) -> list[str]:
        """The layers that were called with other weights than those of the model."""
        return [name for name, reason in self._recorder.refused.items() if reason == OTHER_WEIGHTS]

    def graph(self, topology: Topology | None = None, trained: TrainedWeights | None = None) -> RolledGraph:
        """Builds the rolled graph of the pass that was traced.

        Args:
            topology: of the graph; None for the tracer's own. A tracer of the data flow has the chain too.
            trained: the weights that train in this pass; networks without them are left out. None for all.

        Returns:
            The chain along the main path, or the whole data flow; ``left_out`` names the other layers with
            the reason.

        Raises:
            TracingError: if no layer was called, or a registered one is not as `register_layer` was told; the
                message names the way out.
            ValueError: if a data flow is wanted of a tracer of chains.
        """
        recorder, topology = self._recorder, topology or self._topology
        if topology != self._topology != "dataflow":
            raise ValueError("this tracer follows a chain alone: make it with topology='dataflow'")
        if self._layers is not None:
            return chain_by_name(self._model, self._layers, self._parameters.readers)
        self._check()
        calls, held = (recorder.calls, None) if trained is None else trained.part(recorder.calls)
        names = {call.name for call in calls.values()} | recorder.accepted
        refused = {call.name: ASIDE for call in recorder.calls.values()} | recorder.refused
        kinds = [ATTENTION] if recorder.attends else []
        if topology == "chain":
            reasons = reasons_without_call(self._model, names, refused)
            return chain_graph(calls, reasons, kinds, held)
        modules = {call.module for call in calls.values()}
        reasons = reasons_left_out(self._model, modules, names, refused, self._stack.entered)
        return dataflow_graph(calls, recorder.external_axes, reasons, kinds)

    def _check(self) -> None:
        if self._failure is not None:
            raise TracingError(
                f"a module's call could not be followed ({type(self._failure).__name__}: {self._failure}); "
                f"where it is of a registered class, compare it with what register_layer was told"
            ) from self._failure
        if not any(call.inputs for call in self._recorder.calls.values()):
            others = "".join(f"; {name}: {OTHER_WEIGHTS}" for name in self.exchanged[:1])
            raise TracingError(
                f"no layer with a weight of {type(self._model).__name__} was called in the forward pass "
                f"(compiled and scripted code hides its layers{others}); register_layer(cls) describes your "
                f"own, or {_WAY_OUT}"
            )


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
        model: any module that has layers with weights.
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
        TracingError: if the model calls no layer, or rejects the input; the message names the way out.
        ValueError: if ``topology`` is unknown, or ``layers`` are named for another than the chain.
    """
    check_topology(topology, layers)
    if layers is not None:
        return chain_by_name(model, layers, WeightReaders(model, dict(named_modules(model))))
    candidates = [example_input] if example_input is not None else candidate_inputs(model)
    failure: Exception | None = None
    for candidate in candidates:
        tracer = LayerTracer(model, topology=topology)
        try:
            with side_effect_free(model), tracer:
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
    """Raises ValueError if the topology is unknown, or layers are named for another than the chain."""
    if topology not in ("chain", "dataflow"):
        raise ValueError(f"topology={topology!r} is unknown: take 'chain' or 'dataflow'")
    if layers is not None and topology != "chain":
        raise ValueError(f"layers= names the layers of a chain: drop it, or topology={topology!r}")
