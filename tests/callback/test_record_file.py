"""Each run leaves a record in a file, whatever ends it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from callback_runs import BATCHES, Digits, Interrupted, curve_reader, outcome, times, trainer, watcher
from digits_runs import DOOMED, predictor
from lightning.pytorch.loggers import CSVLogger
from processes import PATIENCE, wait_until
from torch import Tensor
from warm_processes import Warm

from lightning_nndyn import Verdict
from lightning_nndyn.callback import record_file
from lightning_nndyn.callback.audit import AUDIT_FILE, AuditedRun, read_audited_runs
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import (
    FINISHED,
    STOPPED,
    RecordWriter,
    load_record,
    plain_hparams,
    read_record,
    write_record,
)
from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.evaluation import load_runs


@pytest.fixture(autouse=True)
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests could not write is not tried here."""
    monkeypatch.setattr(record_file, "_waiting", {})


def records(folder: Path) -> list[dict[str, Any]]:
    return [read_record(file) for file in sorted(folder.rglob("nndyn-*.json"))]


def test_the_audit_file_has_the_best_accuracy_and_not_the_last(tmp_path: Path) -> None:
    writer = RecordWriter(None, {}, audit_folder=tmp_path, share=0.25, monitor="accuracy")
    verdict = Verdict(0.5, 0.1, 1.0, True)
    record = Record(verdicts=[verdict], metrics={"accuracy": [None, 0.9, 0.7]}, classes=10)
    writer.end(record, FINISHED, flagged_to_stop=True)
    assert read_audited_runs(tmp_path) == [AuditedRun(0.9, 10, True, 0.25, record.run)]
    for status in (FINISHED, STOPPED):
        writer.end(Record(metrics=record.metrics, verdicts=[verdict] * (status == STOPPED)), status)
    assert len(read_audited_runs(tmp_path)) == 1


def test_without_a_logger_there_is_no_record_but_where_a_folder_is_given(tmp_path: Path) -> None:
    trainer(watcher(None), max_epochs=1, default_root_dir=tmp_path).fit(Digits())
    trainer(watcher(None, record=False), max_epochs=1, logger=CSVLogger(tmp_path)).fit(Digits())
    assert records(tmp_path) == []
    for _ in range(2):
        trainer(watcher(None, record=str(tmp_path / "a" / "b")), max_epochs=1).fit(Digits())
    first, second = records(tmp_path / "a" / "b")
    assert first["run"] != second["run"] and first["status"] == second["status"] == "finished"


def test_two_fits_of_one_callback_are_two_records(tmp_path: Path) -> None:
    callback = watcher(None, record=tmp_path)
    for _ in range(2):
        trainer(callback, max_epochs=1).fit(Digits())
    assert len({found["run"] for found in records(tmp_path)}) == 2


class Failing(Digits):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 1 and batch_idx == 5:
            raise self.error
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("error", [RuntimeError("out of order"), KeyboardInterrupt()])
def test_an_interrupted_run_says_so(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises((RuntimeError, SystemExit)):
        trainer(watcher(None, record=tmp_path)).fit(Failing(error))
    (found,) = records(tmp_path)
    assert found["status"] == "interrupted"
    assert [snapshot["epoch"] for snapshot in found["history"]][-1] == 1.0


def test_a_stopped_run_says_so_and_one_condemned_at_its_very_end_has_finished(tmp_path: Path) -> None:
    trainer(watcher(record=tmp_path / "stopped")).fit(Digits(DOOMED))
    trainer(watcher(record=tmp_path / "end", snapshots=(1,)), max_epochs=1).fit(Digits(DOOMED))
    (stopped,), (end,) = records(tmp_path / "stopped"), records(tmp_path / "end")
    assert stopped["decision"]["stop"] and stopped["status"] == "stopped"
    assert end["decision"]["stop"] and end["status"] == "finished"


def test_a_run_whose_callback_gives_up_does_not_seem_to_go_on(tmp_path: Path) -> None:
    class Moody(type(predictor())):  # type: ignore[misc]
        def __init__(self) -> None:
            self.__dict__.update(predictor().__dict__)

        def predict(self, history: Any, **_: Any) -> Any:
            raise ZeroDivisionError

    with pytest.warns(NNDynWarning, match="gives up"):
        trainer(watcher(Moody(), record=tmp_path, strict=False), max_epochs=2).fit(Digits())
    (found,) = records(tmp_path)
    assert found["status"] == "interrupted"


KILLED = """
import sys, time
from callback_runs import Digits, curve_reader, trainer
import lightning.pytorch as L

class Wait(L.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 2:
            print("waiting", flush=True)
            time.sleep(600)

trainer(curve_reader(record=sys.argv[1]), Wait(), max_epochs=4).fit(Digits(validate=True))
"""


def test_a_killed_run_leaves_a_whole_record_of_its_last_epoch(tmp_path: Path) -> None:
    script, output, kept = tmp_path / "train.py", tmp_path / "output.txt", tmp_path / "records"
    script.write_text(KILLED)
    run = Warm(script, kept, folder=tmp_path, output=output)
    try:
        wait_until(lambda: output.exists() and "waiting" in output.read_text(), run)
    finally:
        run.kill()
    run.wait(PATIENCE)
    (found,) = records(kept)
    assert found["status"] == "running" and len(found["metrics"]["val_accuracy"]) == 2
    assert Record.from_dict(found).verdicts[-1].epoch == 2.0


def test_a_reader_never_sees_half_a_record(tmp_path: Path) -> None:
    file, script = tmp_path / "nndyn-x.json", tmp_path / "write.py"
    script.write_text(
        "import sys; from pathlib import Path\n"
        "from lightning_nndyn.callback.record_file import write_record\n"
        "for i in range(10**6): write_record(Path(sys.argv[1]), {'values': [i] * 20_000})\n"
    )
    writer = Warm(script, file, folder=tmp_path, output=tmp_path / "output.txt")
    try:
        wait_until(file.exists, writer)
        seen: set[tuple[int, ...]] = set()
        wait_until(lambda: seen.add(tuple(set(read_record(file)["values"]))) or len(seen) > 100, writer)
    finally:
        writer.kill()
    assert all(len(values) == 1 for values in seen)


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("trouble", ["full disk", "a file is in the way"])
def test_where_the_record_cannot_be_written_it_is_said_once_and_training_goes_on(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    if trouble == "full disk":
        monkeypatch.setattr(record_file, "write_record", full)
    else:
        folder.write_text("")
    callback, plain, watched = watcher(record=folder, action="observe"), Digits(), Digits()
    with pytest.warns(NNDynWarning, match=r"cannot write to .*this run's record is not kept") as found:
        trainer(callback).fit(watched)
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    trainer().fit(plain)
    assert plain.losses == watched.losses and times(callback)[-1] == 3.0 and callback.verdicts


class FullOnce:
    """The disk is full at one write of a record, counted from 0."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.write = at, 0, record_file.write_record

    def __call__(self, *args: Any) -> None:
        self.count += 1
        if self.count == self.at + 1:
            full()
        self.write(*args)


@pytest.mark.parametrize("at", [0, 1, 2, 3], ids=["first epoch", "second", "third", "the end"])
def test_what_could_not_be_written_once_is_written_at_the_next_chance(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_file, "write_record", FullOnce(at))
    with pytest.warns(NNDynWarning, match="cannot write to"):
        trainer(watcher(None, record=tmp_path)).fit(Digits())
    (found,) = records(tmp_path)
    assert found["status"] == "finished" and found["history"][-1]["epoch"] == 3.0


def test_a_record_whose_last_write_failed_is_written_by_the_next_run_or_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(L.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            raise Interrupted  # Lightning calls no teardown then

    monkeypatch.setattr(record_file, "write_record", FullOnce(1))
    with pytest.warns(NNDynWarning, match="cannot write to"), pytest.raises(Interrupted):
        trainer(watcher(None, record=tmp_path), Stop()).fit(Digits())
    assert [found["status"] for found in records(tmp_path)] == ["running"]
    assert record_file.write_waiting() == {}
    assert [found["status"] for found in records(tmp_path)] == ["interrupted"]


def test_an_audited_run_is_added_once_there_is_room(tmp_path: Path) -> None:
    writer, record = RecordWriter(None, {}, audit_folder=tmp_path, monitor="accuracy"), Record()
    record.verdicts, record.metrics = [Verdict(0.5, 0.5, 1.0, True)], {"accuracy": [0.5]}
    (tmp_path / AUDIT_FILE).mkdir()
    with pytest.warns(NNDynWarning, match="cannot write to"):
        writer.end(record, "finished")
    (tmp_path / AUDIT_FILE).rmdir()
    record_file.write_waiting()
    record_file.write_waiting()
    assert [run.run for run in read_audited_runs(tmp_path)] == [record.run]


def test_a_write_that_fails_leaves_the_older_record(tmp_path: Path) -> None:
    file = tmp_path / "nndyn-x.json"
    write_record(file, {"value": 1})
    with pytest.raises(TypeError):
        write_record(file, {"value": object()})
    assert read_record(file)["value"] == 1 and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("cut", [BATCHES + 7, 2 * BATCHES])
def test_a_resumed_run_goes_on_with_its_record(tmp_path: Path, cut: int) -> None:
    class Save(L.Callback):
        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == cut:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == cut and cut % BATCHES:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

    first, second = (curve_reader(record=tmp_path) for _ in range(2))
    trainer(first, Save()).fit(Digits(validate=True))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not resumable.*")
        trainer(second, max_epochs=4).fit(Digits(validate=True), ckpt_path=tmp_path / "run.ckpt")
    (found,) = records(tmp_path)
    assert found["run"] == first.session.record.run and found["status"] == "finished"
    assert len(found["metrics"]["val_accuracy"]) == 4
    assert outcome(second) == (
        [s["epoch"] for s in found["history"]],
        Record.from_dict(found).verdicts,
        second.decision,
    )


def test_of_a_run_with_two_records_the_longer_one_counts(tmp_path: Path) -> None:
    first, second = watcher(None, record=tmp_path / "z"), watcher(None, record=tmp_path / "a")
    run = trainer(first, max_epochs=1)
    run.fit(Digits())
    run.save_checkpoint(tmp_path / "run.ckpt")
    trainer(second, max_epochs=2).fit(Digits(), ckpt_path=tmp_path / "run.ckpt")
    assert len(records(tmp_path)) == 2
    (found,) = load_runs(tmp_path)
    assert found.file.parent.name == "a" and found.history[-1].epoch == 2.0


def test_hyperparameters_of_any_kind_become_short_plain_values() -> None:
    found = plain_hparams(
        {"lr": 0.1, "on": True, "nothing": None, 3: [1, 2], "nan": float("nan"), "x": "y" * 999}
    )
    wanted = {"lr": 0.1, "on": True, "nothing": None, "3": "[1, 2]", "nan": "nan"}
    assert {name: value for name, value in found.items() if name != "x"} == wanted
    assert len(str(found["x"])) == 80
    assert len(plain_hparams(dict.fromkeys(range(1000)))) == 64


def test_a_record_has_the_model_s_hyperparameters(tmp_path: Path) -> None:
    class Own(Digits):
        def __init__(self, width: int, lr: float) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

    trainer(watcher(record=tmp_path), max_epochs=1).fit(Own(3, 0.01))
    (file,) = tmp_path.glob("nndyn-*.json")
    assert load_record(file)[1].hparams == {"width": 3, "lr": 0.01}
