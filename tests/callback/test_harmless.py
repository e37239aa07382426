"""Training with the callback is training without it, and nothing is left behind."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, hooks, outcome, times, trainer, watcher
from digits_runs import DOOMED, GOOD, loader
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.overrides import TorchFunctionMode

from lightning_nndyn import (
    GraphDynamicsCallback,
    SnapshotTaker,
    rolled_graph,
)
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES


class Noisy(Digits):
    """Dropout draws random numbers, batch norm keeps statistics: both would show a forward pass too many."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = (nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3))
            self.net = nn.Sequential(*body, nn.Linear(288, 10))


class Mode(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Manual(Noisy):
    """Manual optimization, in modes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        optimizer, own = self.optimizers(), Mode()
        with own, torch.autocast("cpu", torch.bfloat16):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            assert torch.overrides._get_current_function_mode() is own


class OwnClosure(Noisy):
    """LBFGS calls its closure several times a step."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.net.parameters(), lr=0.01, max_iter=3)


class Spectral(Noisy):
    """Each look at a weight in training improves its estimate."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for place in (0, 5):
                spectral_norm(self.net[place])


CASES: list[tuple[type[Any], dict[str, Any]]] = [
    (Noisy, {}),
    (Noisy, {"accumulate_grad_batches": 4}),
    (Noisy, {"accumulate_grad_batches": 100}),
    (Noisy, {"precision": "bf16-mixed"}),
    (Noisy, {"gradient_clip_val": 0.1, "deterministic": True}),
    (Manual, {}),
    (OwnClosure, {"limit_train_batches": 5}),
]


@pytest.mark.parametrize(
    ("kind", "settings"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_training_is_bit_equal_with_and_without_the_callback(
    kind: type[Any], settings: dict[str, Any]
) -> None:
    def run(*callbacks: Any) -> tuple[Any, Tensor]:
        torch.manual_seed(5)
        model = kind()
        trainer(*callbacks, max_epochs=2, **settings).fit(model)
        return model, torch.get_rng_state()

    callback = watcher(action="observe", log_signature=True)
    (plain, plain_random), (watched, watched_random) = run(), run(callback)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]
    assert plain.losses == watched.losses
    assert torch.equal(plain_random, watched_random)
    for (name, before), after in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    start = SnapshotTaker(rolled_graph(kind().net, torch.zeros(2, 1, 8, 8))).take(0.0)
    assert callback.history[0].statistics == pytest.approx(start.statistics, rel=1e-5, abs=1e-6)


class Counting(L.Callback):
    """Looks for hooks and function modes that are left when a batch is over."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.left.append(hooks(pl_module))


@pytest.mark.parametrize("settings", [{}, {"topology": "dataflow"}, {"layers": ["net.0", "net.5"]}])
def test_weights_that_change_when_they_are_looked_at_are_left_as_they_are(settings: dict[str, Any]) -> None:
    found = []
    for callbacks in ([], [watcher(None, **settings)]):
        torch.manual_seed(5)
        model = Spectral()
        trainer(*callbacks, max_epochs=1).fit(model)
        found.append((model.losses, [value.tolist() for value in model.state_dict().values()]))
    assert found[0] == found[1]


class Stepping(Noisy):
    """Steps its optimizer by hand, unseen by Lightning."""

    fused = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        self.loss(batch).backward()
        optimizer.step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.net.parameters(), fused=self.fused)


class SteppingFused(Stepping):
    """Fused steps do not show in the versions of the parameters."""

    fused = True


@pytest.mark.parametrize("kind", [Stepping, SteppingFused])
def test_steps_that_lightning_does_not_see_end_the_watch_in_words(kind: type[Any]) -> None:
    callback, counting = watcher(None, strict=False), Counting()
    before = len(_global_optimizer_pre_hooks)
    with pytest.warns(NNDynWarning, match="changed before they could be read.*self.manual_backward"):
        trainer(callback, counting, max_epochs=1).fit(kind())
    assert callback.history == [] and set(counting.left) == {0}
    assert len(_global_optimizer_pre_hooks) == before


@pytest.mark.parametrize("kind", [Noisy, Manual])
def test_hooks_are_gone_after_the_first_batch(kind: type[Any]) -> None:
    counting = Counting()
    trainer(watcher(action="observe"), counting, max_epochs=1).fit(kind())
    assert counting.left == [0] * BATCHES


class Failing(Digits):
    error: type[BaseException] = RuntimeError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.current_epoch == self.fails_in and batch_idx == 0:
            raise self.error("out of order")
        return loss


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_neither_hooks_nor_references(epoch: int, error: type[BaseException]) -> None:
    model = Failing()
    model.fails_in, model.error = epoch, error
    callback = watcher(None)
    with pytest.raises((RuntimeError, SystemExit)):
        trainer(callback).fit(model)
    assert hooks(model) == 0
    assert times(callback)[-1:] == ([1.0] if epoch else [])
    assert not callback.session.active and "log" not in vars(callback)


def test_no_reference_to_the_model_is_kept() -> None:
    callback = watcher(action="observe", log_signature=True)
    model = Digits()
    run = trainer(callback, max_epochs=1)
    run.fit(model)
    reference = weakref.ref(model.net)
    del model, run
    gc.collect()
    assert reference() is None


def test_the_callback_can_be_pickled_and_copied_after_a_fit() -> None:
    callback = watcher(action="observe")
    trainer(callback, max_epochs=1).fit(Digits())
    assert (
        outcome(pickle.loads(pickle.dumps(callback))) == outcome(copy.deepcopy(callback)) == outcome(callback)
    )


def test_nothing_happens_outside_of_fit() -> None:
    callback = watcher()
    run = trainer(callback, fast_dev_run=3)
    run.fit(Digits(DOOMED, validate=True))
    assert run.global_step == 3 and times(callback) == []
    model = Digits(validate=True)
    for function in ("validate", "test", "predict"):
        model.test_step = model.validation_step
        model.predict_step = lambda batch: model.net(batch[0])
        getattr(trainer(callback), function)(model, loader(train=False))
    assert times(callback) == [] and not callback.decision.stop


def test_sanity_checking_is_not_training() -> None:
    callback, seen = watcher(None), Seen()
    trainer(callback, seen, max_epochs=1, num_sanity_val_steps=2).fit(Digits(validate=True))
    assert seen.hooks == [0, 0] and times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


class Seen(L.Callback):
    def __init__(self) -> None:
        self.hooks: list[int] = []

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.sanity_checking:
            self.hooks.append(hooks(pl_module))


def test_tuner_runs_are_not_recorded(tmp_path: Path) -> None:
    from lightning.pytorch.tuner import Tuner

    callback = watcher(None)
    run = trainer(callback, max_epochs=1, default_root_dir=tmp_path)
    model = Digits()
    Tuner(run).lr_find(model, min_lr=1e-4, num_training=10)
    assert times(callback) == []
    model.lr = GOOD
    run.fit(model)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]


def test_two_fits_with_one_callback_are_two_runs() -> None:
    callback = watcher()
    trainer(callback).fit(Digits(DOOMED))
    assert callback.decision.stop
    trainer(callback, max_epochs=1).fit(Digits(GOOD))
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0] and not callback.decision.stop


def test_a_trainer_that_goes_on_goes_on_with_its_record() -> None:
    callback = watcher()
    run, model = trainer(callback, max_epochs=1), Digits()
    run.fit(model)
    run.fit_loop.max_epochs = 2
    run.fit(model)
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]


def test_a_batch_with_nothing_due_costs_a_handful_of_calls() -> None:
    calls: list[int] = []

    class Profiled(GraphDynamicsCallback):
        def on_train_batch_end(self, *args: Any) -> None:
            count = 0

            def profile(frame: Any, event: str, arg: Any) -> None:
                nonlocal count
                count += event == "call"

            sys.setprofile(profile)
            super().on_train_batch_end(*args)
            sys.setprofile(None)
            calls.append(count)

    callback = Profiled(None, strict=True)
    trainer(callback, max_epochs=1).fit(Digits())
    due = {2, 4, 8, 15, BATCHES}
    idle = [count for batch, count in enumerate(calls, start=1) if batch not in due | {1}]
    assert len(idle) == BATCHES - 6 and max(idle) <= 12
