"""False-stop rates of made-up runs whose truth is known, and thirty runs of one's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_corpora import three

from lightning_nndyn.evaluation.benchmark import false_stop_rates, judged_runs
from lightning_nndyn.evaluation.benchmark.false_stop_rates import left_out, own_rows, unknown_rows
from lightning_nndyn.evaluation.benchmark.judged_runs import JudgedRun
from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.dataset import RunDataset, concatenate
from lightning_nndyn.predictor import Verdict
from lightning_nndyn.predictor.policy import Policy


def judged(risk: float, low: bool = False, diverged: bool = False) -> JudgedRun:
    return JudgedRun([Verdict(0.5, 0.5, 1.0, True, risk=risk, diverged=diverged)], 0.5, low, False)


def test_splits_measure_the_rate_that_was_asked_for() -> None:
    """Where risks are exchangeable, one in twenty new good runs is above the threshold, on average."""
    random = np.random.default_rng(0)
    good = [judged(risk) for risk in random.normal(size=79)]
    low = [judged(10.0, low=True), judged(-10.0, low=True), judged(0.0, low=True, diverged=True)]
    rates: dict[str, list[float]] = {}
    for _ in range(400):
        for metric, rate in false_stop_rates._split_rates([*good, *low], random):
            rates.setdefault(metric, []).append(rate)
    assert np.mean(rates["false_stop_rate"]) == pytest.approx(0.05, abs=0.015)
    assert set(rates["true_stop_rate"]) == {2 / 3}


def test_too_few_good_runs_measure_nothing() -> None:
    assert not list(false_stop_rates._split_rates([judged(0.0)] * 20, np.random.default_rng(0)))


def test_rates_of_a_corpus_keep_the_promise_and_stop_low_runs(splits: list[Row]) -> None:
    rate = {(row.method, row.metric): row.value for row in splits}
    for method in ("graph-v2", "fused"):
        assert (rate[method, "false_stop_rate"] or 0) <= 0.1
        assert (rate[method, "brier"] or 1) < (rate[method, "brier_of_share"] or 0)
    assert (rate["fused", "true_stop_rate"] or 0) > 0.5


def test_as_shipped_a_predictors_own_policy_decides(
    monkeypatch: pytest.MonkeyPatch, splits: list[Row]
) -> None:
    """One that takes every run for a stranger stops none, whatever their risks."""
    collection, sure = three()[0], []
    for test in judged_runs.held_out_folds(collection, 0):
        predictor = judged_runs.fit_without(collection, test, 0)
        policy = Policy.from_predictor(predictor)
        sure += [
            policy.decide(one.verdicts).stop
            for one in judged_runs.judge(predictor, collection.take(test), "fused")
        ]
    rows = {(row.method, row.metric): row for row in splits}
    good, low = (rows["fused", f"{name}_stop_rate_as_shipped"] for name in ("false", "true"))
    assert good.runs + low.runs == len(sure) == 100
    stopped = (good.value or 0) * good.runs + (low.value or 0) * low.runs
    assert stopped == pytest.approx(sum(sure), abs=0.01) and (low.value or 0) > 0.4
    known = judged_runs._verdicts
    monkeypatch.setattr(
        judged_runs,
        "_verdicts",
        lambda *given: [replace(verdict, in_domain=False) for verdict in known(*given)],
    )
    assert not any(one.stopped for one in judged_runs.judge(predictor, collection, "fused"))


def test_probabilities_are_counted_in_bins(splits: list[Row]) -> None:
    found = [row for row in splits if row.metric.startswith("low_share_at_p_") and row.t == 1]
    for method in ("graph-v2", "fused"):
        own = [row for row in found if row.method == method]
        assert sum(row.runs for row in own) == 100
        assert {row.metric.removeprefix("low_share_at_p_") for row in own} <= {
            "0.1",
            "0.3",
            "0.5",
            "0.7",
            "0.9",
        }


def test_each_population_data_set_and_optimizer_is_left_out_once() -> None:
    union = concatenate(three(), "universal")
    bands = dict(left_out(union))
    assert set(bands) == {
        f"without {kind}{name}" for name in ("one", "two", "three") for kind in ("data set ", f"{name} on ")
    }
    for band, out in bands.items():
        assert out.sum() == 100 and set(union.populations[out]) == {
            f"{band.split()[-1]} on {band.split()[-1]}"
        }


def test_strangers_are_judged_by_a_predictor_that_never_saw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    union = concatenate(three(), "universal")
    seen: list[set[str]] = []
    fit = RunDataset.fit

    def spied(self: RunDataset, predictor: Any) -> Any:
        seen.append(set(self.populations))
        return fit(self, predictor)

    monkeypatch.setattr(RunDataset, "fit", spied)
    out = union.populations == "two on two"
    rows = list(unknown_rows(union, out, "without two on two"))
    assert seen == [{"one on one", "three on three"}]
    rate = {(row.method, row.t, row.metric): row for row in rows}
    for method in ("graph-v2", "fused"):
        assert rate[method, 1.0, "flagged_share"].runs == 100
        assert (rate[method, 1.0, "flagged_share"].value or 0) < 0.3  # the runs are of one kind in truth
        assert rate[method, 3.0, "false_stop_rate"].runs + rate[method, 3.0, "true_stop_rate"].runs == 100
        assert (rate[method, 3.0, "false_stop_rate"].value or 0) < 0.2


def test_what_would_be_stopped_is_told_of_strangers_too() -> None:
    union = concatenate(three(), "universal")
    out = union.populations == "two on two"
    longer = [
        replace(one, planned_epochs=50 if strange else 20)
        for one, strange in zip(union.trainings, out, strict=True)
    ]
    rows = list(unknown_rows(replace(union, trainings=longer), out, "without two on two"))
    values = {(row.method, row.metric): row.value for row in rows if row.metric != "flagged_share"}
    for method in ("graph-v2", "fused"):
        assert {row.value for row in rows if row.metric == "flagged_share"} == {1.0}
        assert values[method, "false_stop_rate"] == values[method, "true_stop_rate"] == 0
        assert 0 <= (values[method, "false_stop_rate_if_known"] or 0) < 0.2
        assert (values[method, "true_stop_rate_if_known"] or 0) > 0.5


def test_a_predictor_that_was_fitted_without_a_sweep_serves_for_it_as_well() -> None:
    union, own = concatenate(three(), "universal"), three()[1]
    out = union.populations == "two on two"
    strange, together = (list(unknown_rows(union, out, "without", one)) for one in (None, own))
    assert together == [*strange, *own_rows(union, own)] and len(together) > len(strange) > 0


def test_own_runs_are_held_against_what_others_teach() -> None:
    rows = list(own_rows(concatenate(three(), "universal"), three()[1], seed=0))
    assert {row.method for row in rows} == {"own-30", "universal"}
    assert {row.runs for row in rows} == {70} and {row.band for row in rows} == {"own sweep"}
    ranks = {(row.method, row.t): row.value or 0 for row in rows if row.metric == "spearman"}
    assert ranks["own-30", 3.0] > 0.5
