"""What a report takes from a record: made-up ones, without training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic_runs import START, snapshot

from lightning_nndyn.callback.record import Record
from lightning_nndyn.evaluation.report.chart_data import MOST_TIMES, payload
from lightning_nndyn.evaluation.report.low_runs import DEFAULT, report_rule
from lightning_nndyn.evaluation.report.recorded_run import RecordedRun, recorded_run
from lightning_nndyn.evaluation.report.records import RecordedRuns
from lightning_nndyn.evaluation.report.summary import prediction_errors
from lightning_nndyn.predictor import Verdict
from lightning_nndyn.predictor.policy import Decision


def run(
    times: Sequence[float] = (0.0, 0.25, 1.0, 2.0),
    rows: int = 2,
    *,
    curve: Sequence[float | None] = (),
    verdicts: Sequence[Verdict] = (),
    stop: float | None = None,
    **facts: Any,
) -> RecordedRun:
    """A recorded run that was read at these times; `stop` is the time of a decision to stop it."""
    decision = Decision(stop is not None, "as was decided", 0.0 if stop is None else stop)
    history, metrics = [snapshot(time, START) for time in times], {"acc": [0.5] * rows}
    record = Record(history, list(verdicts), decision, metrics=metrics, classes=10)
    known = {"status": "finished", "max_epochs": 10, "every_n_steps": None, "hparams": {"lr": 0.1}}
    known |= {"action": "stop", "monitor": "acc", "mode": None, "predictor": None, "layer_sizes": []}
    stored: Any = SimpleNamespace(**{**known, "policy": {}, **facts})
    found = recorded_run(Path("logs") / f"nndyn-{record.run}.json", record, stored)
    found.curve = curve
    return found


def verdict(time: float, accuracy: float = 0.5, **facts: Any) -> Verdict:
    return Verdict(
        **{"predicted_accuracy": accuracy, "p_low": 0.5, "epoch": time, "in_domain": True, **facts}
    )


@pytest.mark.parametrize(
    ("status", "times", "rows", "epochs"),
    [
        ("stopped", (0.0, 0.25), 1, 0.25),  # the validation that follows is no epoch
        ("stopped", (0.0, 0.25), 2, 2.0),
        ("stopped", (0.0, 0.25, 1.0), 1, 1.0),
        ("finished", (0.0, 0.25), 1, 1.0),
        ("finished", (0.0, 1.0, 2.0), 1, 2.0),
        ("running", (), 0, 0.0),
    ],
)
def test_a_run_was_trained_as_far_as_it_was_read_or_its_metrics_go(
    status: str, times: tuple[float, ...], rows: int, epochs: float
) -> None:
    assert run(times, rows, status=status).epochs == epochs


@pytest.mark.parametrize(
    ("facts", "saved"),
    [
        ({"status": "stopped", "stop": 1.0}, 8.0),
        ({"status": "stopped", "stop": 1.0, "max_epochs": 1}, 0.0),
        ({"status": "stopped", "stop": 1.0, "max_epochs": -1}, None),
        ({"status": "stopped", "stop": 1.0, "max_epochs": None}, None),
        ({"status": "stopped", "stop": 1.0, "every_n_steps": 100}, None),  # the plan counts other epochs
        ({"status": "finished", "stop": 0.5}, 1.5),
        ({"status": "finished"}, 0.0),
    ],
)
def test_epochs_are_saved_where_a_plan_ends_later_or_training_went_on(
    facts: dict[str, Any], saved: float | None
) -> None:
    found = run(**facts)
    assert found.saved == saved
    assert found.flagged_to_stop is (facts["status"] == "finished" and "stop" in facts)


def test_a_run_has_finished_with_the_best_of_its_values() -> None:
    assert (run(curve=[0.2, None, 0.9, 0.7]).best, run(curve=[None]).best) == (0.9, None)
    ended = [run(curve=[0.9]), run(curve=[None]), run(curve=[0.9], status="interrupted")]
    assert [one.finished for one in ended] == [True, False, False]


def test_the_prediction_is_that_of_the_decision_or_the_last_one() -> None:
    early, late = verdict(0.25, 0.2), verdict(2.0, 0.8, in_domain=False)
    runs = [run(verdicts=[early, late]), run(verdicts=[early, late], stop=0.25), run()]
    assert [one.prediction for one in runs] == [late, early, None]
    assert [one.out_of_domain for one in runs] == [True, True, False]
    found = RecordedRuns(runs, "acc", {}, [], True, 0, [])
    drawn = payload(found, report_rule(runs, None, None), [])["runs"]
    assert [one["predicted"] for one in drawn] == [0.8, 0.2, None]


def test_a_long_run_is_drawn_at_its_first_and_last_times_and_some_between() -> None:
    runs = [run((0.0, *range(1, last + 1))) for last in (MOST_TIMES - 1, MOST_TIMES, 500)]
    found = RecordedRuns(runs, "acc", {}, [], True, 0, [])
    few, more, many = (one["times"] for one in payload(found, report_rule(runs, None, None), [])["runs"])
    assert few == runs[0].times and len(more) <= MOST_TIMES
    assert many[0] == 0.0 and many[-1] == 500.0 and len(many) <= MOST_TIMES
    ratios = [late / early for early, late in pairwise(many[8:])]
    assert max(ratios) < 2 < many[-1] / many[8]  # even on the axis, which is logarithmic


def test_errors_of_predictions_are_means_over_the_runs_whose_end_is_known() -> None:
    said = [(0.3, 0.2), (0.5, 0.6), (0.9, 0.7)]
    runs = [run(curve=[true], verdicts=[verdict(1.0, guess)]) for guess, true in said]
    runs += [run(curve=[0.1], verdicts=[verdict(1.0)], status="stopped"), run(verdicts=[verdict(2.0)])]
    (found,) = prediction_errors(runs)
    assert (found.time, found.runs, found.rank) == (1.0, 3, 1.0)
    assert found.error == pytest.approx(0.4 / 3)
    alike = [run(curve=[0.5], verdicts=[verdict(1.0, guess)]) for guess in (0.1, 0.2, 0.3)]
    assert prediction_errors(alike)[0].rank is None and prediction_errors(runs[:2])[0].rank is None


def test_the_rule_is_the_one_that_most_records_name() -> None:
    shares = [run(policy={"low_share": share}, curve=[0.9]) for share in (0.25, 0.25, 0.75)]
    unnamed = [run(curve=[0.5]), run(policy={"low_share": 7.0})] * 3  # the second is no rule
    rule = report_rule([*shares, *unnamed], None, None)
    assert rule.rule.share == 0.25 and rule.origin == "that of the predictor of 2 runs"
    assert str(rule) == "below 25 % of the way from guessing to the best run"
    assert rule.lowest_good_accuracy(10) == pytest.approx(0.1 + 0.25 * 0.8)
    assert report_rule(shares[:2], None, None).origin == "the predictor's"
    assert report_rule(unnamed, None, None).rule == DEFAULT
    assert str(report_rule(shares, 0.4, None)) == "below 40 % accuracy"
