"""What the callback logs, and that other callbacks can monitor it."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from callback_runs import BATCHES, Digits, rows, times, trainer, watcher
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_nndyn.signature.snapshot import DEFAULT_TIMES


@pytest.mark.parametrize(
    ("validate", "late"),
    [(False, False), (True, False), (True, True)],
    ids=["no validation", "epoch end", "validation end"],
)
def test_model_checkpoint_and_early_stopping_monitor_from_the_first_epoch_on(
    tmp_path: Path, validate: bool, late: bool
) -> None:
    callback = watcher(action="observe")
    saver = ModelCheckpoint(
        tmp_path,
        monitor="nndyn/predicted_accuracy",
        mode="max",
        save_top_k=-1,
        save_on_train_epoch_end=not late,
    )
    stopper = EarlyStopping(
        "nndyn/predicted_accuracy", mode="max", min_delta=2.0, patience=2, check_on_train_epoch_end=not late
    )
    run = trainer(callback, saver, stopper, max_epochs=4, enable_checkpointing=True)
    run.fit(Digits(validate=validate))
    predicted = {v.epoch: v.predicted_accuracy for v in callback.verdicts}
    scores = [pytest.approx(predicted[epoch], abs=1e-6) for epoch in (1.0, 2.0, 3.0)]
    assert [float(score) for score in saver.best_k_models.values()] == scores
    assert run.current_epoch == 3  # no gain of 2.0 after the first: patience ran out two epochs later


def test_monitoring_inside_an_epoch(tmp_path: Path) -> None:
    callback = watcher(action="observe")
    stopper = EarlyStopping("nndyn/p_low", stopping_threshold=1.0)
    run = trainer(callback, stopper, max_epochs=1, val_check_interval=0.5)
    run.fit(Digits(validate=True))
    assert run.should_stop and run.global_step == BATCHES // 2  # p_low is below 1 at the first validation


@pytest.mark.parametrize("every", [1, 7, 1000])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_loggers_get_every_snapshot_once_at_its_step(tmp_path: Path, every: int, accumulate: int) -> None:
    callback = watcher(action="observe")
    settings = {"log_every_n_steps": every, "accumulate_grad_batches": accumulate, "max_epochs": 2}
    trainer(callback, logger=CSVLogger(tmp_path), **settings).fit(Digits(validate=True))
    logged = [row for row in rows(tmp_path) if row["nndyn/predicted_accuracy"]]
    counts = [4, 8, 15, BATCHES, 2 * BATCHES]  # of 30 batches an epoch
    if accumulate == 1:  # otherwise there is nothing new after two batches, and the first fraction waits
        counts.insert(0, 2)
    per_epoch = -(-BATCHES // accumulate)
    steps = [((n - 1) // accumulate if n < BATCHES else n // BATCHES * per_epoch - 1) for n in counts]
    assert [int(row["step"]) for row in logged] == steps
    assert [int(row["epoch"]) for row in logged] == [*(0 for _ in counts[1:]), 1]
    assert times(callback) == [0.0, *DEFAULT_TIMES, 1.0, 2.0]
    verdicts = callback.verdicts[-len(logged) :]
    for i, (row, verdict) in enumerate(zip(logged, verdicts, strict=True), start=1):
        assert float(row["nndyn/predicted_accuracy"]) == pytest.approx(verdict.predicted_accuracy, abs=1e-6)
        assert float(row["nndyn/p_low"]) == pytest.approx(verdict.p_low, abs=1e-6)
        assert float(row["nndyn/in_domain"]) == verdict.in_domain
        assert float(row["nndyn/risk"]) == pytest.approx(verdict.risk, abs=1e-5)
        stops = [verdict.p_low > 0.5 and verdict.in_domain for verdict in verdicts[:i]]
        assert float(row["nndyn/stop"]) == any(stops)


def test_signature_is_logged_where_asked_for(tmp_path: Path) -> None:
    callback = watcher(None, log_signature=True)
    run = trainer(callback, logger=CSVLogger(tmp_path), max_epochs=1)
    run.fit(Digits())
    logged = [row for row in rows(tmp_path) if row["nndyn/degree_mean"]]
    means = [snapshot.statistics[1] for snapshot in callback.history[1:]]
    assert [float(row["nndyn/degree_mean"]) for row in logged] == [pytest.approx(mean) for mean in means]
    assert float(run.callback_metrics["nndyn/eigenvector_kurtosis"]) == pytest.approx(
        callback.history[-1].statistics[9]
    )
    assert "nndyn/stop" not in run.callback_metrics


@pytest.mark.needs("tensorboard")
def test_tensorboard_gets_fractions_of_the_first_epoch(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer(watcher(action="observe"), logger=TensorBoardLogger(tmp_path), max_epochs=1).fit(Digits())
    (file,) = tmp_path.rglob("events.out*")
    events = EventAccumulator(str(file)).Reload().Scalars("nndyn/predicted_accuracy")
    assert [event.step for event in events] == [1, 3, 7, 14, BATCHES - 1]


def test_nothing_of_ours_makes_lightning_warn() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer(watcher(action="observe", log_signature=True)).fit(Digits())
    assert not [str(w.message) for w in found if "nndyn" in str(w.message) or "sync_dist" in str(w.message)]
