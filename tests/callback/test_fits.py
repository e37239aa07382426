"""Fits that end early, that run beside and inside one another, and one after the other."""

from __future__ import annotations

import contextlib
import copy
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, curve_reader, hooks, outcome, times, trainer, watcher
from digits_runs import DOOMED, GOOD, loader
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner import Tuner
from processes import PATIENCE
from torch import Tensor
from torch.utils.data import DataLoader
from trainer_witness import USUAL, Noisy, Validated, Witness, assert_bit_equal, run, watched

from lightning_nndyn import GraphDynamicsCallback, SnapshotTaker, rolled_graph
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES


class Interrupting(L.Callback):
    """Raises in one hook of the first or second epoch."""

    def __init__(self, hook: str, epoch: int, error: Callable[[], None]) -> None:
        self.epoch, self.error = epoch, error
        setattr(self, hook, self.interrupt)

    def interrupt(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and not trainer.sanity_checking:
            self.error()


def out_of_order() -> None:
    raise RuntimeError("out of order")


def control_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def listening_to_control_c() -> Iterator[None]:
    """What a shell starts in the background is deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


HOOKS = """on_train_batch_start on_before_backward on_after_backward on_before_optimizer_step
on_before_zero_grad on_train_batch_end on_validation_start on_train_epoch_end""".split()


@pytest.mark.parametrize("error", [out_of_order, control_c])
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.usefixtures("listening_to_control_c")
def test_whatever_ends_a_run_leaves_nothing_behind(hook: str, error: Any, tmp_path: Path) -> None:
    callback = watcher(None, record=tmp_path)
    for epoch in range(2):
        model = Validated()
        with contextlib.suppress(SystemExit, RuntimeError):
            trainer(callback, Interrupting(hook, epoch, error), max_epochs=3).fit(model)
            assert error is control_c  # some versions of Lightning return
        assert hooks(model) == 0 and not callback.session.active and "log" not in vars(callback)
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        files = tmp_path.glob(f"nndyn-{callback.session.record.run}.json")
        statuses = ['"interrupted"' in file.read_text() for file in files]
        assert statuses == [True] * bool(times(callback))  # before the first reading there is nothing to keep
    trainer(callback, max_epochs=2).fit(Validated())
    assert times(callback) == USUAL


def test_two_callbacks_see_what_one_sees() -> None:
    one, other, alone = watcher(None, snapshots=(0.5, 1)), curve_reader(), curve_reader()
    both = run(Validated, one, other)
    assert_bit_equal(both, run(Validated, alone))
    assert_bit_equal(both, run(Validated))
    assert times(one) == [0.0, 0.5, 1.0]
    assert other.history == alone.history and outcome(other) == outcome(alone)
    assert one.history[1].statistics == pytest.approx(alone.history[4].statistics, rel=1e-4, abs=1e-5)


def test_a_run_inside_of_a_run_has_a_record_of_its_own() -> None:
    class Outer(Noisy):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            if batch_idx == self.current_epoch == 0:  # while the outer one's layers are being found
                inner = Noisy(lr=0.01)
                trainer(*self.callbacks, max_epochs=1).fit(inner)
                self.losses += inner.losses
            return super().training_step(batch, batch_idx)

    def outer(*inner: Any) -> Callable[[], Outer]:
        def model() -> Outer:
            made = Outer()
            made.callbacks = inner
            return made

        return model

    inside, outside = watcher(None), watcher(None)
    inner_witness, witness = Witness(inside), Witness(outside)
    assert_bit_equal(run(outer()), run(outer(inside, inner_witness), outside, witness))
    assert times(inside) == [0.0, *DEFAULT_TIMES, 1.0] and times(outside) == USUAL
    for callback, seen in ((inside, inner_witness), (outside, witness)):
        for snapshot, wanted in zip(callback.history, seen.read, strict=True):
            assert snapshot.statistics == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_trainers_in_two_threads_keep_apart() -> None:
    def fit_both(*pairs: tuple[Any, ...]) -> list[Any]:
        meeting = threading.Barrier(2, timeout=PATIENCE)

        class Meeting(Digits):
            def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
                meeting.wait()  # both are in the same batch, and in the first one both are watched
                return super().training_step(batch, batch_idx)

        models = [Meeting(GOOD, seed=1), Meeting(DOOMED, seed=2)]
        runs = [trainer(*given, max_epochs=2) for given in pairs]
        threads = [threading.Thread(target=run.fit, args=[m]) for run, m in zip(runs, models, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return models

    good, doomed = watcher(action="observe"), watcher(action="observe")
    plain, within = fit_both((), ()), fit_both((good,), (doomed,))
    for before, after, callback in zip(plain, within, (good, doomed), strict=True):
        assert_bit_equal((before, torch.zeros(0)), (after, torch.zeros(0)))
        alone = watcher(action="observe")
        trainer(alone, max_epochs=2).fit(Digits(before.lr, seed=before.seed))
        assert outcome(callback) == outcome(alone) and callback.history == alone.history
        assert hooks(after) == 0
    assert doomed.decision.stop and not good.decision.stop


def test_validation_and_test_between_two_fits_are_not_in_the_record() -> None:
    def sequence(between: bool) -> tuple[GraphDynamicsCallback, Any]:
        callback, model = curve_reader(), Validated()
        run = trainer(callback, max_epochs=1)
        for epochs in (1, 2):
            run.fit_loop.max_epochs = epochs
            run.fit(model)
            if between:
                before = copy.deepcopy(
                    (callback.history, outcome(callback), callback.session.record.accuracies)
                )
                with torch.random.fork_rng():
                    run.validate(model, loader(), verbose=False)  # of the images that it was trained with
                    run.test(model, loader(train=False), verbose=False)
                assert before == (callback.history, outcome(callback), callback.session.record.accuracies)
                assert not callback.session.active
        return callback, model

    torch.manual_seed(5)
    unbroken, plain = sequence(False)
    torch.manual_seed(5)
    callback, model = sequence(True)
    assert plain.losses == model.losses
    assert times(callback) == USUAL
    assert callback.history == unbroken.history and outcome(callback) == outcome(unbroken)
    assert callback.session.record.accuracies == unbroken.session.record.accuracies


def test_one_trainer_that_is_given_another_model_goes_on_with_neither_record_nor_layers() -> None:
    callback = watcher(None)
    first = trainer(callback, max_epochs=1)
    first.fit(Noisy())
    second = trainer(callback, max_epochs=1)
    second.fit(Digits())
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0]
    start = SnapshotTaker(rolled_graph(Digits().net, torch.zeros(1, 1, 8, 8))).take(0.0)
    assert callback.history[0].statistics == pytest.approx(start.statistics, rel=1e-5, abs=1e-6)


class Sized(Noisy):
    """As the batch size finder wants it."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(batch_size=self.batch_size)


def test_looking_for_a_batch_size_is_not_training(tmp_path: Path) -> None:
    def tuned(*callbacks: Any) -> tuple[Any, Tensor]:
        torch.manual_seed(5)
        model = Sized(batch_size=8)
        run = trainer(*callbacks, max_epochs=2, default_root_dir=tmp_path)
        Tuner(run).scale_batch_size(model, init_val=8, max_trials=2, steps_per_trial=2)
        assert all(times(callback) == [] for callback in callbacks)
        run.fit(model)
        return model, torch.get_rng_state()

    callback = watcher(None)
    plain, within = tuned(), tuned(callback)
    assert_bit_equal(plain, within)
    assert within[0].batch_size == plain[0].batch_size > 8 and times(callback) == USUAL


def test_finders_that_run_within_fit_are_not_recorded(tmp_path: Path) -> None:
    def finders() -> list[Any]:
        return [
            BatchSizeFinder(steps_per_trial=2, init_val=8, max_trials=2),
            LearningRateFinder(min_lr=1e-4, num_training_steps=10),
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        callback, witness, model = watched(Sized, others=finders, default_root_dir=tmp_path)
    assert times(callback) == USUAL
    assert witness.steps[0] == 0 < witness.steps[-1] and model.batch_size > 8
