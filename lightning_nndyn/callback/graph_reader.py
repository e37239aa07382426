"""Finds a model's layers in the first training batch, and reads its weights from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from lightning_nndyn.errors import NNDynError
from lightning_nndyn.graph.tracing.tracer import LayerTracer, Topology
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot


class _CarefulTracer(LayerTracer):
    """A tracer whose own errors do not reach the training step that it watches."""

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
    """A torch function that keeps what its first call has returned."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.__name__ = getattr(func, "__name__", "")
        self.func, self.done, self.out = func, False, None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        out = self.func(*args, **kwargs)
        if not self.done:
            self.done, self.out = True, out
        return out


class Watch:
    """One model in training. It holds the model and, during the first batch, hooks in it: `close` ends both.

    Args:
        layers: names of the chain's layers, where the model cannot be traced.
        topology: of the graph.

    Attributes:
        first_weights: of a resumed run, what distances are measured from; empty for one that begins.
        start_due: whether snapshot 0 is still to be read, which is before any weight changes.
    """

    def __init__(self, layers: Sequence[str] | None = None, topology: Topology = "chain") -> None:
        self.start_due = False
        self.first_weights: list[Tensor] = []
        self._layers, self._topology = layers, topology
        self._tracer: _CarefulTracer | None = None
        self._taker: SnapshotReader | None = None
        self._versions, self._stepped = -1, False
        self._hook: RemovableHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no batch has shown the layers, and none is being watched."""
        return self._taker is None and self._tracer is None

    @property
    def tracing(self) -> bool:
        """Whether a batch is being watched."""
        return self._tracer is not None

    def begin_batch(self, model: nn.Module) -> None:
        """Starts watching: the next forward pass shows the layers."""
        tracer = _CarefulTracer(model, self._layers, topology=self._topology)
        self._versions, self._stepped = _versions(model), False
        self._hook = register_optimizer_step_pre_hook(
            partial(self._note_step, set(map(id, model.parameters())))
        )
        tracer.__enter__()
        self._tracer = tracer

    def forward_done(self, nested: bool) -> None:
        """Builds the graph from the forward pass that was watched.

        Args:
            nested: whether we are called from within the training step, perhaps inside a torch function mode
                of its own. Modes must end in the opposite order of their beginnings, so the tracer's then
                stays on until `end_batch`.

        Raises:
            TracingError: if there is no way through the model.
        """
        if self._tracer is not None and self._taker is None:
            self._build(self._tracer)
        if not nested:
            self._leave()

    def end_batch(self, model: nn.Module) -> None:
        """Stops watching; a batch may end without a backward pass, or run it outside of Lightning's control.

        Raises:
            NNDynError: if weights have changed before snapshot 0 was read.
            TracingError: if there is no way through the model.
        """
        tracer = self._tracer
        self._leave()
        if tracer is None or self._taker is not None:
            return
        if not self.start_due:
            self._build(tracer)
        elif self._stepped or _versions(model) != self._versions:
            raise NNDynError(
                "the weights were changed before they could be read; in manual optimization call "
                "self.manual_backward(loss) and step self.optimizers()"
            )
        # Otherwise the batch was skipped, and the next one is watched.

    def read(self, time: float) -> Snapshot | None:
        """Reads the weights now; None as long as no batch has shown the layers."""
        if self._taker is None:
            return None
        self.start_due = False
        with _undisturbed(self._taker.graph.device):
            snapshot = self._taker.read(time)
        self.first_weights = self._taker.first_weights
        return snapshot

    @property
    def outputs(self) -> int:
        """Neurons of the last layer, 0 before the layers are known."""
        return 0 if self._taker is None else self._taker.graph.layer_sizes[-1]

    @property
    def layer_sizes(self) -> list[int]:
        """Nodes of each layer; empty before the layers are known."""
        return [] if self._taker is None else list(self._taker.graph.layer_sizes)

    def moved(self, model: nn.Module) -> bool:
        """Whether any weight has been written to since the first batch began, on any process."""
        moved = _versions(model) != self._versions
        graph = None if self._taker is None else self._taker.graph
        if graph is None or graph.collective is None:
            return moved
        return graph.collective.any(moved, graph.device)

    def close(self) -> None:
        """Removes the hooks and lets go of the model."""
        self._leave()
        self._taker = None

    def _build(self, tracer: _CarefulTracer) -> None:
        if tracer.failure is not None:
            raise tracer.failure
        with _undisturbed(torch.device("cpu")):
            self._taker = SnapshotReader(tracer.graph(), per_layer=True, first_weights=self.first_weights)

    def _leave(self) -> None:
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            tracer.__exit__(None, None, None)
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.remove()

    def _note_step(self, parameters: set[int], optimizer: Optimizer, *_: Any) -> None:
        """Hears of all optimizers' steps: fused ones do not show in the versions of what they change."""
        groups = optimizer.param_groups
        self._stepped |= any(id(parameter) in parameters for group in groups for parameter in group["params"])


def _versions(model: nn.Module) -> int:
    """Rises with every write to a parameter."""
    return sum(parameter._version for parameter in model.parameters())


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Out of reach of the training's autograd, autocast and function modes, the tracer's included."""
    with ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunction())
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", device.type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
