"""So many optimizer steps take the place of an epoch: for data without length, and for one long epoch."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, Digits, curve_reader, rows, times, trainer, watcher
from digits_runs import DOOMED
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from stretch_runs import Long, by_steps, endless, facts
from torch import Tensor

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.epochs import SnapshotSchedule, StepCounter, check_times
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.predictor import TrainingSetup
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

STRETCH = [0.0, *DEFAULT_TIMES, 1.0]


# -- when snapshots are due ----------------------------------------------------------------------------------


def after(counter: StepCounter, steps: int) -> tuple[float, ...]:
    """What is due once there are so many steps."""
    return counter.after_batch(SimpleNamespace(global_step=steps), 0)


def test_schedule() -> None:
    schedule = SnapshotSchedule.from_times(check_times((1, 3, 0.5, 0.26, 0.01)), 4)
    assert [schedule.after_batch(0, count, count == 4) for count in range(1, 5)] == [
        (0.01,),
        (0.26, 0.5),
        (),
        (1,),
    ]
    assert [schedule.after_batch(epoch, 1, True) for epoch in range(1, 4)] == [(), (3,), ()]
    assert SnapshotSchedule.from_times(None, math.inf).impossible == DEFAULT_TIMES
    assert SnapshotSchedule.from_times(None, math.inf).after_batch(5, 7, True) == (6.0,)


def test_each_step_is_a_batch_of_a_short_epoch() -> None:
    counter = StepCounter(None, 16)
    due = {step: after(counter, step) for step in range(1, 49)}
    assert {step: times for step, times in due.items() if times} == {
        1: (0.0625,),
        2: (0.125,),
        4: (0.25,),
        8: (0.5,),
        16: (1.0,),
        32: (2.0,),
        48: (3.0,),
    }


def test_a_batch_may_bring_no_step_or_several() -> None:
    counter = StepCounter((0.5, 1, 2, 3), 5)
    seen = []
    for steps in (0, 2, 2, 4, 6, 8, 10, 10, 16):
        due = after(counter, steps)
        seen.append((due, counter.ending, counter.num_ended, counter.validated_epoch(None)))
    assert seen == [
        ((), False, 0, 0),
        ((), False, 0, 0),
        ((), False, 0, 0),
        ((0.5,), False, 0, 0),
        ((1.0,), True, 1, 0),
        ((), False, 1, 1),
        ((2.0,), True, 2, 1),
        ((), False, 2, 2),
        ((3.0,), True, 3, 2),
    ]


def test_a_resumed_run_counts_on() -> None:
    counter = StepCounter(None, 4, steps=6)
    assert (counter.ending, after(counter, 7), after(counter, 8)) == (False, (), (2.0,))
    resumed = StepCounter(None, 4, steps=8)
    assert resumed.ending and resumed.validated_epoch(None) == 1
    assert not StepCounter(None, 4).ending
    assert [(one.time(None), one.num_started) for one in (counter, resumed)] == [(2.0, 2), (2.0, 2)]
    assert (after(counter, 9), counter.time(None), counter.num_started) == ((), 2.25, 3)


@pytest.mark.parametrize("wrong", [0, -3, 1.5, 100.0, True, "10"])
def test_what_is_no_number_of_steps_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"snapshot_every_n_steps={wrong!r}"):
        GraphDynamicsCallback(snapshot_every_n_steps=wrong)
    assert GraphDynamicsCallback(snapshot_every_n_steps=1).snapshot_every_n_steps == 1


# -- runs ----------------------------------------------------------------------------------------------------


def test_the_record_of_stretches_as_long_as_epochs_is_that_of_epochs(tmp_path: Path) -> None:
    by_epochs, stretched, logs = curve_reader(), by_steps(), {}
    for name, callback in (("epochs", by_epochs), ("steps", stretched)):
        logger = CSVLogger(tmp_path / name)
        trainer(callback, logger=logger, log_every_n_steps=7).fit(Digits(seed=3, validate=True))
        logs[name] = rows(tmp_path / name)
    assert [verdict.epoch for verdict in stretched.verdicts] == [*DEFAULT_TIMES, 1.0, 2.0, 3.0]
    assert {verdict.kind for verdict in stretched.verdicts} == {"fused"}
    assert facts(stretched) == facts(by_epochs)
    ours = [
        [(row["step"], row["nndyn/risk"], row["epoch"]) for row in logs[name] if row["nndyn/risk"]]
        for name in logs
    ]
    assert ours[0] == ours[1] and len(ours[0]) == 7


@pytest.mark.parametrize("monitor", [None, "val_accuracy"])
def test_a_run_that_is_stopped_has_the_same_record_too(monitor: str | None) -> None:
    settings = {"action": "stop", "monitor": monitor}
    by_epochs, stretched = curve_reader(**settings), by_steps(**settings)
    for callback in (by_epochs, stretched):
        run = trainer(callback)
        run.fit(Digits(DOOMED, validate=True))
        assert run.global_step == 2
    assert stretched.decision.stop and facts(stretched) == facts(by_epochs)


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
@pytest.mark.parametrize(
    ("settings", "steps", "length", "planned"),
    [
        ({"max_epochs": 7}, None, BATCHES, 7),
        ({"max_epochs": 7}, 2 * BATCHES, BATCHES, 3.5),
        ({"max_epochs": 7, "max_steps": 3 * BATCHES}, None, BATCHES, 3),
        ({"max_epochs": 2, "max_steps": 3 * BATCHES}, None, BATCHES, 2),
        ({"max_epochs": 7, "accumulate_grad_batches": 2}, 4 * BATCHES, 8 * BATCHES, 7),
        ({"max_epochs": None, "max_steps": 3 * BATCHES}, None, BATCHES, 3),
        ({"max_epochs": -1}, None, BATCHES, -1),
        ({"max_epochs": 7}, None, None, 7),
        ({"max_epochs": 7}, BATCHES, None, None),  # an epoch of the data has no length
        ({"max_epochs": -1, "max_steps": 3 * BATCHES}, BATCHES, None, 3),
    ],
)  # fmt: skip
def test_a_run_is_planned_for_what_its_trainer_allows(
    settings: dict[str, Any], steps: int | None, length: int | None, planned: float | None
) -> None:
    class Ends(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = True

    callback = watcher(action="observe", snapshots=(), snapshot_every_n_steps=steps)
    trainer(callback, Ends(), **settings).fit(Long(length=length))
    assert callback.session.record.training.planned_epochs == planned


@pytest.mark.parametrize("steps", [None, 2])
def test_a_schedule_of_accumulated_gradients_counts_as_the_trainers_own(steps: int | None) -> None:
    """Lightning sets what its scheduler says only after it has told callbacks that training begins."""
    found = []
    for others, settings in [
        ([], {"accumulate_grad_batches": 2}),
        ([GradientAccumulationScheduler({0: 2, 5: 1})], {}),
    ]:
        callback = watcher(None, snapshot_every_n_steps=steps)
        run = trainer(callback, *others, max_epochs=1, **settings)
        run.fit(Digits())
        found.append(
            (
                callback.session.record.training,
                run.global_step,
                times(callback),
                callback.session.record.losses,
            )
        )
    assert found[0] == found[1]
    assert found[0][0].steps_per_epoch == (steps or math.ceil(BATCHES / 2))


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
@pytest.mark.parametrize("length", [None, 4 * BATCHES], ids=["without end", "one long epoch"])
def test_a_long_epoch_is_read_in_stretches(tmp_path: Path, length: int | None) -> None:
    callback = by_steps(record=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNDynWarning)
        run = endless(callback, steps=3 * BATCHES + 4)
        run.fit(Long(length=length))
    assert run.current_epoch <= 1 and times(callback) == [*STRETCH, 2.0, 3.0]
    record = callback.session.record
    assert record.training == TrainingSetup(BATCHES, "sgd", planned_epochs=3 + 4 / BATCHES)
    assert [verdict.epoch for verdict in callback.verdicts] == times(callback)[1:]
    assert {verdict.kind for verdict in callback.verdicts} == {"fused"}
    assert all(verdict.in_domain for verdict in callback.verdicts)
    assert len(record.accuracies) == 3 and record.accuracies[2] > record.accuracies[0]
    (file,) = tmp_path.iterdir()
    content = read_record(file)
    assert content["status"] == "finished" and content["steps_per_epoch"] == BATCHES
    # What comes after the last stretch begins a fourth one, in which no validation has come.
    *known, last = content["metrics"]["val_accuracy"]
    assert known == pytest.approx(record.accuracies) and last is None


def test_losses_are_those_of_each_stretch() -> None:
    callback, model = by_steps(action="observe"), Long(length=2 * BATCHES)
    endless(callback, steps=2 * BATCHES).fit(model)
    for time, losses in ((1.0, model.losses[:BATCHES]), (2.0, model.losses[BATCHES:])):
        found = callback.session.record.losses[time]
        assert found == pytest.approx((sum(losses) / BATCHES, sum(losses[-2:]) / 2), rel=1e-5)


def test_short_epochs_do_not_disturb_a_stretch() -> None:
    """A stretch of three epochs, and validation at the end of each: the last one counts."""
    callback = by_steps(snapshot_every_n_steps=15)
    trainer(callback, limit_train_batches=5, max_epochs=7).fit(Digits(validate=True))
    assert times(callback) == [*STRETCH, 2.0]
    assert len(callback.session.record.accuracies) == 3  # the third stretch has begun
    whole, model = by_steps(snapshot_every_n_steps=15), Digits(validate=True)
    trainer(whole, limit_train_batches=5, max_epochs=3).fit(model)
    assert whole.session.record.losses[1.0] == pytest.approx(
        (sum(model.losses) / 15, model.losses[-1]), rel=1e-5
    )


def test_with_accumulated_gradients_a_stretch_counts_steps() -> None:
    callback, model = by_steps(snapshot_every_n_steps=8), Long(length=100)
    run = endless(callback, steps=20, accumulate_grad_batches=4, val_check_interval=32)
    run.fit(model)
    assert times(callback) == [*STRETCH, 2.0] and len(callback.session.record.accuracies) == 2
    assert callback.session.record.losses[1.0] == pytest.approx(
        (sum(model.losses[:32]) / 32, sum(model.losses[30:32]) / 2), rel=1e-5
    )
    start, first = (snapshot.statistics for snapshot in callback.history[:2])
    assert start != first  # the first sixteenth is not over before the first step


class TwoOptimizers(Long):
    """Body and head have an optimizer each, which the Trainer counts one by one."""

    def __init__(self) -> None:
        super().__init__(length=60)
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        *body, head = self.net.children()
        groups = [[p for module in body for p in module.parameters()], list(head.parameters())]
        return [torch.optim.SGD(group, lr=0.05) for group in groups]


def test_of_several_optimizers_each_step_counts_and_a_stretch_ends_with_its_batch() -> None:
    callback = by_steps(snapshot_every_n_steps=15)
    run = endless(callback, steps=60, val_check_interval=15)
    run.fit(TwoOptimizers())
    assert run.global_step == 60 and times(callback) == [*STRETCH, 2.0, 3.0, 4.0]
    # Steps 15 and 45 are the first of two in their batches. Validation comes after steps 30 and 60.
    assert [math.isnan(accuracy) for accuracy in callback.session.record.accuracies] == [
        True,
        False,
        True,
        False,
    ]
    assert len(callback.session.record.losses) == len(DEFAULT_TIMES) + 4


def test_fractions_and_whole_stretches_may_be_chosen() -> None:
    callback = watcher(None, snapshots=(0.5, 2), snapshot_every_n_steps=10)
    trainer(callback, max_epochs=1).fit(Digits())
    assert times(callback) == [0.0, 0.5, 2.0]


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}])
def test_training_is_bit_equal_with_and_without_the_callback(settings: dict[str, Any]) -> None:
    def run(*callbacks: Any) -> tuple[Any, Tensor]:
        torch.manual_seed(5)
        model = Long(length=70)
        endless(*callbacks, steps=20, val_check_interval=7, **settings).fit(model)
        return model, torch.get_rng_state()

    callback = by_steps(snapshot_every_n_steps=7)
    (plain, plain_random), (watched, watched_random) = run(), run(callback)
    assert times(callback) == [*STRETCH, 2.0] and callback.verdicts
    assert plain.losses == watched.losses
    assert torch.equal(plain_random, watched_random)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name


# -- resume --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*IterableDataset.*")
@pytest.mark.parametrize("every", [5, BATCHES, BATCHES + 7])
@pytest.mark.parametrize("length", [None, 3 * BATCHES], ids=["without end", "one long epoch"])
def test_a_resumed_run_has_the_record_of_the_unbroken_one(
    tmp_path: Path, every: int, length: int | None
) -> None:
    """From the checkpoint that is saved in the middle of a stretch, and from that of a stretch's end."""
    saver = ModelCheckpoint(
        tmp_path, filename="{step}", every_n_train_steps=every, save_top_k=-1, save_on_train_epoch_end=False
    )
    if every == BATCHES:  # with what validation has brought
        saver = ModelCheckpoint(
            tmp_path, filename="{step}", monitor="val_accuracy", save_top_k=-1, save_on_train_epoch_end=False
        )
    unbroken, resumed = by_steps(), by_steps()
    endless(unbroken, saver, enable_checkpointing=True).fit(Long(seed=3, length=length))
    path = tmp_path / f"step={every}.ckpt"
    torch.load(path, weights_only=True)
    run = endless(resumed)
    run.fit(Long(seed=3, length=length), ckpt_path=path)
    assert run.global_step == 3 * BATCHES
    assert resumed.session.record.losses == unbroken.session.record.losses
    assert resumed.session.record.accuracies == unbroken.session.record.accuracies
    assert resumed.session.record.run == unbroken.session.record.run
    assert resumed.decision == unbroken.decision
    assert [v.epoch for v in resumed.verdicts] == [v.epoch for v in unbroken.verdicts] == times(unbroken)[1:]
    for found, wanted in zip(resumed.history, unbroken.history, strict=True):
        assert found.statistics == pytest.approx(wanted.statistics, rel=1e-5, abs=1e-6)
    for found, wanted in zip(resumed.verdicts, unbroken.verdicts, strict=True):
        assert found.p_low == pytest.approx(wanted.p_low, abs=1e-4) and found.kind == wanted.kind


def test_another_length_of_stretch_is_another_callback(tmp_path: Path) -> None:
    assert len({by_steps(snapshot_every_n_steps=steps).state_key for steps in (None, 10, 20)}) == 3
