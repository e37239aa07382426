"""The predictor that learns from a sweep's own finished runs, on simulated sweeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sequential_sweeps
from threadpoolctl import threadpool_info, threadpool_limits

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.sweep import Reading, SweepForecast, SweepPredictor, SweepRun, shared_predictor


def sweep(seed: int, runs: int = 60, noise: float = 0.1, signal: float = 1.0) -> list[SweepRun]:
    """Runs whose end depends on the learning rate, and shows ever better in their curves."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        lr, width = 10 ** rng.uniform(-5, 0), str(rng.choice(["narrow", "wide"]))
        value = signal * -abs(np.log10(lr) + 2) + noise * rng.normal() + (1 - signal) * rng.normal()
        readings = [
            Reading(time, (), (signal * value + 0.5 / time * rng.normal(),)) for time in (0.25, 0.5, 1.0, 2.0)
        ]
        found.append(SweepRun({"lr": lr, "width": width}, readings, float(value)))
    return found


def fitted(runs: list[SweepRun], **settings: Any) -> SweepPredictor:
    return SweepPredictor(**settings).fit(runs)


# -- scores and parameters -----------------------------------------------------------------------------------


def test_what_one_sweep_has_learned_is_not_told_to_the_next() -> None:
    settings = SweepPredictor(good_share=0.3)
    shared: dict[str, Any] = {}
    _, one = shared_predictor(shared, settings)
    one.fit(sweep(0))
    assert shared_predictor(shared, SweepPredictor(good_share=0.3))[1] is one and one.ready
    assert not settings.ready and not shared_predictor({}, settings)[1].ready
    assert one.good_share == settings.good_share == 0.3


@pytest.mark.parametrize(
    "change", [np.exp, lambda v: v**3, lambda v: 100 * v - 7], ids=["exp", "cube", "line"]
)
def test_a_metric_and_what_rises_with_it_are_one(change: Any) -> None:
    runs = sweep(0)
    other = [replace(run, value=float(change(run.value))) for run in runs]
    here, there = fitted(runs[:40]), fitted(other[:40])
    for run in runs[40:]:
        one, two = here.forecast(run), there.forecast(run)
        assert one is not None and two is not None
        assert (two.p_good, two.threshold, two.num_good) == pytest.approx(
            (one.p_good, one.threshold, one.num_good)
        )


def test_to_minimize_is_to_maximize_the_negative() -> None:
    runs = sweep(0)
    turned = [replace(run, value=-run.value) for run in runs]
    here, there = fitted(runs[:40]), fitted(turned[:40], direction="minimize")
    for run in runs[40:]:
        one, two = here.forecast(run), there.forecast(run)
        assert one.p_good == pytest.approx(two.p_good) and one.value == pytest.approx(-two.value)
        assert one.good_value == pytest.approx(-two.good_value)


# -- the predictor -------------------------------------------------------------------------------------------


def test_nothing_is_said_before_enough_runs_have_finished() -> None:
    runs = sweep(0)
    stopped = [replace(run, value=None, stopped=True) for run in runs]
    early = fitted([*runs[:9], *stopped, replace(runs[9], value=float("nan"))])
    assert not early.ready and early.forecast(runs[20]) is None and not early.decide(runs[20]).stop
    assert early.decide(runs[20]).reason == "goes on: 10 runs of this sweep must have finished first"
    assert early.fit(runs[:10]).ready and early.forecast(runs[20]) is not None


def test_it_learns_again_only_when_a_tenth_more_have_finished() -> None:
    runs = sweep(0, 60)
    predictor = fitted(runs[:40])
    before = predictor.forecast(runs[50])
    assert predictor.fit(runs[:44]).forecast(runs[50]) == before
    after = predictor.fit(runs[:46]).forecast(runs[50])
    assert after.num_finished == 46 and after != before


def test_of_many_runs_the_latest_are_learned_from() -> None:
    runs = sweep(0, 230)
    assert fitted(runs).forecast(runs[0]).num_finished == 200
    assert fitted(runs).forecast(runs[0]) == fitted(runs[30:]).forecast(runs[0])


def test_it_learns_on_one_thread_and_leaves_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    learn = SweepPredictor._fit

    def recorded_fit(*arguments: Any) -> None:
        found.append(blas_threads())
        learn(*arguments)

    monkeypatch.setattr(SweepPredictor, "_fit", recorded_fit)
    with threadpool_limits(2, user_api="blas"):
        fitted(sweep(0))
        assert blas_threads() == {2}
    assert found == [{1}]


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_planted_signal_is_found() -> None:
    stopped = lost = finished = 0
    for seed in range(10):
        runs = sweep(seed, 80)
        predictor = fitted(runs[:30])
        good_value = np.sort([run.value for run in runs[30:]])[-12]
        for run in runs[30:]:
            stops = any(predictor.decide(replace(run, readings=run.readings[:n])).stop for n in (1, 2, 3, 4))
            stopped, lost = stopped + stops, lost + (stops and run.value >= good_value)
            finished += not stops
        forecast = predictor.forecast(runs[40])
        assert "hyperparameters" in forecast.inputs or "curve" in forecast.inputs
    assert stopped > 0.4 * (stopped + finished) and lost <= 0.1 * 120  # of 120 good ones


def test_where_nothing_can_be_known_hardly_anything_is_stopped() -> None:
    lost = good = 0
    for seed in range(40):
        runs = sweep(seed, 60, noise=1.0, signal=0.0)
        predictor = fitted(runs[:25])
        good_value = np.sort([run.value for run in runs[25:]])[-9]
        for run in runs[25:]:
            if run.value >= good_value:
                good += 1
                prefixes = [replace(run, readings=run.readings[:n]) for n in (1, 2, 3, 4)]
                lost += any(predictor.decide(prefix).stop for prefix in prefixes)
    assert good == 360 and lost <= 0.05 * good + 2 * (0.05 * 0.95 * good) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", sequential_sweeps.KINDS)
def test_trial_after_trial_no_more_good_runs_are_lost_than_promised(kind: str) -> None:
    """`benchmarks/sweep_promise.py` plays more of them, so that the standard error is small."""
    sweeps = [sequential_sweeps.play(kind, 40, seed) for seed in range(12)]
    lost = sum(int((sweep.stopped & sweep.good).sum()) for sweep in sweeps)
    good = sum(int(sweep.good.sum()) for sweep in sweeps)
    assert good == 120 and lost <= 0.05 * good + 2 * (0.05 * 0.95 * good) ** 0.5
    if kind == "learning_rate_decides":
        assert sequential_sweeps.Losses.of(sweeps).epochs < 0.85


def test_a_run_is_stopped_where_two_readings_in_turn_agree() -> None:
    runs = sweep(0)
    predictor = fitted(runs[:40])
    best, worst = (pick(runs[:40], key=lambda run: run.value) for pick in (max, min))
    fluke = replace(worst, params=best.params, readings=[*best.readings[:3], worst.readings[3]])
    forecast = predictor.forecast(fluke)
    assert predictor.decide(worst).stop and not forecast.stop and forecast.time == 2.0
    young = predictor.forecast(replace(runs[-1], readings=()))
    assert young.time == young.threshold == 0 and not young.stop
    bare = fitted([replace(run, readings=()) for run in runs[:40]])
    found = bare.forecast(replace(runs[-1], readings=()))
    assert found.threshold > 0 and found.inputs == ("hyperparameters",)


def test_stopped_runs_spend_the_budget_and_those_that_finish_earn_it() -> None:
    runs = sweep(0, 100)
    gone = [replace(run, value=None, stopped=True) for run in runs[40:100]]
    found = [fitted([*runs[:40], *gone[:count]]).forecast(runs[0]) for count in (0, 8, 60)]
    limits = [one.threshold for one in found]
    assert limits[0] >= limits[1] > limits[2] == 0
    assert [one.num_good for one in found] == [10, 12, 25]  # a quarter of all that have ended


def test_what_few_good_runs_cannot_promise_is_not_promised() -> None:
    runs = sweep(0, 130)
    worst = min(runs, key=lambda run: run.value)
    assert "of them, as far as 10 good runs tell" in fitted(runs[:40]).decide(worst).reason
    assert "as far as" not in fitted(runs[:120]).decide(worst).reason


def test_a_rate_of_its_own_goes_before_the_callbacks() -> None:
    own, none = SweepPredictor(max_false_stop_rate=0.1), SweepPredictor()
    assert own.unfitted(0.3).max_false_stop_rate == 0.1 and none.unfitted(0.3).max_false_stop_rate == 0.3


def test_what_is_said_of_a_run_names_its_numbers() -> None:
    runs = sweep(0)
    predictor = fitted(runs[:40], good_share=0.2, max_false_stop_rate=0.1)
    worst = min(runs[40:], key=lambda run: run.value)
    forecast, decision = predictor.forecast(worst), predictor.decide(worst)
    assert decision.stop is forecast.stop is True and decision.epoch == forecast.time == 2.0
    assert f"predicted final value {forecast.value:.4g}" in decision.reason
    assert "among the best 20% of this sweep" in decision.reason and "at most 10% of them" in decision.reason
    assert "learned from 40 finished runs" in decision.reason
    young = replace(worst, readings=())
    assert predictor.forecast(young).time == 0 and "before training" in predictor.decide(young).reason


@pytest.mark.parametrize(
    ("facts", "stop", "said"),
    [
        ({"threshold": 0.2}, True, "among the best 25% of this sweep (0.9 or better) < 20.00%"),
        ({"threshold": 0.2}, True, "at most 5% of them, as far as 5 good runs tell, after 1 epoch; learned"),
        ({"threshold": 0.2, "num_good": 19}, True, "at most 5% of them, after 1 epoch; learned"),
        ({"threshold": 0.2, "p_good": 0.2}, False, "goes on after 1 epoch: predicted final value 0.5"),
        ({"threshold": 0.0}, False, "(0.9 or better); no limit keeps the budget of 5% yet; learned from 20"),
        ({"threshold": 0.0, "inputs": ()}, False, "learned from 20 finished runs by their values alone"),
    ],
)
def test_a_forecast_stops_below_its_threshold_and_says_what_that_promises(
    facts: dict[str, Any], stop: bool, said: str
) -> None:
    known = {"value": 0.5, "p_good": 0.1, "time": 1.0, "num_finished": 20, "num_good": 5, "good_value": 0.9}
    forecast = SweepForecast(**{**known, "inputs": ("curve",), **facts})
    decision = SweepPredictor().decide(SweepRun(), forecast)
    assert decision.stop is stop and said in decision.reason and decision.epoch == 1.0


@pytest.mark.parametrize(
    "settings",
    [{"direction": "up"}, {"n_startup_trials": 4}, {"good_share": 1.0}, {"max_false_stop_rate": 1.0}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(PredictorError, match=f"{name}={value!r}"):
        SweepPredictor(**settings)
