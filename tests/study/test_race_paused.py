"""Races whose runs go on from checkpoints: they end as runs that were never paused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from paths import SUPPORT
from paused_runs import BATCHES, run

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.record_file import load_record
from lightning_nndyn.errors import NNDynWarning, SweepError
from lightning_nndyn.study import race
from lightning_nndyn.study.race_journal import RungResult
from lightning_nndyn.study.race_result import RaceResult, Rung
from lightning_nndyn.study.rung_callback import RungCallback

FEW = ((1 / 4, 0.9), (1.0, 0.5))
"""Rungs of a race between two, both of which reach the second rung."""


class Train:
    """What a race calls.

    Args:
        resumes: whether a run goes on from its checkpoint.
        settings: of `run`.

    Attributes:
        ends: the digest of the weights with which each candidate's latest lap has ended.
        batches: that were trained.
    """

    def __init__(self, resumes: bool = True, **settings: Any) -> None:
        self.settings = {"resumes": resumes, **settings}
        self.ends: dict[float, str] = {}
        self.batches: list[tuple[float, int, int]] = []

    def __call__(self, params: dict[str, Any], callback: Any) -> float:
        value, self.ends[params["rate"]], seen = run(params, callback, **self.settings)
        self.batches += [(params["rate"], *batch) for batch in seen]
        return value


def candidates(*rates: float, **others: Any) -> list[dict[str, Any]]:
    return [{"rate": rate, "lr": rate, **others} for rate in rates]


def lines(file: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def assert_alike(one: Path, other: Path) -> None:
    """Two races have the same results and readings, to the last bit; but for the seconds."""
    assert [*lines(one)] == [*lines(other)]


SETTINGS: dict[str, Any] = {
    "predictor": None, "monitor": "val_acc", "earlier_runs": False, "verbose": False, "strict": True
}  # fmt: skip


@pytest.mark.parametrize(
    ("params", "settings", "twice"),
    [
        ({}, {}, 0),
        ({"own": True}, {"accumulate_grad_batches": 2}, 0),
        ({"own": True, "plateau": True}, {}, 2),  # cannot go on within an epoch as if it had not been paused
    ],
    ids=["plain", "accumulating", "plateau"],
)
def test_a_paused_run_ends_as_one_that_was_never_paused(
    tmp_path: Path, params: dict[str, Any], settings: dict[str, Any], twice: int
) -> None:
    params = {"rate": 0.3, **params}
    whole = run(params, GraphDynamicsCallback(**SETTINGS), **settings)
    begin, batches = None, []
    for end in (1 / 4, 1.0, None):
        path = tmp_path / f"{end}.ckpt"
        value, weights, seen = run(params, RungCallback(end, begin, path, **SETTINGS), **settings)
        batches += seen
        begin = path if path.exists() else None
    assert (value, weights) == whole[:2]
    assert sorted(set(batches)) == whole[2] and len(batches) == len(whole[2]) + twice
    torch.load(tmp_path / "1.0.ckpt", weights_only=True)


def test_a_train_that_does_not_ask_for_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    paused, anew, tried = Train(), Train(resumes=False), candidates(0.01, 0.3)
    race(paused, tried, file=tmp_path / "paused", rungs=FEW)
    race(anew, tried, file=tmp_path / "anew", rungs=FEW, keep_checkpoints=True)
    assert_alike(tmp_path / "paused", tmp_path / "anew")
    assert paused.ends == anew.ends
    assert len(paused.batches) == len(set(paused.batches)) == len(anew.batches) - 2 * BATCHES // 4 - BATCHES
    assert not list(tmp_path.glob("*.checkpoints"))


def test_a_race_that_is_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SUPPORT / "race_killed_script.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "killed", tmp_path / "whole")
    ends = {
        name: dict(line.split()[1:] for line in done.stdout.splitlines() if line.startswith(f"{name} 0."))
        for name in ("killed", "whole")
    }
    assert ends["killed"] == ends["whole"] and len(ends["whole"]) == 3
    assert not list(tmp_path.glob("*.checkpoints"))


def test_a_resumed_lap_goes_on_with_the_record_of_its_run(tmp_path: Path) -> None:
    race(Train(folder=tmp_path / "logs"), candidates(0.3, 1e-6), file=tmp_path / "r", rungs=FEW)
    records = {file: load_record(file) for file in (tmp_path / "logs").rglob("nndyn-*.json")}
    assert len(records) == len({record.run for record, _ in records.values()}) == 2
    assert sorted(record.history[-1].epoch for record, _ in records.values()) == [1.0, 4.0]
    assert sorted(stored.status for _, stored in records.values()) == ["finished", "stopped"]


def test_checkpoints_of_paused_runs_are_kept_if_wanted(tmp_path: Path) -> None:
    tried = candidates(0.3, 0.01)
    found = race(Train(), tried, file=tmp_path / "r", rungs=FEW, keep_checkpoints=True)
    assert found.best == 0
    assert [path.name for path in (tmp_path / "r.checkpoints").iterdir()] == ["candidate1-rung1.ckpt"]
    assert race(Train(), tried, file=tmp_path / "r", rungs=FEW) == found
    assert not (tmp_path / "r.checkpoints").exists()


def test_where_no_checkpoint_can_be_written_runs_begin_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    tried = candidates(0.3, 0.01)
    race(Train(), tried, file=tmp_path / "whole", rungs=FEW)
    monkeypatch.setattr(L.Trainer, "save_checkpoint", full)
    with pytest.warns(NNDynWarning, match=r"rung0.ckpt cannot be written \(No space left .*begins anew"):
        race(Train(), tried, file=tmp_path / "full", rungs=FEW)
    assert_alike(tmp_path / "full", tmp_path / "whole")


# -- when the others turn out worse --------------------------------------------------------------------------


def test_a_paused_run_takes_the_place_of_one_that_fails_later(tmp_path: Path) -> None:
    class Failing(Train):
        def __call__(self, params: dict[str, Any], callback: Any) -> float:
            if params["rate"] == 0.3 and str(callback.ckpt_path).endswith("rung1.ckpt"):
                raise RuntimeError("no memory")
            return super().__call__(params, callback)

    train = Failing()
    found = race(train, candidates(0.3, 1e-6), file=tmp_path / "r", rungs=FEW)
    assert found.reason(0) == "RuntimeError: no memory" and found.best == 1
    assert len(train.batches) == len(set(train.batches))  # it has gone on where it was


def state(*results: RungResult, count: int = 4) -> RaceResult:
    known = {(result.rung, result.candidate): result for result in results}
    return RaceResult([{}] * count, [Rung(1.0, 0.5), Rung(2.0, 0.25)], known)


FIRST = [RungResult(index, 0, best_accuracy=accuracy) for index, accuracy in enumerate([0.9, 0.8, 0.7, 0.6])]


def test_the_next_goes_on_for_each_that_has_failed() -> None:
    assert state(*FIRST).running(1) == [0, 1]
    broken = RungResult(0, 1, failure="has diverged")
    assert state(*FIRST, broken).running(1) == [0, 1, 2]
    second = RungResult(1, 1, best_accuracy=0.8)
    found = state(*FIRST, broken, second)
    assert found.ranking(1) == []  # as long as candidate 2 has not reached the rung
    assert state(*FIRST, broken, second, RungResult(2, 1, best_accuracy=0.9)).running(2) == [2]
    lost = [RungResult(index, 1, failure="has diverged") for index in range(4)]
    assert state(*FIRST, *lost).running(1) == [0, 1, 2, 3]


def test_a_paused_run_goes_on_if_all_that_have_ended_were_worse() -> None:
    second = [RungResult(0, 1, best_accuracy=0.9), RungResult(1, 1, best_accuracy=0.8)]
    good, bad, none = (RungResult(0, 2, value=0.5, best_accuracy=one) for one in (0.9, 0.75, None))
    assert state(*FIRST, *second, good).running(2) == state(*FIRST, *second, none).running(2) == [0]
    assert state(*FIRST, *second, bad).running(2) == [0, 1]
    other = RungResult(1, 2, value=0.6, best_accuracy=0.65)
    assert state(*FIRST, *second, bad, other).running(2) == [
        0,
        1,
    ]  # candidate 2 had 0.7
    assert state(*FIRST, *second, bad, other).best == 1
    diverged = RungResult(0, 2, failure="has diverged", best_accuracy=0.9)
    assert state(*FIRST, *second, diverged).running(2) == [0, 1]


def test_a_race_whose_promoted_runs_all_fail_ends(tmp_path: Path) -> None:
    class Failing(Train):
        def __call__(self, params: dict[str, Any], callback: Any) -> float:
            if callback.ckpt_path:
                raise RuntimeError("no memory")
            return super().__call__(params, callback)

    with pytest.raises(SweepError, match="all of the promoted 3 runs failed, the last with RuntimeError: no"):
        race(Failing(), candidates(0.3, 0.1, 1e-6, 0.01), file=tmp_path / "r", rungs=((1 / 4, 0.5),))
    assert len(lines(tmp_path / "r")) == 7
