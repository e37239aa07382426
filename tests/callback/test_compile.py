"""Compiled models: the watched batch runs uncompiled, everything else is as it would be without us."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, hooks, times, trainer, watcher
from digits_runs import loader
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F

from lightning_nndyn import Snapshot, SnapshotTaker, rolled_graph
from lightning_nndyn.errors import NNDynWarning, TracingError
from lightning_nndyn.graph.tracing.compiled_modules import plain_name, uncompiled
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

STEPS = 6


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Net(nn.Module):
    """Compiles in place, which torch's own containers do not. Small: the compiler goes through it often."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = (nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 16), nn.Tanh())
            self.body = nn.Sequential(*layers, nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Plain(L.LightningModule):
    """Dropout draws random numbers; nothing in the step breaks a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.dropout = Net(), nn.Dropout(0.2)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.dropout(self.net(x)), y)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(*batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.net.parameters(), lr=0.05, momentum=0.9)

    def train_dataloader(self) -> Any:
        return loader()


class Manual(Plain):
    """Steps inside the compiled training step."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.step(*batch)
        self.manual_backward(loss)
        optimizer.step()
        return loss


def whole(model: Plain, **options: Any) -> Any:
    return torch.compile(model, **options)


def wrapped(model: Plain, **options: Any) -> Any:
    model.net = torch.compile(model.net, **options)
    return model


def in_place(model: Plain, **options: Any) -> Any:
    model.net.compile(**options)
    return model


def method(model: Plain, **options: Any) -> Any:
    model.step = torch.compile(model.step, **options)
    return model


def every_way(model: Plain, **options: Any) -> Any:
    """A compiled training step around a compiled module that is compiled in place."""
    return whole(wrapped(in_place(model, **options), **options), **options)


class Losses(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.seen.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))


Run = tuple[Plain, list[float], Tensor, int]


def run(
    way: Callable[..., Any] | None,
    *callbacks: Any,
    kind: type[Plain] = Plain,
    backend: str = "eager",
    steps: int = STEPS,
    **options: Any,
) -> Run:
    """A model that was trained, its losses, what comes next of random numbers, and the frames compiled."""
    torch._dynamo.reset()
    torch.manual_seed(5)
    counter, losses, model = CompileCounterWithBackend(backend), Losses(), kind()
    given = model if way is None else way(model, backend=counter, **options)
    trainer(*callbacks, losses, max_epochs=2, limit_train_batches=steps).fit(given)
    return model, losses.seen, torch.get_rng_state(), counter.frame_count


@cache
def record(kind: type[Plain] = Plain) -> list[Snapshot]:
    """Of the same run, uncompiled."""
    callback = watcher(None)
    run(None, callback, kind=kind)
    return callback.history


def assert_bit_equal(first: Run, second: Run) -> None:
    assert first[1] == second[1]
    assert torch.equal(first[2], second[2])
    for (name, before), after in zip(
        first[0].state_dict().items(), second[0].state_dict().values(), strict=True
    ):
        assert torch.equal(before, after), name


CASES: dict[str, tuple[Any, type[Plain], dict[str, Any]]] = {
    "the LightningModule": (whole, Plain, {}),
    "the LightningModule in one graph": (whole, Plain, {"fullgraph": True, "backend": "aot_eager"}),
    "a module": (wrapped, Plain, {"backend": "aot_eager"}),
    "a module in one graph of any shape": (wrapped, Plain, {"fullgraph": True, "dynamic": True}),
    "a module in place": (in_place, Plain, {"fullgraph": True}),
    "a method": (method, Plain, {}),
    "module inside of module": (every_way, Plain, {}),
    "manual optimization": (whole, Manual, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_a_compiled_model_has_the_record_of_the_uncompiled_and_trains_as_without_us(case: str) -> None:
    way, kind, options = CASES[case]
    callback = watcher(None)
    without, within = (run(way, *given, kind=kind, **options) for given in ([], [callback]))
    if kind is Manual and torch.__version__ < "2.6":  # its compiled optimizers round differently
        assert within[1] == pytest.approx(without[1], rel=1e-5)
    else:
        assert_bit_equal(without, within)
    assert 0 < within[3] <= without[3]  # not a frame is compiled that would not be without us
    assert within[3] == without[3] or kind is Manual
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]
    assert callback.history == record(kind)
    assert hooks(within[0]) == 0


@pytest.mark.parametrize("way", [whole, wrapped, in_place, method, every_way])
def test_what_was_compiled_is_so_again_after_the_first_batch(way: Any) -> None:
    class Looking(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.look(pl_module, batch_idx == 0)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.look(pl_module, False)

        def look(self, model: nn.Module, watched: bool) -> None:
            now = [dict(vars(module)) for module in model.modules()]
            changed = [
                {key for key in a if a[key] is not b.get(key)} for a, b in zip(before, now, strict=True)
            ]
            changed = [keys & {"forward", "step", "training_step", "_compiled_call_impl"} for keys in changed]
            assert any(changed) is watched
            seen.append(watched)

    seen: list[bool] = []
    model = Plain()
    given = way(model, backend="eager")
    if way in (whole, every_way):
        from lightning.pytorch.utilities.compile import from_compiled

        given = from_compiled(given)
    before = [dict(vars(module)) for module in given.modules()]
    # Two of ours: the second must not take what the first has put there for what the user has written.
    trainer(watcher(None), watcher(None, snapshots=(1,)), Looking(), max_epochs=1, limit_train_batches=2).fit(
        given
    )
    assert seen == [True, False, False, False]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_compiled_is_so_again_after_an_exception(error: type[BaseException]) -> None:
    class Failing(Plain):
        def step(self, x: Tensor, y: Tensor) -> Tensor:
            super().step(x, y)
            raise error("out of order")

    model = in_place(wrapped(Failing(), backend="eager"), backend="eager")
    before = [
        module.__dict__.get(key) for module in model.modules() for key in ("forward", "_compiled_call_impl")
    ]
    with pytest.raises((RuntimeError, SystemExit)):
        trainer(watcher(None)).fit(model)
    after = [
        module.__dict__.get(key) for module in model.modules() for key in ("forward", "_compiled_call_impl")
    ]
    assert all(a is b for a, b in zip(before, after, strict=True)) and any(before)
    assert hooks(model) == 0


def test_what_somebody_else_puts_there_meanwhile_stays() -> None:
    net = Net()
    net.compile(backend="eager")
    with uncompiled(net):
        net._compiled_call_impl = None  # `net` is uncompiled for good
    assert net._compiled_call_impl is None


def test_a_decorator_around_a_compiled_method_is_not_bypassed() -> None:
    calls: list[int] = []

    def counted(forward: Any) -> Any:
        @functools.wraps(forward)
        def wrapper(*args: Any) -> Any:
            calls.append(len(args))
            return forward(*args)

        return wrapper

    class Decorated(Net):
        @counted
        @torch.compile(backend="eager")
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    class Overriding(Net):
        @torch.compile(backend="eager")
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    class Overridden(Overriding):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(0)
            return self.body(x)

    for kind in (Decorated, Overridden):
        calls.clear()
        with uncompiled(net := kind()):
            net(torch.zeros(1, 1, 8, 8))
        assert len(calls) == 1
    with uncompiled(net := Overriding()):
        assert net.forward.__func__ is Overriding.forward._torchdynamo_orig_callable
    assert "forward" not in vars(net)


class Condition(Plain):
    """Under `torch.cond` the compiler traces the layers for itself."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        logits = torch.cond(x.sum() > 0, lambda x: self.net(x), lambda x: 2 * self.net(x), (x,))
        return F.cross_entropy(logits, y)


class CompiledLoss(Plain):
    """A compiled function that no module holds."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return loss_function(self.net(x), y)


@functools.partial(torch.compile, backend="eager", fullgraph=True)
def loss_function(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels) + 0.01 * logits.relu().sin().mean()


class CompiledStep(Plain):
    """A compiled function with layers inside that no module holds."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        return outside(self.net, x, y)


@functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
def outside(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def test_a_compiled_loss_function_stays_compiled_and_right() -> None:
    callback = watcher(None)
    without, within = run(None, kind=CompiledLoss), run(None, callback, kind=CompiledLoss)
    assert_bit_equal(without, within)
    start = SnapshotTaker(rolled_graph(Net(), torch.zeros(2, 1, 8, 8))).take(0.0)
    assert callback.history[0].statistics == pytest.approx(start.statistics, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "way"), [(Condition, None), (Condition, whole), (Condition, wrapped), (CompiledStep, wrapped)]
)
def test_layers_that_the_compiler_hides_cost_a_warning_and_nothing_else(kind: type[Plain], way: Any) -> None:
    with pytest.warns(NNDynWarning, match=r"compiled and scripted code hides its layers.*layers=") as found:
        within = run(way, watcher(None, strict=False), kind=kind, steps=2)
    assert len([warning for warning in found if warning.category is NNDynWarning]) == 1
    assert_bit_equal(run(way, kind=kind, steps=2), within)
    assert hooks(within[0]) == 0


class Small(Plain):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))


def test_with_inductor_one_step_rounds_differently_and_none_where_layers_are_named() -> None:
    layers = ["net.body.1", "net._orig_mod.body.3"]
    traced, named = watcher(None), watcher(None, layers=layers)
    plain, watched, compiled = (
        run(wrapped, *given, kind=Small, backend="inductor") for given in ([], [traced], [named])
    )
    assert_bit_equal(plain, compiled)
    assert plain[1] == pytest.approx(watched[1], rel=1e-5)
    assert torch.equal(plain[2], watched[2])
    assert plain[3] == watched[3] == compiled[3]
    for callback in (traced, named):
        assert [snapshot.layers for snapshot in callback.history] == [
            {
                name: pytest.approx(row, rel=1e-4, abs=1e-6, nan_ok=True)
                for name, row in snapshot.layers.items()
            }
            for snapshot in record(Small)
        ]
        assert list(callback.history[0].layers)[1:] == ["net.body.1", "net.body.3"]


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_the_graph_of_a_compiled_module_is_that_of_the_uncompiled(topology: Any) -> None:
    x = torch.zeros(2, 1, 8, 8)
    plain = rolled_graph(Net(), x, topology=topology)
    inside = Net()
    inside.body[3] = torch.compile(inside.body[3], backend="eager")
    for net in (torch.compile(Net(), backend="eager"), inside, torch.compile(inside, backend="eager")):
        graph = rolled_graph(net, x, topology=topology)
        assert graph.layer_names == plain.layer_names and graph.left_out == plain.left_out
        assert (graph.num_nodes, graph.num_edges) == (plain.num_nodes, plain.num_edges)
        assert torch.equal(graph.adjacency().to_dense(), plain.adjacency().to_dense())
    names = [name for name, _ in torch.compile(Net(), backend="eager").named_parameters()]
    assert [plain_name(name) for name in names] == [name for name, _ in Net().named_parameters()] != names


def test_a_second_fit_of_a_compiled_model_compiles_nothing_anew() -> None:
    def frames(*callbacks: Any) -> list[int]:
        torch._dynamo.reset()
        counter, seen = CompileCounterWithBackend("eager"), []
        model = wrapped(Plain(), backend=counter)
        for _ in range(2):
            trainer(*callbacks, max_epochs=1, limit_train_batches=STEPS).fit(model)
            seen.append(counter.frame_count)
        return seen

    callback = watcher(None)
    assert frames() == frames(callback) == [1, 1]
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


def test_a_jit_scripted_layer_is_named_as_hidden() -> None:
    class Scripted(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.jit.trace(self.net, torch.zeros(2, 1, 8, 8))

    with pytest.raises(TracingError, match="compiled and scripted code hides its layers"):
        trainer(watcher(None)).fit(Scripted())
