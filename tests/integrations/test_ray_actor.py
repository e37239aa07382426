"""What the trials of a sweep on Ray share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mutations import mutations

pytest.importorskip("ray.tune")

from pyarrow import fs

from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.integrations.ray_actor import (
    SweepActor,
    _journal_path,
    decode_run,
    encode_run,
    flat_params,
)
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun

pytestmark = pytest.mark.needs("ray")


def test_what_has_ended_is_read_again_as_it_was(tmp_path: Path) -> None:
    readings = (Reading(0.25, (1.5, -2.0), (0.5,), 0.75), Reading(1.0, (3.0, 4.0), (0.5, 0.25)))
    audited = SweepRun({"lr": 0.1}, readings, 0.5, weight=20.0)
    stopped = SweepRun({"lr": 0.2}, readings, stopped=True)
    first = SweepActor(str(tmp_path / "journal"))
    for name, run in (("a", audited), ("b", stopped), ("a", stopped)):
        first.add(name, encode_run(run))
    again = [decode_run(run) for _, run in SweepActor(str(tmp_path / "journal")).since(0)]
    assert again == [decode_run(run) for _, run in first.since(0)]
    assert replace(again[0], readings=tuple(again[0].readings)) == audited
    assert again[1].stopped and tuple(again[1].readings) == readings  # others are compared with them


def test_what_can_be_learned_from_a_configuration() -> None:
    config = {"lr": torch.tensor(0.5), "net": {"width": 8, "act": None}, "sizes": [1, 2], "data": object()}
    assert flat_params(config) == {"lr": 0.5, "net/width": 8, "net/act": None, "sizes": "[1, 2]"}


# -- the journal


RUN = SweepRun({"lr": 0.1, "act": None, "seed": 2**64}, (Reading(0.25, (1.5, -2.0), (0.5,), 0.75),), 0.5)


def test_no_line_of_a_journal_ends_a_restart(tmp_path: Path) -> None:
    actor = SweepActor(str(tmp_path / "journal"))
    actor.add("first", encode_run(RUN))
    plain = json.loads((tmp_path / "journal").read_text())
    with (tmp_path / "journal").open("ab") as file:
        for _, mutated in mutations(plain):
            mutated[:1] = ["other"] if mutated[:1] == ["first"] else mutated[:1]
            file.write(json.dumps(mutated).encode() + b"\n")
        file.write(b"\xff\xfe\n[]\nnull\n" + b"[" * 10**5 + b'\n["cut off')
    with pytest.warns(NNDynWarning, match=r"journal has \d+ lines that are no runs of a sweep \(line 3: "):
        again = SweepActor(str(tmp_path / "journal"))
    runs = [decode_run(run) for _, run in again.since(0)]
    assert runs[0] == decode_run(encode_run(RUN)) and len(runs) < 5
    assert SweepPredictor().fit(runs).num_finished <= len(runs)
    again.add("last", encode_run(RUN))
    with pytest.warns(NNDynWarning):
        assert len(SweepActor(str(tmp_path / "journal")).since(0)) == len(runs) + 1


@pytest.mark.parametrize("trial", [None, 1, "x" * 1000, ["a"]])
def test_a_message_that_is_no_run_is_refused(tmp_path: Path, trial: Any) -> None:
    actor = SweepActor(str(tmp_path / "journal"))
    for name, run in ((trial, encode_run(RUN)), ("a", None), ("a", ()), ("a", ({}, (), "much", False, 1.0))):
        with pytest.raises(ValueError):
            actor.add(name, run)  # type: ignore[arg-type]
    assert actor.since(0) == []


@pytest.mark.parametrize("storage", ["this machine's", "one that cannot append"])
def test_a_journal_lies_in_any_storage(tmp_path: Path, storage: str) -> None:
    local = fs.LocalFileSystem()
    files = None if storage == "this machine's" else fs.SubTreeFileSystem(str(tmp_path), local)
    path = str(tmp_path / "a" / "journal") if files is None else "a/journal"
    actor = SweepActor(path, files)
    for name in ("a", "b"):
        actor.add(name, encode_run(RUN))
    assert SweepActor(path, files).since(0) == actor.since(0) and len(actor.since(0)) == 2
    actor.close()
    actor.close()
    assert SweepActor(path, files).since(0) == []


def test_what_could_not_be_written_is_written_with_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    actor = SweepActor(str(tmp_path / "folder" / "journal"))
    with pytest.warns(NNDynWarning, match="cannot be written"):
        actor.add("a", encode_run(RUN))
    (tmp_path / "folder").unlink()
    actor.add("b", encode_run(RUN))
    assert len(SweepActor(str(tmp_path / "folder" / "journal")).since(0)) == 2


def test_a_journal_is_that_of_an_experiment_with_the_same_settings(tmp_path: Path) -> None:
    class Storage:
        storage_filesystem = fs.LocalFileSystem()
        experiment_fs_path = str(tmp_path)

    paths = [_journal_path(name, Storage) for name in ("a", "b", "../../a")]
    for settings in (b"one", b"other", b"one"):
        (tmp_path / "tuner.pkl").write_bytes(settings)
        paths.append(_journal_path("a", Storage))
    assert paths[3] == paths[5] and len(set(paths)) == 5
    assert {Path(path).parent for path in paths} == {tmp_path}
