"""Records, lines of the audit and checkpoints with one field that is gone or holds something else."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import Digits, curve_reader, hooks, trainer
from digits_runs import predictor
from mutations import mutations
from typer.testing import CliRunner

from lightning_nndyn.callback.audit import (
    AUDIT_FILE,
    AuditedRun,
    append_audited_run,
    exemption_reason,
    read_audited_runs,
)
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import load_record, read_record, write_record
from lightning_nndyn.callback.session import RunSession
from lightning_nndyn.cli import app
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.evaluation import load_runs, predict_checkpoints
from lightning_nndyn.evaluation.report import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the record of a run of two epochs, and a checkpoint after the first."""
    folder = tmp_path_factory.mktemp("run")
    callback = curve_reader(record=folder)
    fitting = trainer(callback, max_epochs=1)
    fitting.fit(Digits(seed=3, validate=True))
    fitting.save_checkpoint(folder / "run.ckpt")
    yield folder


def small(content: dict[str, Any]) -> dict[str, Any]:
    """With three snapshots of two layers: one layer is mutated as another."""
    content = copy.deepcopy(content)
    content["history"] = content["history"][:3]
    for snapshot in content["history"]:
        snapshot["layers"] = dict(list(snapshot["layers"].items())[:2])
        snapshot["distances"] = snapshot["distances"][:1]
    return content


def record_of(run: Path) -> dict[str, Any]:
    return small(read_record(next(run.glob("nndyn-*.json"))))


def test_every_mutation_of_a_record_is_read_or_named_and_ends_no_report(run: Path, tmp_path: Path) -> None:
    content = record_of(run)
    refused: dict[Path, str] = {}
    for number, (name, mutated) in enumerate(mutations(content)):
        if mutated.get("run") == content["run"]:
            mutated["run"] = f"{number:012x}"
        file = tmp_path / "runs" / f"nndyn-{number}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(mutated))
        try:
            load_record(file)
        except PredictorError as error:
            refused[file] = name
            assert str(file) in str(error)
    assert len(refused) > 1000
    report = write_report([tmp_path / "runs"], tmp_path / "report.html")
    assert len(report.unreadable) == len(refused) and report.summary.runs == number + 1 - len(refused)
    with pytest.warns(NNDynWarning, match=f"{len(refused)} records are left out") as warned:
        assert len(load_runs(tmp_path / "runs")) == report.summary.runs
    assert len(warned) == 1


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b"\xe4hnlich",
    b"[" * 10**5,
    b'{"format": 1}',
    b"1" * 9999,
]


@pytest.fixture
def troubled(run: Path, tmp_path: Path) -> Path:
    """One record that is whole, and many things that are named as records are."""
    folder = tmp_path / "runs"
    folder.mkdir()
    write_record(folder / "nndyn-good.json", {**record_of(run), "history": None})
    shutil.copy(next(run.glob("nndyn-*.json")), folder / "nndyn-good.json")
    for number, content in enumerate(DAMAGED):
        (folder / f"nndyn-{number}.json").write_bytes(content)
    (folder / "nndyn-folder.json").mkdir()
    os.mkfifo(folder / "nndyn-pipe.json")
    (folder / "nndyn-link.json").symlink_to("nowhere")
    (folder / "nndyn-circle.json").symlink_to("nndyn-circle.json")
    return folder


def test_damaged_files_are_named_and_the_others_read(troubled: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(troubled), "--output", str(tmp_path / "report.html")])
    assert done.exit_code == 0, done.output
    assert "1 runs" in done.output and done.output.count("left out:") == len(DAMAGED) + 4
    with pytest.warns(NNDynWarning, match="records are left out"):
        assert [found.file.name for found in load_runs(troubled)] == ["nndyn-good.json"]


@pytest.mark.parametrize("name", ["nndyn-0.json", "nndyn-pipe.json", "nndyn-circle.json", "nowhere", "empty"])
def test_a_path_that_nothing_could_be_read_of_ends_with_status_1(
    troubled: Path, tmp_path: Path, name: str
) -> None:
    (troubled / "empty").mkdir()
    arguments = ["report", str(troubled / name), str(troubled), "--output", str(tmp_path / "report.html")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and (tmp_path / "report.html").exists() and name in done.output


# -- the audit


def test_no_mutation_of_a_line_ends_a_later_run(tmp_path: Path) -> None:
    good = AuditedRun(0.9, 10, False, 0.5, "good")
    append_audited_run(tmp_path, good)
    plain = json.loads((tmp_path / AUDIT_FILE).read_text())
    with (tmp_path / AUDIT_FILE).open("a") as file:
        for _, mutated in mutations({**plain, "run": "bad"}):
            file.write(json.dumps(mutated) + "\n")
        for line in ("[]", "{}", "null", '{"a": ' * 10**5 + "}" * 10**5, "NaN"):
            file.write(line + "\n")
    with pytest.warns(
        NNDynWarning, match=r"nndyn-audit.jsonl has \d+ lines that are no outcomes.*line 3"
    ) as told:
        found = read_audited_runs(tmp_path)
    assert len(told) == 1 and found[0] == good and len(found) < 20
    with pytest.warns(NNDynWarning):
        assert isinstance(exemption_reason(tmp_path, 0.0, 0.05, None, 0.5), str)
    append_audited_run(tmp_path, AuditedRun(0.8, 10, True, 0.5, "later"))
    with pytest.warns(NNDynWarning):
        assert read_audited_runs(tmp_path)[-1].run == "later"


@pytest.mark.parametrize("name", ["../outside", "a/b", "a\\b", "a\0b", "a\n", "x" * 65, "..", 7, None])
def test_a_line_of_the_audit_names_a_run_by_a_word(tmp_path: Path, name: Any) -> None:
    line = {"accuracy": 0.9, "classes": 10, "condemned": False, "share": 0.5, "run": name}
    (tmp_path / AUDIT_FILE).write_text(json.dumps(line))
    with pytest.warns(NNDynWarning, match="line 1"):
        assert read_audited_runs(tmp_path) == []


def test_twenty_thousand_runs_are_read_in_no_time(tmp_path: Path) -> None:
    line = '{"accuracy": 0.9, "classes": 10, "condemned": false, "share": 0.05, "run": "%012x"}\n'
    (tmp_path / AUDIT_FILE).write_text("".join(line % number for number in range(20_000)))
    assert len(read_audited_runs(tmp_path)) == 20_000


# -- checkpoints


def state_of(checkpoint: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    (key,) = [key for key in checkpoint["callbacks"] if "GraphDynamics" in key]
    return key, checkpoint["callbacks"][key]


def test_no_mutation_of_a_checkpoint_ends_a_listing(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "run.ckpt", weights_only=True)
    key, state = state_of(checkpoint)
    state = small({**state, "first_weights": []})
    session = RunSession(curve_reader()._settings())
    kept = 0
    for number, (_, mutated) in enumerate(mutations(state)):
        session.load_state_dict(mutated)
        assert session._load_error is None or isinstance(session._load_error, ValueError)
        if session._load_error is None:
            kept += 1
            content = {**checkpoint, "state_dict": {}, "optimizer_states": [], "callbacks": {key: mutated}}
            torch.save(content, tmp_path / f"{number}.ckpt")
    assert 20 < kept < number / 3
    found = list(predict_checkpoints([tmp_path], predictor(curves=True)))
    assert len(found) == kept


@pytest.mark.parametrize("part", ["callbacks", "loops", "state_dict", "epoch", "global_step"])
def test_no_checkpoint_of_something_else_ends_a_listing(run: Path, tmp_path: Path, part: str) -> None:
    checkpoint = torch.load(run / "run.ckpt", weights_only=True)
    checkpoint |= {"callbacks": {}, "optimizer_states": []}
    checkpoint["loops"] = {"fit_loop": checkpoint["loops"]["fit_loop"]}  # the others' progress is like its
    for number, (_, mutated) in enumerate(mutations({part: checkpoint[part]})):
        torch.save({**checkpoint, **mutated}, tmp_path / f"{number}.ckpt")
    shutil.copy(run / "run.ckpt", tmp_path / "whole.ckpt")
    listed = predict_checkpoints([tmp_path], predictor(curves=True), model="digits_runs:network")
    found = {one.file.stem: one for one in listed}
    assert len(found) == number + 2 and found["whole"].verdict is not None


def test_a_named_checkpoint_that_cannot_be_used_ends_with_status_1(run: Path, tmp_path: Path) -> None:
    predictor(curves=True).save(tmp_path / "own")
    (tmp_path / "bad.ckpt").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.ckpt")
    for other, status in (([], 0), (["bad.ckpt"], 1), (["pipe.ckpt"], 1), (["nowhere"], 1)):
        named = [str(run / "run.ckpt"), *(str(tmp_path / name) for name in other)]
        done = CliRunner().invoke(app, ["predict", *named, "--predictor", str(tmp_path / "own")])
        assert done.exit_code == status and "%" in done.output, done.output


CHANGES: dict[str, Any] = {
    "run": "x/../../../../outside", "history": [{}], "epoch_losses": {"count": 3}, "first_weights": [None],
    "version": None, "eigenvector": torch.zeros(7),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_checkpoint_costs_the_callback_alone(run: Path, tmp_path: Path, name: str) -> None:
    checkpoint = torch.load(run / "run.ckpt", weights_only=True)
    state_of(checkpoint)[1][name] = CHANGES[name]
    torch.save(checkpoint, tmp_path / "run.ckpt")
    records, losses = tmp_path / "deep" / "er" / "records", []
    for callbacks in ([], [curve_reader(record=records, strict=False)]):
        model = Digits(seed=3, validate=True)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            trainer(*callbacks, max_epochs=2).fit(model, ckpt_path=tmp_path / "run.ckpt")
        losses.append(model.losses)
    (message,) = [str(one.message) for one in seen if one.category is NNDynWarning]
    assert "gives up" in message and "training goes on without it" in message
    assert losses[0] == losses[1] and hooks(model) == 0
    assert [file for file in tmp_path.rglob("*.json") if records not in file.parents] == []


def test_a_record_is_what_it_was(run: Path) -> None:
    content = read_record(next(run.glob("nndyn-*.json")))
    again = json.loads(json.dumps(Record.from_dict(content).to_dict()))
    assert again == {name: content[name] for name in again}
