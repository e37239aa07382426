"""Two processes on the CPU: they read, log and stop alike, and none waits for one whose callback failed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from digits_runs import predictor
from processes import needs_gloo, results, run_script, times

from lightning_nndyn.callback.audit import read_audited_runs
from lightning_nndyn.signature.snapshot import DEFAULT_TIMES

BATCHES = 30  # on each process
OWN = ("metrics", "epoch_losses")

pytestmark = needs_gloo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left their results."""
    folder = tmp_path_factory.mktemp("ddp")
    predictor(), predictor(curves=True)  # the two processes read them, and need not import what fits them
    run_script("ddp_script.py", folder, copies=2)
    return folder


@pytest.mark.parametrize("name", ["doomed", "good", "cut short", "curves", "audited", "by steps"])
def test_both_processes_have_one_record_and_one_end(folder: Path, name: str) -> None:
    first, second = results(folder, name)
    assert first["error"] is None and second["error"] is None
    # The first keeps the record, and each has losses of its own.
    own = (
        {name: value for name, value in result["record"].items() if name not in OWN}
        for result in (first, second)
    )
    assert next(own) == next(own)
    assert first["steps"] == second["steps"]
    apart = {"val_accuracy"} if name in ("curves", "audited", "by steps") else set()
    shared = first["metrics"].keys() - apart
    assert {key: first["metrics"][key] for key in shared} == {key: second["metrics"][key] for key in shared}
    assert first["weights"] == second["weights"]


def test_losses_and_accuracies_are_the_means_of_both(folder: Path) -> None:
    first, second = results(folder, "curves")
    losses = [[sum(result["losses"][:BATCHES]) / BATCHES for result in (first, second)]]
    recorded = {time: so_far for time, so_far, _ in first["record"]["losses"]}
    assert losses[0][0] != losses[0][1]
    assert recorded[1.0] == pytest.approx(sum(losses[0]) / 2, rel=1e-5)
    lately = [sum(result["losses"][BATCHES - 2 : BATCHES]) / 2 for result in (first, second)]
    assert first["record"]["losses"][4][2] == pytest.approx(sum(lately) / 2, rel=1e-5)
    assert first["record"]["accuracies"] == pytest.approx([0.6, 0.7])  # 0.5 and 0.7, 0.6 and 0.8
    assert [verdict["kind"] for verdict in first["record"]["verdicts"]] == ["fused"] * 6
    (file,) = (folder / "own").iterdir()  # one of them writes
    assert json.loads(file.read_text())["status"] == "finished"


def test_stretches_of_steps_are_read_and_judged_alike(folder: Path) -> None:
    first, second = results(folder, "by steps")
    assert times(first) == [0.0, *DEFAULT_TIMES, 1.0, 2.0, 3.0] and first["steps"] == 2 * BATCHES
    assert first["record"]["accuracies"] == pytest.approx([0.6, 0.7, 0.7])  # in epochs 0, 1 and 1
    predicted = [verdict["predicted_accuracy"] for verdict in first["record"]["verdicts"][-3:]]
    best = pytest.approx(sorted(predicted)[-2:], abs=1e-6)
    assert first["saved"] == second["saved"] == best


def test_an_audited_run_finishes_on_both(folder: Path) -> None:
    first, second = results(folder, "audited")
    assert first["steps"] == second["steps"] == 2 * BATCHES and first["record"]["decision"]["stop"]
    assert "as an audit" in first["record"]["spared"] == second["record"]["spared"]
    (ended,) = read_audited_runs(folder / "ledger")
    assert ended.flagged_to_stop and ended.run == first["record"]["run"]


def test_a_doomed_run_is_stopped_on_both(folder: Path) -> None:
    first, _ = results(folder, "doomed")
    assert first["record"]["decision"]["stop"] and first["steps"] == 2  # a sixteenth of 30 batches
    assert "predicted final accuracy" in first["record"]["decision"]["reason"]
    output = (folder / "output.txt").read_text()
    assert (
        output.count(f"stops this run: {first['record']['decision']['reason']}") == 1
    )  # printed by one of them


def test_a_good_run_is_monitored_and_logged_without_warnings(folder: Path) -> None:
    first, second = results(folder, "good")
    assert times(first) == [0.0, *DEFAULT_TIMES, 1.0, 2.0] and first["steps"] == 2 * BATCHES
    predicted = [verdict["predicted_accuracy"] for verdict in first["record"]["verdicts"][-2:]]
    assert first["saved"] == second["saved"] == [pytest.approx(p, abs=1e-6) for p in sorted(predicted)]
    for result in (first, second):
        assert not [w for w in result["warnings"] if "nndyn" in w or "sync_dist" in w or "batch_size" in w]
    (file,) = folder.rglob("metrics.csv")
    with file.open() as lines:
        steps = [row["step"] for row in csv.DictReader(lines) if row["nndyn/p_low"]]
    assert steps == ["1", "3", "7", "14", "29", "59"]


def test_an_epoch_that_is_cut_short_is_monitored_too(folder: Path) -> None:
    first, _ = results(folder, "cut short")
    assert times(first) == [0.0, 1.0, 2.0] and first["steps"] == 10
    last = first["record"]["verdicts"][-1]["predicted_accuracy"]
    assert first["metrics"]["nndyn/predicted_accuracy"] == pytest.approx(last, abs=1e-6)
    assert not [w for w in first["warnings"] if "sync_dist" in w]


@pytest.mark.parametrize(
    ("name", "steps"),
    [("one stops", 8), ("one stops at the end", BATCHES), ("one stops after a stretch", 40)],
)
def test_where_one_process_wants_to_stop_both_do(folder: Path, name: str, steps: int) -> None:
    first, second = results(folder, name)
    assert first["steps"] == second["steps"] == steps
    assert first["record"]["decision"] == {
        "stop": True,
        "reason": "another process decided to stop",
        "epoch": times(first)[-1],
    }
    assert "(p_low 1.00 > 0.50" in second["record"]["decision"]["reason"]
    assert first["record"]["history"] == second["record"]["history"]


def test_where_one_process_fails_both_train_on_without_the_callback(folder: Path) -> None:
    first, second = results(folder, "one fails")
    assert first["steps"] == second["steps"] == 2 * BATCHES and first["weights"] == second["weights"]
    assert times(first) == times(second) == [0.0, *DEFAULT_TIMES[:3]]
    warned = [[w for w in result["warnings"] if "gives up" in w] for result in (first, second)]
    assert [len(ours) for ours in warned] == [0, 1]
    assert "on process 1" in warned[1][0] and "ZeroDivisionError: only on process 1" in warned[1][0]
    assert first["metrics"] == second["metrics"]


def test_where_one_process_lacks_the_predictor_both_train_on(folder: Path) -> None:
    first, second = results(folder, "one has no predictor")
    assert first["error"] is None and second["error"] is None
    assert first["steps"] == second["steps"] == 2 * BATCHES and first["weights"] == second["weights"]
    assert "nndyn/stop" not in first["metrics"] and first["metrics"] == second["metrics"]


def test_strict_raises_on_both(folder: Path) -> None:
    first, second = results(folder, "one fails, strict")
    assert first["steps"] == second["steps"] == 8
    assert first["error"] == "NNDynError: GraphDynamicsCallback failed on another process, see its output"
    assert second["error"] == "ZeroDivisionError: only on process 1"
