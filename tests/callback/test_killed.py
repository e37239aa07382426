"""Runs that are killed without warning and go on in another process, as after a power cut.

The test starts this file as a script; it forks a process for each run, which kills itself where it is told.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import BATCHES, rows, trainer, watcher
from digits_runs import predictor
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from resumable_runs import Resumable
from warm_processes import run_warm

from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

EPOCHS = 3
EVERY = 7  # steps between checkpoints within an epoch: 28 and 35 are on the two sides of an epoch's end

PLACES = {
    **{f"after epoch {epoch}": (epoch * BATCHES, None) for epoch in range(1, EPOCHS + 1)},
    "in the first epoch": (11, EVERY),
    "in the second epoch": (BATCHES + 22, EVERY),
}
"""Step after which a run is killed, and steps between its checkpoints; None for one after each epoch."""


class Kill(L.Callback):
    """Pulls the plug after a step; at an epoch's end once its checkpoint has been saved."""

    def __init__(self, step: int, every: int | None) -> None:
        self.step, self.at_batch = step, every is not None

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.at_batch:
            self.pull(trainer)

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        self.pull(trainer)

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        self.pull(trainer)

    def pull(self, trainer: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder: Path, part: str, every: int | None, kill: int | None = None) -> None:
    """Trains from the last checkpoint in the folder, if there is one, and writes down how it has ended."""
    ours = watcher(
        predictor(curves=True), monitor="val_accuracy", action="observe", record=folder / "records"
    )
    saver = ModelCheckpoint(folder, save_last=True, every_n_train_steps=every)
    killer = [] if kill is None else [Kill(kill, every)]
    logger = CSVLogger(folder, name="logs", version=part, flush_logs_every_n_steps=1)
    run = trainer(*killer, ours, saver, max_epochs=EPOCHS, logger=logger, enable_checkpointing=True)
    last = folder / "last.ckpt"
    run.fit(Resumable(), ckpt_path=last if last.exists() else None)
    ended = {"steps": run.global_step, "epochs": run.current_epoch, "record": ours.session.record.to_dict()}
    (folder / "ended.json").write_text(json.dumps(ended))


def fork(*arguments: Any) -> int:
    """Trains in a new process; returns the signal that has ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "see the traceback above"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    predictor(curves=True)  # read once, before the processes are forked
    assert fork(folder / "unbroken", "whole", None) == 0
    for name, (step, every) in PLACES.items():
        assert fork(folder / name, "first", every, step) == signal.SIGKILL
        assert fork(folder / name, "second", every) == 0


# -- what came out -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    predictor(curves=True)  # which the script reads
    code, said = run_warm(Path(__file__), folder, folder=folder)
    assert code == 0, said
    return folder


def ended(folder: Path) -> tuple[dict[str, Any], Record]:
    content = json.loads((folder / "ended.json").read_text())
    return content, Record.from_dict(content["record"])


def logged(folder: Path) -> dict[tuple[str, str], set[str]]:
    """All values by their step and key, from the logs of all parts of a run."""
    found: dict[tuple[str, str], set[str]] = {}
    for file in (folder / "logs").rglob("metrics.csv"):
        for row in rows(file.parent):
            for key, value in row.items():
                if value and key != "step":
                    found.setdefault((row["step"], key), set()).add(value)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_goes_on_as_the_unbroken_one(folder: Path, place: str) -> None:
    (content, found), (whole, wanted) = ended(folder / place), ended(folder / "unbroken")
    assert (
        (content["steps"], content["epochs"])
        == (whole["steps"], whole["epochs"])
        == (EPOCHS * BATCHES, EPOCHS)
    )
    assert [s.epoch for s in wanted.history] == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0]
    for one, other in zip(found.history, wanted.history, strict=True):
        assert one.epoch == other.epoch
        assert one.statistics == pytest.approx(other.statistics, rel=1e-5, abs=1e-6)
        assert one.distances == pytest.approx(other.distances, rel=1e-5)
    assert (found.losses, found.accuracies, found.metrics) == (
        wanted.losses,
        wanted.accuracies,
        wanted.metrics,
    )
    for one, other in zip(found.verdicts, wanted.verdicts, strict=True):
        assert (one.epoch, one.kind, one.in_domain) == (other.epoch, "fused", other.in_domain)
        assert one.p_low == pytest.approx(other.p_low, abs=1e-4)
        assert one.predicted_accuracy == pytest.approx(other.predicted_accuracy, abs=1e-4)
    assert (found.decision.stop, found.decision.epoch) == (wanted.decision.stop, wanted.decision.epoch)


@pytest.mark.parametrize("place", PLACES)
def test_its_logs_together_are_the_unbroken_runs(folder: Path, place: str) -> None:
    found, wanted = logged(folder / place), logged(folder / "unbroken")
    assert found.keys() == wanted.keys()
    assert {"nndyn/risk", "nndyn/stop", "val_accuracy"} <= {key for _, key in wanted}
    for key, values in found.items():  # what was logged after the last checkpoint is logged again, alike
        (value,) = wanted[key]
        assert [float(value) for value in values] == [pytest.approx(float(value), abs=1e-3)] * len(values)


@pytest.mark.parametrize("place", PLACES)
def test_it_leaves_one_record_that_says_finished(folder: Path, place: str) -> None:
    content, record = ended(folder / place)
    (file,) = (folder / place / "records").iterdir()
    assert file.name == f"nndyn-{record.run}.json"
    assert read_record(file)["status"] == "finished"
    assert Record.from_dict(read_record(file)).verdicts == record.verdicts
    assert read_record(file)["metrics"] == content["record"]["metrics"]


@pytest.mark.parametrize("place", PLACES)
def test_its_checkpoints_load_without_executing_anything(folder: Path, place: str) -> None:
    content = torch.load(folder / place / "last.ckpt", weights_only=True)
    assert any(key.startswith("GraphDynamicsCallback") for key in content["callbacks"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
