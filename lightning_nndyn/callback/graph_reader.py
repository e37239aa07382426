"""Finds a model's layers in the first training batch, and reads its weights from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from lightning_nndyn.callback.messages import layers_changed, weights_exchanged
from lightning_nndyn.callback.phases import ReaderPhase
from lightning_nndyn.callback.task import LOSS_FUNCTIONS
from lightning_nndyn.errors import NNDynError, TracingError
from lightning_nndyn.graph.blocks import LayerWeight
from lightning_nndyn.graph.rolled import RolledGraph
from lightning_nndyn.graph.sharding import shapes_only
from lightning_nndyn.graph.tracing.parameters import ParameterTable
from lightning_nndyn.graph.tracing.tracer import LayerTracer, Topology
from lightning_nndyn.graph.tracing.training_part import TrainedWeights
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot


class GraphReader:
    """Reads the graph of one model in training.

    It holds the model and, while a batch is traced, hooks in it: `close` lets go of both.

    Args:
        layers: names of the chain's layers, where the model cannot be traced.
        topology: of the graph.
        first_weights: of a resumed run, what distances are measured from; empty for one that begins.
        last: the last snapshot of a resumed run.
        eigenvector: of that snapshot.

    Attributes:
        phase: what it knows of the model.
        first_weights: what distances are measured from; empty before snapshot 0 is read.
        frozen: the graph's layers whose weights no optimizer holds.
        lost: what the user is to be told where the weights cannot be read as those of one run; else empty.
        losses: the loss functions that the traced batch has called, each with the shape of what it was given.
    """

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        topology: Topology = "chain",
        first_weights: Sequence[Tensor] = (),
        last: Snapshot | None = None,
        eigenvector: Tensor | None = None,
    ) -> None:
        self.phase = ReaderPhase.WAITING
        self.first_weights = list(first_weights)
        self.frozen: list[str] = []
        self.lost = ""
        self.losses: list[tuple[str, tuple[int, ...]]] = []
        self._layers, self._topology, self._last = layers, topology, last
        self._eigenvector = eigenvector
        self._tracer: _FaultTolerantTracer | None = None
        self._trained: TrainedWeights | None = None
        self._parameters: ParameterTable | None = None  # of the model, once the layers are known
        self._owners: frozenset[str] = frozenset()  # modules with parameters when tracing began
        self._snapshots: SnapshotReader | None = None  # made once the layers are known
        self._shapes: list[Sequence[int] | None] = []  # of the weights then
        self._graph_due = True  # whether the layers are not known, or other ones were seen
        self._versions, self._stepped = -1, False  # of the weights when tracing began; whether steps followed
        self._step_hook: RemovableHandle | None = None
        self._postponed: tuple[float, ...] = ()  # times that came before weights had moved
        self._distances: tuple[float, ...] = ()  # of the latest snapshot

    @property
    def eigenvector(self) -> Tensor | None:
        """Of the last snapshot, from which the next one is found; None before one."""
        return self._eigenvector if self._snapshots is None else self._snapshots.eigenvector

    @property
    def layer_sizes(self) -> list[int]:
        """Nodes of each layer; empty before the layers are known."""
        return [] if self._snapshots is None else list(self._snapshots.graph.layer_sizes)

    @property
    def layer_names(self) -> list[str]:
        """The layers that weights are read of; empty before they are known."""
        graph = None if self._snapshots is None else self._snapshots.graph
        return [] if graph is None else list(dict.fromkeys(weight.name for weight in _weights(graph)))

    @property
    def has_gradients(self) -> bool:
        """Whether any parameter of the model has a gradient while it is traced and its graph is due."""
        return self._trained is not None and self._trained.has_gradients

    # -- tracing ---------------------------------------------------------------------------------------------

    def start_tracing(self, model: nn.Module, optimizers: Sequence[Any] = ()) -> None:
        """Traces from now on: the next forward pass shows the layers.

        Args:
            model: the model.
            optimizers: those of the training; what they do not hold is beside the network that is trained.
        """
        tracer = _FaultTolerantTracer(model, self._layers, topology=self._topology)
        self._trained = TrainedWeights(model, optimizers)
        self._versions, self._stepped = _versions(model), False
        parameters = set(map(id, model.parameters()))
        self._step_hook = register_optimizer_step_post_hook(partial(self._note_step, parameters))
        tracer.__enter__()
        self._tracer, self._graph_due, self.phase = tracer, True, ReaderPhase.TRACING
        self._owners = tracer.parameters.owners

    def look_again(self) -> None:
        """Has the next batch traced if the model has other layers than when it was."""
        if self.phase is ReaderPhase.READING and self._parameters is not None:
            self._parameters.find_modules_again()
            if self._parameters.owners != self._owners or self._broken():
                self.phase = ReaderPhase.WAITING

    def _broken(self) -> str:
        """Names a layer that was replaced by one of another shape, or is gone; empty if there is none."""
        graph = None if self._snapshots is None else self._snapshots.graph
        for weight, shape in zip([] if graph is None else _weights(graph), self._shapes, strict=True):
            now = _shape_of(weight)
            if now != shape:
                return f"{weight.name} had a weight of shape {shape}, and has {now or 'none'} now"
        return ""

    def end_forward(self, nested: bool, loss: Tensor | None = None) -> None:
        """Builds the graph from the forward pass that was traced.

        Args:
            nested: whether we are called from within the training step, perhaps inside a torch function mode
                of its own. Modes must end in the opposite order of their beginnings, so the tracer's then
                stays on until `end_batch`.
            loss: what the pass has led to; None where that is not known.

        Raises:
            TracingError: if there is no way through the model.
        """
        if self._tracer is None:
            return
        self.losses = self._tracer.losses
        if self._graph_due:
            self._build_graph(self._tracer, loss)
        if not nested:
            self._stop_tracing()
            self.phase = self._phase_of_graph

    def end_batch(self, model: nn.Module, start_due: bool) -> None:
        """Stops tracing; a batch may end without a backward pass, or run it outside of Lightning's control.

        If it was skipped altogether, the layers are still not known, and the next batch is to be traced.

        Args:
            model: as given to `start_tracing`.
            start_due: whether snapshot 0 is still to be read.

        Raises:
            NNDynError: if weights have changed before snapshot 0 was read.
            TracingError: if there is no way through the model.
        """
        tracer = self._tracer
        self.losses = self.losses if tracer is None else tracer.losses
        self._stop_tracing()
        if self._graph_due and (self._stepped or _versions(model) != self._versions):
            if start_due:
                raise NNDynError(
                    "the weights were changed before they could be read; in manual optimization call "
                    "self.manual_backward(loss) and step self.optimizers()"
                )
            if tracer is not None:
                self._build_graph(tracer, None)
        self.phase = self._phase_of_graph

    @property
    def _phase_of_graph(self) -> ReaderPhase:
        if self.lost:
            return ReaderPhase.CLOSED
        return ReaderPhase.WAITING if self._graph_due else ReaderPhase.READING

    def close(self) -> None:
        """Removes the hooks and lets go of the model."""
        self._stop_tracing()
        self._snapshots = self._parameters = self._trained = None
        self.phase = ReaderPhase.CLOSED

    def _build_graph(self, tracer: _FaultTolerantTracer, loss: Tensor | None) -> None:
        trained, self._trained, self._graph_due = self._trained, None, False
        assert trained is not None
        with _apart_from_training(torch.device("cpu")):
            if loss is not None:
                trained.see_loss(loss)
            if self._snapshots is not None:
                self._compare(tracer, self._snapshots.graph, trained)
                return
            try:
                self._read_from(tracer, tracer.graph(trained=trained), trained)
            except TracingError:
                if not tracer.exchanged:
                    raise
                self.lost = weights_exchanged(tracer.exchanged)

    def _compare(self, tracer: _FaultTolerantTracer, before: RolledGraph, trained: TrainedWeights) -> None:
        """The graph that was traced anew is the one before, the same under other names, or another."""
        try:
            graph = tracer.graph(trained=trained)
        except Exception as error:  # so the graph before is all that is known
            self.lost = layers_changed(f"{type(error).__name__}: {error}")
            return
        if _parameters(graph) == _parameters(before) and not self._broken():
            return
        if (graph.layer_sizes, graph.num_edges) == (before.layer_sizes, before.num_edges):
            self._read_from(tracer, graph, trained)
        else:
            self.lost = layers_changed(_difference(before, graph))

    def _read_from(self, tracer: _FaultTolerantTracer, graph: RolledGraph, trained: TrainedWeights) -> None:
        last, self._parameters = self._last, tracer.parameters
        if last is not None and (last.num_nodes, last.num_edges) != (graph.num_nodes, graph.num_edges):
            self.lost = layers_changed(
                f"the graph had {last.num_nodes} nodes and {last.num_edges} edges before the run was "
                f"resumed, and has {graph.num_nodes} and {graph.num_edges} now"
            )
            return
        names = [weight.name for weight in _weights(graph) if not trained.holds(weight.parameter)]
        self.frozen = list(dict.fromkeys(names))
        self._shapes = [_shape_of(weight) for weight in _weights(graph)]
        self._snapshots = SnapshotReader(
            graph, per_layer=True, first_weights=self.first_weights, eigenvector=self.eigenvector
        )

    def _stop_tracing(self) -> None:
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            tracer.__exit__(None, None, None)
        hook, self._step_hook = self._step_hook, None
        if hook is not None:
            hook.remove()

    def _note_step(self, parameters: set[int], optimizer: Optimizer, *_: Any) -> None:
        """Sees all optimizers' steps: fused ones do not show in the versions of what they change.

        A step without a gradient, as after a training step that has returned no loss, changes nothing.
        """
        stepped = (parameter for group in optimizer.param_groups for parameter in group["params"])
        self._stepped |= any(id(one) in parameters and one.grad is not None for one in stepped)

    # -- reading ---------------------------------------------------------------------------------------------

    def read_start(self) -> Snapshot | None:
        """Reads snapshot 0 now; None as long as the layers are not known."""
        return self._read(0.0)

    def read(self, times: Sequence[float], after: float) -> list[Snapshot]:
        """Reads the weights for all times that are due.

        Where the weights have not moved yet, as with accumulated gradients or steps that a gradient scaler
        skips, the times wait for the next call: such weights would look hopeless.

        Args:
            times: in epochs, rising.
            after: the time of the last snapshot; what is due up to there was read before an interruption.

        Returns:
            A snapshot for each time, of the same weights; none where layers were replaced, see `lost`.
        """
        due, self._postponed = (*self._postponed, *times), ()
        due = tuple(time for time in due if time > after)
        if not due:
            return []
        if self._parameters is not None and not self.lost:
            self._parameters.find_modules_again()
            self.lost = layers_changed(self._broken())
            self.phase = self._phase_of_graph if self._tracer is None else self.phase
        # Read in any case: other processes may be waiting in here.
        snapshot = self._read(due[0])
        if due[-1] < 1 and not _shows_movement(snapshot):
            self._postponed = due
            return []
        if snapshot is None:
            return []
        before, self._distances = self._distances, snapshot.distances
        if any(before) and snapshot.distances == before and self.phase is ReaderPhase.READING:
            self.phase = ReaderPhase.WAITING  # they have come to stand still: others may train by now
        return [replace(snapshot, epoch=time) for time in due]

    def _read(self, time: float) -> Snapshot | None:
        if self._snapshots is None or self.lost:
            return None
        with _apart_from_training(self._snapshots.graph.device):
            snapshot = self._snapshots.read(time)
        self.first_weights = self._snapshots.first_weights
        return snapshot


class _FaultTolerantTracer(LayerTracer):
    """A tracer whose own errors do not reach the training step that it traces."""

    failure: Exception | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.losses: list[tuple[str, tuple[int, ...]]] = []

    def graph(self, topology: Topology | None = None, trained: TrainedWeights | None = None) -> RolledGraph:
        """See `LayerTracer.graph`; raises what has gone wrong while tracing."""
        if self.failure is not None:
            raise self.failure
        return super().graph(topology, trained)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self.failure is not None or torch.compiler.is_compiling():
            return func(*args, **(kwargs or {}))
        operation = _Operation(func)
        if operation.__name__ in LOSS_FUNCTIONS and args and isinstance(args[0], Tensor):
            self.losses.append((operation.__name__, tuple(args[0].shape)))
        try:
            return super().__torch_function__(operation, types, args, kwargs)
        except Exception as error:
            if not operation.done:  # the training's own error
                raise
            self.failure = error
            return operation.out


class _Operation:
    """A torch function that keeps the result of its first call."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.__name__ = getattr(func, "__name__", "")
        self.func, self.done, self.out = func, False, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.func(*args, **kwargs)
        if not self.done:
            self.done, self.out = True, out
        return out


def _shows_movement(snapshot: Snapshot | None) -> bool:
    """Whether weights have moved since snapshot 0."""
    return snapshot is not None and (not snapshot.finite or any(snapshot.distances))


def _weights(graph: RolledGraph) -> list[LayerWeight]:
    return [shared.block.weight for shared in graph.shared_blocks]


def _shape_of(weight: LayerWeight) -> Sequence[int] | None:
    """The shape of a weight now; None if its layer is gone."""
    try:
        with shapes_only():
            return tuple(weight.read().shape)
    except (AttributeError, KeyError):
        return None


def _parameters(graph: RolledGraph) -> set[str]:
    return {weight.parameter for weight in _weights(graph)}


def _difference(before: RolledGraph, now: RolledGraph) -> str:
    """What tells two graphs of a model apart."""
    old, new = (dict(zip(graph.layer_names, graph.layer_sizes, strict=True)) for graph in (before, now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    listed = [f"{name} had {old.get(name, 0)} nodes, and has {new.get(name, 0)} now" for name in names[:3]]
    return "; ".join([*listed, "..."] if len(names) > 3 else listed)


def _versions(model: nn.Module) -> int:
    """A number that rises with every write to a parameter; inference tensors keep no count."""
    return sum(parameter._version for parameter in model.parameters() if not parameter.is_inference())


@contextmanager
def _apart_from_training(device: torch.device) -> Iterator[None]:
    """Out of reach of the training's autograd, autocast and function modes, the tracer's included."""
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", device.type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
