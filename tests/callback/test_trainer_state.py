"""What a Trainer can do, in one process: the record is right, and training is what it is without us."""

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
from callback_runs import BATCHES, Digits, Endless, curve_reader, hooks, outcome, times, trainer, watcher
from digits_runs import DOOMED, GOOD, loader
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner import Tuner
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_nndyn import GraphDynamicsCallback, SnapshotTaker, rolled_graph
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

USUAL = [0.0, *DEFAULT_TIMES, 1.0, 2.0]


def statistics(net: nn.Module) -> tuple[float, ...]:
    """Of a graph that is built anew from a copy of the weights, in single precision."""
    graph = rolled_graph(copy.deepcopy(net).float(), torch.zeros(1, 1, 8, 8))
    return SnapshotTaker(graph).take(0.0).statistics


class Witness(L.Callback):
    """Reads the weights for itself whenever the callback has done so; notes after which step."""

    def __init__(self, callback: GraphDynamicsCallback) -> None:
        self.callback = callback
        self.read: list[tuple[float, ...]] = []
        self.steps: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = statistics(pl_module.net)

    def look(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        new = len(self.callback.history) - len(self.read)
        if new and not self.read:
            self.read, self.steps, new = [self.start], [0], new - 1
        self.read += [statistics(pl_module.net)] * new if new else []
        self.steps += [trainer.global_step] * new

    on_train_batch_end = on_train_epoch_end = look


Run = tuple[Any, Tensor]


def run(
    kind: Callable[[], Any], *callbacks: Any, others: Callable[[], list[Any]] = list, **settings: Any
) -> Run:
    """A model that was trained, and what comes next of random numbers."""
    torch.manual_seed(5)
    model = kind()
    trainer(*callbacks, *others(), **{"max_epochs": 2, **settings}).fit(model)
    return model, torch.get_rng_state()


def assert_bit_equal(first: Run, second: Run) -> None:
    assert first[0].losses == second[0].losses
    assert torch.equal(first[1], second[1])
    for (name, before), after in zip(
        first[0].state_dict().items(), second[0].state_dict().values(), strict=True
    ):
        assert torch.equal(before, after), name


def watched(
    kind: Callable[[], Any], others: Callable[[], list[Any]] = list, tolerance: float = 1e-5, **settings: Any
) -> tuple[GraphDynamicsCallback, Witness, Any]:
    """Trains with and without the callback, and checks it against the witness."""
    callback = watcher(None, action="observe", log_signature=not settings.get("barebones"))
    witness = Witness(callback)
    plain, within = (
        run(kind, others=others, **settings),
        run(kind, callback, witness, others=others, **settings),
    )
    assert_bit_equal(plain, within)
    assert hooks(within[0]) == 0 and not callback.session.active
    assert len(witness.read) == len(callback.history)
    for snapshot, wanted in zip(callback.history, witness.read, strict=True):
        assert snapshot.statistics == pytest.approx(wanted, rel=tolerance, abs=tolerance / 10, nan_ok=True)
    return callback, witness, within[0]


class Noisy(Digits):
    """Dropout draws random numbers, batch norm keeps statistics."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            body = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3))
            self.net = nn.Sequential(*body, nn.Linear(144, 10))

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("test_loss", F.cross_entropy(self.net(batch[0]), batch[1]))


class Validated(Noisy):
    def __init__(self) -> None:
        super().__init__(validate=True)


class TwoOptimizers(Noisy):
    """Body and head have an optimizer each, which take turns or step together."""

    together = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        body, head = self.net[:2].parameters(), self.net[-1].parameters()
        return torch.optim.SGD(body, lr=0.05, momentum=0.9), torch.optim.Adam(head, lr=1e-3)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        for optimizer in self.optimizers():
            if not self.together:
                self.toggle_optimizer(optimizer)
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            if not self.together:
                self.untoggle_optimizer(optimizer)
        return loss.detach()


class AllAtOnce(TwoOptimizers):
    together = True


class AccumulatedByHand(Noisy):
    """Manual optimization that steps after every fourth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.manual_backward(loss / 4)
        if batch_idx % 4 == 3:
            self.optimizers().step()
            self.optimizers().zero_grad()
        return loss.detach()


class Reloading(Noisy):
    """Each epoch has a loader of its own, with other batches and fewer of them."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(seed=self.current_epoch, batch_size=48 * (self.current_epoch + 1))


class Streamed(Validated):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Endless(), batch_size=None)


def swa() -> list[Any]:
    return [StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)]


def ema() -> list[Any]:
    kind = getattr(L.callbacks, "EMAWeightAveraging", None)
    return [kind(decay=0.9)] if kind else pytest.skip("this Lightning averages no weights")


CASES: dict[str, tuple[Any, dict[str, Any], list[float]]] = {
    "two optimizers that take turns": (TwoOptimizers, {}, USUAL),
    "two optimizers": (AllAtOnce, {}, USUAL),
    "accumulated gradients": (Noisy, {"accumulate_grad_batches": 4}, USUAL),
    "gradients accumulated by hand": (AccumulatedByHand, {}, USUAL),
    "validation within the epoch": (Validated, {"val_check_interval": 0.25}, USUAL),
    "validation across epochs": (
        Validated,
        {"val_check_interval": 7, "check_val_every_n_epoch": None, "limit_val_batches": 2},
        USUAL,
    ),
    "a part of the batches": (Noisy, {"limit_train_batches": 0.3}, USUAL),
    "one batch": (Validated, {"limit_train_batches": 1, "limit_val_batches": 1}, USUAL),
    "no validation": (Validated, {"limit_val_batches": 0}, USUAL),
    "the same batches again": (Noisy, {"overfit_batches": 3}, USUAL),
    "other loaders each epoch": (Reloading, {"reload_dataloaders_every_n_epochs": 1}, USUAL),
    "bare bones": (Noisy, {"barebones": True, "logger": None, "enable_checkpointing": None}, USUAL),
    "weights averaged at the end": (Validated, {"others": swa}, [*USUAL, 3.0]),  # an epoch for batch norm
    "weights averaged throughout": (Validated, {"others": ema, "val_check_interval": 0.5}, USUAL),
    "16-mixed": (Validated, {"precision": "16-mixed"}, USUAL),
    "bf16-mixed": (Validated, {"precision": "bf16-mixed"}, USUAL),
    "bf16-true": (Validated, {"precision": "bf16-true"}, USUAL),
    "16-true": (Validated, {"precision": "16-true"}, USUAL),
    "64-true": (Validated, {"precision": "64-true"}, USUAL),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error::lightning_nndyn.errors.NNDynWarning")
def test_the_record_is_right_and_training_is_what_it_is_without_us(case: str) -> None:
    kind, settings, wanted = CASES[case]
    callback, witness, _ = watched(kind, **settings)
    assert times(callback) == wanted
    assert witness.steps == sorted(witness.steps)


def test_each_time_is_read_after_the_step_that_it_names() -> None:
    _, witness, _ = watched(Noisy)
    batches = [2, 4, 8, 15, BATCHES]
    assert witness.steps == [0, *batches, 2 * BATCHES]
    _, witness, _ = watched(TwoOptimizers)  # the Trainer counts both optimizers' steps
    assert witness.steps == [0, *(2 * count for count in batches), 4 * BATCHES]
    _, witness, _ = watched(Validated, others=ema)
    assert witness.steps == [0, *batches, 2 * BATCHES]


def test_without_a_length_epoch_ends_are_read_and_validation_may_fall_anywhere() -> None:
    settings = {"val_check_interval": 7, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    with pytest.warns(NNDynWarning, match="no length") as found:
        callback, witness, _ = watched(Streamed, **settings)
    assert len([warning for warning in found if warning.category is NNDynWarning]) == 1
    assert times(callback) == [0.0, 1.0, 2.0] and witness.steps == [0, BATCHES, 2 * BATCHES]


def test_averaging_weights_does_not_show_in_the_record_while_training_goes_on() -> None:
    averaged, _, model = watched(Validated, others=ema)
    plain, _, other = watched(Validated)
    assert averaged.history == plain.history
    assert statistics(model.net) != pytest.approx(
        statistics(other.net), rel=1e-3
    )  # at the end it is swapped in


def test_the_epoch_that_batch_norm_gets_after_averaging_has_the_averaged_weights() -> None:
    callback, _, model = watched(Validated, others=swa)
    assert callback.history[-1].statistics == pytest.approx(statistics(model.net), rel=1e-5, abs=1e-6)
    assert callback.history[-2].statistics != pytest.approx(statistics(model.net), rel=1e-5, abs=1e-6)


def test_steps_that_a_gradient_scaler_skips_are_waited_for() -> None:
    def scaler() -> dict[str, Any]:
        return {
            "plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**24))]
        }

    class Fresh(Noisy):
        def __init__(self) -> None:
            super().__init__()
            self.moved: list[bool] = []

        def on_train_batch_end(self, *_: Any) -> None:
            weight = self.net[0].weight.detach().clone()
            self.moved.append(not torch.equal(weight, self.start) if self.moved else False)
            self.start = weight

        def on_train_start(self) -> None:
            self.start = self.net[0].weight.detach().clone()

    def fit(*callbacks: Any) -> Run:
        return run(Fresh, *callbacks, **scaler())

    callback = watcher(None, action="observe")
    witness = Witness(callback)
    plain, within = fit(), fit(callback, witness)
    assert_bit_equal(plain, within)
    first = within[0].moved.index(True)  # batch, counted from 0
    assert first >= 2 and times(callback) == USUAL  # a sixteenth of the epoch is due after two batches
    late = [i for i, count in enumerate((2, 4, 8, 15), start=1) if count <= first]
    assert late
    next_one = callback.history[late[-1] + 1].statistics
    assert all(callback.history[i].statistics == next_one != callback.history[0].statistics for i in late)


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
        meeting = threading.Barrier(2, timeout=60)

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
