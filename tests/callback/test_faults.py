"""Faults from outside: weights that are no numbers, disks that are full, folders and loggers that refuse."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, hooks, times, trainer, watcher
from digits_runs import predictor
from lightning.pytorch.loggers import Logger
from paths import PRETRAINED

import lightning_nndyn as nd
from lightning_nndyn.callback.record_file import find_records, read_record
from lightning_nndyn.errors import NNDynWarning

SHIPPED = PRETRAINED


def losses_without_us(**settings: Any) -> list[float]:
    model = Digits()
    trainer(**settings).fit(model)
    return model.losses


@contextmanager
def warnings_of_ours() -> Iterator[list[str]]:
    """Collects what the callback warns of."""
    ours: list[str] = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield ours
    ours += [str(warning.message) for warning in found if warning.category is NNDynWarning]


# -- weights -------------------------------------------------------------------------------------------------


class Poison(L.Callback):
    """Puts a value into one entry of a layer before a batch, and what was there back before another."""

    def __init__(self, value: float, first: int, last: int = 10**6, layer: int = 0) -> None:
        self.value, self.first, self.last, self.layer = value, first, last, layer

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        weight = [p for p in pl_module.net.parameters() if p.dim() > 1][self.layer]
        with torch.no_grad():
            if trainer.global_step == self.first:
                self.before = weight.detach().clone()
                weight.view(-1)[0] = self.value
            elif trainer.global_step == self.last:
                weight.copy_(self.before)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_weights_that_are_no_numbers_are_recorded_and_harm_nothing(value: float, topology: Any) -> None:
    """1e30 is finite, its square is not."""
    callback = watcher(action="observe", topology=topology)
    with warnings_of_ours() as ours:
        run = trainer(Poison(value, first=10), callback, max_epochs=2)
        run.fit(Digits())
    early = [snapshot.finite for snapshot in callback.history if snapshot.epoch <= 0.25]
    late = [snapshot for snapshot in callback.history if snapshot.epoch >= 0.5]
    assert all(early) and not any(snapshot.finite for snapshot in late) and late[-1].epoch == 2.0
    assert run.current_epoch == 2 and callback.decision.stop and "diverged" in callback.decision.reason
    assert not [message for message in ours if "gives up" in message]


@pytest.mark.parametrize("layer", [0, -1])
def test_weights_that_begin_as_no_numbers(layer: int) -> None:
    callback = watcher(action="observe")
    trainer(Poison(math.nan, first=0, layer=layer), callback, max_epochs=1).fit(Digits())
    assert times(callback)[-1] == 1.0 and not any(snapshot.finite for snapshot in callback.history)


def test_a_checkpoint_of_weights_that_are_no_numbers_loads_and_goes_on(tmp_path: Path) -> None:
    first = watcher(action="observe")
    run = trainer(Poison(math.nan, first=0), first, max_epochs=1)
    run.fit(Digits())
    run.save_checkpoint(tmp_path / "last.ckpt")
    second = watcher(action="observe")
    trainer(second, max_epochs=2).fit(Digits(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert times(second)[: len(first.history)] == times(first) and times(second)[-1] == 2.0


class Passing(L.Callback):
    """Weights are no numbers between two batches, while others read them."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]
        if trainer.global_step < 20:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(math.nan)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step:
            with torch.no_grad():
                for parameter, before in zip(pl_module.parameters(), self.before, strict=True):
                    parameter.copy_(before)


@pytest.mark.parametrize("topology", ["chain", "dataflow"])
def test_weights_that_recover_are_read_as_if_nothing_had_been(topology: Any) -> None:
    troubled, calm = (watcher(None, topology=topology) for _ in range(2))
    trainer(Passing(), troubled, max_epochs=2).fit(Digits())
    trainer(calm, max_epochs=2).fit(Digits())
    assert [snapshot.finite for snapshot in troubled.history] == [True, *[False] * 4, True, True]
    last, wanted = troubled.history[-1], calm.history[-1]
    assert last.statistics == pytest.approx(wanted.statistics, rel=1e-4, abs=1e-5)
    assert last.distances == wanted.distances


# -- disks and folders ---------------------------------------------------------------------------------------


@contextmanager
def files_no_longer_than(limit: int) -> Iterator[None]:
    """The system refuses to write more, in the middle of a file: as a disk does that has become full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Fills(L.Callback):
    """The disk is full from the second epoch on, and has room again once we have written the last time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[dict[str, Any]] = []
        self.full = files_no_longer_than(100)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.records.append(read_record(next(find_records(self.folder))))
            self.full.__enter__()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.full.__exit__(None, None, None)
        self.records.append(read_record(next(find_records(self.folder))))


def test_a_disk_that_becomes_full_leaves_the_last_whole_record_until_there_is_room(tmp_path: Path) -> None:
    callback, fills, model = watcher(action="observe", record=tmp_path), Fills(tmp_path), Digits()
    with warnings_of_ours() as ours:
        trainer(callback, fills).fit(model)
    (message,) = ours
    assert "cannot write to" in message and "not kept" in message
    assert [path.name for path in tmp_path.iterdir()] == [next(find_records(tmp_path)).name]  # no half a file
    assert fills.records[0] == fills.records[1] and fills.records[0]["status"] == "running"
    found = read_record(next(find_records(tmp_path)))
    assert found["status"] == "finished" and found["history"][-1]["epoch"] == 3.0
    assert model.losses == losses_without_us() and times(callback)[-1] == 3.0 and callback.verdicts


def unwritable(folder: Path) -> Path:
    """A folder in which not even root may make a file."""
    if os.geteuid() == 0:
        return Path("/proc")
    folder.chmod(0o500)
    return folder


class Silent(Logger):
    """Writes nothing of its own."""

    name, version = "silent", 0

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def save_dir(self) -> str:
        return str(self._folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...


@pytest.mark.parametrize("below", ["", "new"])
def test_a_log_folder_that_cannot_be_written_to_costs_the_record_alone(tmp_path: Path, below: str) -> None:
    folder = unwritable(tmp_path) / below
    callback, model = watcher(action="observe"), Digits()
    with warnings_of_ours() as ours:
        trainer(callback, logger=Silent(folder)).fit(model)
    (message,) = ours
    assert "cannot write to" in message and str(folder) in message
    assert model.losses == losses_without_us() and times(callback)[-1] == 3.0 and callback.verdicts


# -- loggers -------------------------------------------------------------------------------------------------


class Late(Silent):
    """Fails in the last epoch only."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "nndyn/p_low" in metrics and metrics.get("epoch", 0) >= 2:
            raise ConnectionError("the server is gone")


def test_a_logger_that_fails_late_leaves_what_was_decided_before(tmp_path: Path) -> None:
    callback, model = watcher(action="observe", strict=False, record=tmp_path), Digits()
    with warnings_of_ours() as ours:
        trainer(callback, logger=Late(tmp_path), log_every_n_steps=1).fit(model)
    assert [message for message in ours if "the server is gone" in message] == ours and len(ours) == 1
    assert model.losses == losses_without_us() and hooks(model) == 0
    assert read_record(next(find_records(tmp_path)))["status"] != "running"


# -- predictors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["no card", "half a file", "another file", "a card of nothing", "a folder"])
def test_a_damaged_predictor_costs_the_callback_alone(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "mine"
    predictor().save(path)
    artefact = next(tmp_path.glob("*.skops"))
    card = next(tmp_path.glob("*.json"))
    if fault == "no card":
        card.unlink()
    elif fault == "half a file":
        artefact.write_bytes(artefact.read_bytes()[:1000])
    elif fault == "another file":
        shutil.copy(SHIPPED / "lenet5-digits.skops", artefact)
    elif fault == "a card of nothing":
        card.write_text(json.dumps({}))
    else:
        artefact.unlink()
        artefact.mkdir()
    model = Digits()
    with warnings_of_ours() as ours:
        trainer(nd.GraphDynamicsCallback(artefact)).fit(model)
    (message,) = ours
    assert "ArtefactError" in message and "training goes on without it" in message
    assert model.losses == losses_without_us() and hooks(model) == 0
