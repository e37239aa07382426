"""Condemned runs that are let finish tell how often the decisions are wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from callback_runs import Digits, Scripted, listening, trainer, watcher
from lightning.pytorch.loggers import CSVLogger
from scipy.stats import beta
from warm_processes import run_warm

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.audit import (
    AUDIT_FILE,
    AuditedRun,
    append_audited_run,
    estimate_false_stop_rate,
    read_audited_runs,
)
from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.errors import NNDynWarning

SURE = 0.999_999_999


def sweep(
    rng: np.random.Generator, runs: int, rate: float, shares: tuple[float, ...], best: float = 0.9
) -> list[AuditedRun]:
    """Runs that finish: half are good, of these `rate` condemned, of these an audit share let finish."""
    found = []
    for share in rng.choice(shares, size=runs):
        good = rng.random() < 0.5
        condemned = rng.random() < (rate if good else 0.9)
        if not condemned or rng.random() < share:
            accuracy = rng.uniform(0.6, best) if good else rng.uniform(0.1, 0.4)
            found.append(AuditedRun(float(accuracy), 10, bool(condemned), float(share)))
    return found


@pytest.mark.parametrize("bar", [(0.5, None), (None, 0.5)], ids=["low_threshold", "low_share"])
@pytest.mark.parametrize("shares", [(0.3,), (0.1, 0.5, 1.0)], ids=["one share", "several"])
@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_the_estimate_is_right_on_average_and_the_bound_in_19_of_20(
    rate: float, shares: tuple[float, ...], bar: tuple[Any, Any]
) -> None:
    rng, draws = np.random.default_rng(1), 400
    rates = [estimate_false_stop_rate(sweep(rng, 160, rate, shares), *bar) for _ in range(draws)]
    estimates = [found.rate for found in rates if found.rate is not None]
    assert len(estimates) == draws
    assert np.mean(estimates) == pytest.approx(rate, abs=3 * np.std(estimates) / draws**0.5 + 0.004)
    misses = sum(found.lower_bound > rate for found in rates)
    assert misses <= 0.05 * draws + 3 * (0.05 * 0.95 * draws) ** 0.5
    assert sum(found.lower_bound > rate / 20 for found in rates) > draws / 20  # it is not always nothing


def test_with_one_share_the_bound_is_that_of_clopper_and_pearson() -> None:
    ended = [AuditedRun(0.9, 10, place < 3, 0.2) for place in range(40)]
    odds = beta.ppf(0.05, 3, 38)
    found = estimate_false_stop_rate(ended, 0.5, None)
    assert found.lower_bound == pytest.approx(odds / (odds + 0.2 * (1 - odds)), rel=1e-6)
    assert found.rate == pytest.approx(15 / 52) and found.num_good == 40


def test_low_runs_do_not_count_and_without_good_ones_nothing_is_known() -> None:
    low = [AuditedRun(0.1, 10, True, 0.05)] * 50
    assert estimate_false_stop_rate(low, 0.5, None) == estimate_false_stop_rate([], 0.5, None)
    assert (
        estimate_false_stop_rate([], 0.5, None).rate is None
        and estimate_false_stop_rate([], None, 0.5).lower_bound == 0
    )
    good = AuditedRun(0.9, 10, False, 0.05)
    assert estimate_false_stop_rate([*low, good], None, 0.5).num_good == 1
    assert estimate_false_stop_rate([good], 0.5, None).rate == 0


@pytest.mark.parametrize(("classes", "lowest"), [(10, 0.5), (2, 0.7), (100, 0.455)])
def test_the_bar_of_a_share_lies_between_guessing_and_the_best(classes: int, lowest: float) -> None:
    def num_good(accuracy: float) -> int:
        runs = [AuditedRun(value, classes, True, 0.5) for value in (0.9, accuracy)]
        return estimate_false_stop_rate(runs, None, 0.5).num_good

    assert (num_good(lowest + 1e-9), num_good(lowest - 1e-9)) == (2, 1)


APPEND = """
import os, sys
from pathlib import Path
from lightning_nndyn.callback.audit import AuditedRun, append_audited_run
other = os.fork()  # both have imported what they need, and begin at once
name = "a" if other else "b"
for i in range(300):
    append_audited_run(Path(sys.argv[1]), AuditedRun(i / 1000, 10, False, 0.5, f"{name}-{i}"))
sys.exit(os.waitpid(other, 0)[1] if other else 0)
"""


def test_runs_that_end_side_by_side_are_all_in_the_ledger(tmp_path: Path) -> None:
    script, ledger = tmp_path / "append.py", tmp_path / "ledger"
    script.write_text(APPEND)
    code, said = run_warm(script, ledger, folder=tmp_path)
    assert code == 0, said
    found = {run.run: run.accuracy for run in read_audited_runs(ledger)}
    assert found == {f"{name}-{i}": i / 1000 for name in "ab" for i in range(300)}


def test_lines_that_are_cut_off_are_passed_over_and_spoil_no_other(tmp_path: Path) -> None:
    first, second = AuditedRun(0.9, 10, True, 0.5, "first"), AuditedRun(0.8, 10, False, 0.5, "second")
    append_audited_run(tmp_path, first)
    with (tmp_path / AUDIT_FILE).open("ab") as file:
        file.write(b'{"accuracy": 0.7, "cla')
    append_audited_run(tmp_path, second)
    with (tmp_path / AUDIT_FILE).open("ab") as file:
        file.write(b'\xff\xfe\nnull\n{"accuracy": 1}\n')
    assert read_audited_runs(tmp_path) == [first, second]
    append_audited_run(tmp_path, AuditedRun(0.95, 10, True, 0.5, "first"))  # resumed, and finished once more
    assert [run.accuracy for run in read_audited_runs(tmp_path)] == [0.95, 0.8]
    assert read_audited_runs(tmp_path / "nowhere") == []


def audited(folder: Path, share: float = SURE, **settings: Any) -> tuple[Any, GraphDynamicsCallback]:
    """A good run that is condemned in the middle of its first epoch."""
    callback = watcher(Scripted({0.5: 1.0}), monitor="val_accuracy", audit_share=share, **settings)
    run = trainer(callback, max_epochs=2, default_root_dir=folder, logger=CSVLogger(folder))
    run.fit(Digits(seed=3, validate=True))
    return run, callback


def record(folder: Path) -> dict[str, Any]:
    (file,) = folder.rglob("nndyn-*.json")
    return read_record(file)


def test_an_audited_run_finishes_although_condemned_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), listening(caplog):
        run, callback = audited(tmp_path)
    assert run.current_epoch == 2 and callback.decision.stop and not run.should_stop
    assert "lets this run finish whatever is decided, as an audit" in caplog.text
    assert "would stop this run" in caplog.text
    found = record(tmp_path)
    assert found["status"] == "finished" and "as an audit" in found["spared"]
    assert found["decision"]["stop"]
    accuracy = max(found["metrics"]["val_accuracy"])
    assert read_audited_runs(tmp_path) == [AuditedRun(accuracy, 10, True, SURE, found["run"])]


def test_a_run_that_is_not_drawn_is_stopped_and_not_in_the_ledger(tmp_path: Path) -> None:
    run, callback = audited(tmp_path, share=1e-12)
    assert callback.decision.stop and run.global_step == 15
    assert record(tmp_path)["status"] == "stopped" and record(tmp_path)["spared"] == ""
    assert read_audited_runs(tmp_path) == []


def test_where_nothing_is_stopped_a_condemned_run_stands_for_itself(tmp_path: Path) -> None:
    audited(tmp_path, share=0.05, action="observe")
    (ended,) = read_audited_runs(tmp_path)
    assert ended.flagged_to_stop and ended.share == 1 and record(tmp_path)["spared"] == ""


def test_stopping_switches_itself_off_where_too_many_good_runs_are_condemned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in range(20):
        append_audited_run(tmp_path, AuditedRun(0.9, 10, name < 5, 0.5, str(name)))
    with caplog.at_level(logging.INFO), listening(caplog):
        run, _ = audited(tmp_path, share=1e-12)
    assert run.current_epoch == 2
    assert "stops nothing any more: of 20 good runs that finished" in caplog.text
    assert read_audited_runs(tmp_path)[-1].share == 1
    run, _ = audited(tmp_path, share=1e-12, max_false_stop_rate=0.9)  # that many may be
    assert run.global_step == 15


@pytest.mark.parametrize("settings", [{"audit_share": 0.1}, {"audit_share": 1.0, "monitor": "val_accuracy"}])
def test_an_audit_takes_a_share_and_a_metric(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"audit_share=.*monitor="):
        GraphDynamicsCallback(None, **settings)


def test_a_resumed_audit_stays_one(tmp_path: Path) -> None:
    run, first = audited(tmp_path)
    run.save_checkpoint(tmp_path / "run.ckpt")
    resumed = watcher(Scripted({0.5: 1.0}), monitor="val_accuracy", audit_share=1e-12)
    again = trainer(resumed, max_epochs=3, default_root_dir=tmp_path)
    again.fit(Digits(seed=3, validate=True), ckpt_path=tmp_path / "run.ckpt")
    assert again.current_epoch == 3 and resumed.session.record.exempt == first.session.record.exempt
    (ended,) = read_audited_runs(tmp_path)
    assert ended.run == first.session.record.run


def test_a_ledger_that_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / AUDIT_FILE).mkdir()
    with pytest.warns(NNDynWarning, match="cannot write to") as found:
        run, _ = audited(tmp_path)
    assert run.current_epoch == 2 and record(tmp_path)["status"] == "finished"
    assert len([w for w in found if w.category is NNDynWarning]) == 1
