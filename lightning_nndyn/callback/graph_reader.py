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

from lightning_nndyn.callback.phases import ReaderPhase
from lightning_nndyn.errors import NNDynError
from lightning_nndyn.graph.tracing.tracer import LayerTracer, Topology
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot


class GraphReader:
    """Reads the graph of one model in training.

    It holds the model and, while a batch is traced, hooks in it: `close` lets go of both.

    Args:
        layers: names of the chain's layers, where the model cannot be traced.
        topology: of the graph.
        first_weights: of a resumed run, what distances are measured from; empty for one that begins.

    Attributes:
        phase: what it knows of the model.
        first_weights: what distances are measured from; empty before snapshot 0 is read.
    """

    def __init__(
        self,
        layers: Sequence[str] | None = None,
        topology: Topology = "chain",
        first_weights: Sequence[Tensor] = (),
    ) -> None:
        self.phase = ReaderPhase.WAITING
        self.first_weights = list(first_weights)
        self._layers, self._topology = layers, topology
        self._tracer: _FaultTolerantTracer | None = None
        self._snapshots: SnapshotReader | None = None  # made once the layers are known
        self._versions, self._stepped = -1, False  # of the weights when tracing began; whether steps followed
        self._step_hook: RemovableHandle | None = None
        self._postponed: tuple[float, ...] = ()  # times that came before weights had moved

    @property
    def layer_sizes(self) -> list[int]:
        """Nodes of each layer; empty before the layers are known."""
        return [] if self._snapshots is None else list(self._snapshots.graph.layer_sizes)

    # -- tracing ---------------------------------------------------------------------------------------------

    def start_tracing(self, model: nn.Module) -> None:
        """Traces from now on: the next forward pass shows the layers."""
        tracer = _FaultTolerantTracer(model, self._layers, topology=self._topology)
        self._versions, self._stepped = _versions(model), False
        parameters = set(map(id, model.parameters()))
        self._step_hook = register_optimizer_step_post_hook(partial(self._note_step, parameters))
        tracer.__enter__()
        self._tracer, self.phase = tracer, ReaderPhase.TRACING

    def end_forward(self, nested: bool) -> None:
        """Builds the graph from the forward pass that was traced.

        Args:
            nested: whether we are called from within the training step, perhaps inside a torch function mode
                of its own. Modes must end in the opposite order of their beginnings, so the tracer's then
                stays on until `end_batch`.

        Raises:
            TracingError: if there is no way through the model.
        """
        if self._tracer is None:
            return
        if self._snapshots is None:
            self._build_graph(self._tracer)
        if not nested:
            self._stop_tracing()
            self.phase = ReaderPhase.READING

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
        self._stop_tracing()
        if self._snapshots is None and tracer is not None and not start_due:
            self._build_graph(tracer)
        elif self._snapshots is None and (self._stepped or _versions(model) != self._versions):
            raise NNDynError(
                "the weights were changed before they could be read; in manual optimization call "
                "self.manual_backward(loss) and step self.optimizers()"
            )
        self.phase = ReaderPhase.WAITING if self._snapshots is None else ReaderPhase.READING

    def close(self) -> None:
        """Removes the hooks and lets go of the model."""
        self._stop_tracing()
        self._snapshots, self.phase = None, ReaderPhase.CLOSED

    def _build_graph(self, tracer: _FaultTolerantTracer) -> None:
        if tracer.failure is not None:
            raise tracer.failure
        with _apart_from_training(torch.device("cpu")):
            self._snapshots = SnapshotReader(tracer.graph(), per_layer=True, first_weights=self.first_weights)

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

    def read(self, model: nn.Module, times: Sequence[float], after: float) -> list[Snapshot]:
        """Reads the weights for all times that are due.

        Where the weights have not moved yet, as with accumulated gradients or steps that a gradient scaler
        skips, the times wait for the next call: such weights would look hopeless.

        Args:
            model: whose weights are read.
            times: in epochs, rising.
            after: the time of the last snapshot; what is due up to there was read before an interruption.

        Returns:
            A snapshot for each time, of the same weights.
        """
        due, self._postponed = (*self._postponed, *times), ()
        due = tuple(time for time in due if time > after)
        if not due:
            return []
        moved = due[-1] >= 1 or self._moved(model)
        # Read in any case: other processes may be waiting in here.
        snapshot = self._read(due[0])
        if not moved and not _shows_movement(snapshot):
            self._postponed = due
            return []
        return [] if snapshot is None else [replace(snapshot, epoch=time) for time in due]

    def _read(self, time: float) -> Snapshot | None:
        if self._snapshots is None:
            return None
        with _apart_from_training(self._snapshots.graph.device):
            snapshot = self._snapshots.read(time)
        self.first_weights = self._snapshots.first_weights
        return snapshot

    def _moved(self, model: nn.Module) -> bool:
        """Whether any weight has been written to since the traced batch began, on any process."""
        moved = _versions(model) != self._versions
        graph = None if self._snapshots is None else self._snapshots.graph
        if graph is None or graph.collective is None:
            return moved
        return graph.collective.any(moved, graph.device)


class _FaultTolerantTracer(LayerTracer):
    """A tracer whose own errors do not reach the training step that it traces."""

    failure: Exception | None = None

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
    """Whether weights have moved since snapshot 0, even if nobody was seen to write to them (DeepSpeed)."""
    return snapshot is not None and (not snapshot.finite or any(snapshot.distances))


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
