"""What a sweep learns from its own finished runs, against refitting, brute force and planted truths."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t
from threadpoolctl import threadpool_info, threadpool_limits

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.sweep import Reading, SweepPredictor, SweepRun, shared_predictor
from lightning_nndyn.sweep.false_stop_budget import good_value, stop_threshold
from lightning_nndyn.sweep.features import ParameterEncoder, RankTransform
from lightning_nndyn.sweep.gaussian_process import GaussianProcess


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


# -- the process ---------------------------------------------------------------------------------------------


def table(seed: int = 0, n: int = 25) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    groups = [rng.normal(size=(n, 2)), rng.normal(size=(n, 3)), np.empty((n, 0))]
    return groups, np.sin(groups[0][:, 0]) + 0.1 * rng.normal(size=n)


def again(
    groups: list[np.ndarray], targets: np.ndarray, fit: GaussianProcess
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each run, by a process that is solved anew without it."""
    n, means, spreads = len(targets), [], []

    def kernel(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
        pairs = zip(a, b, fit.scales, strict=True)
        distance = sum(s**2 * ((x[:, None] - y[None]) ** 2).sum(-1) for x, y, s in pairs)
        return np.exp(-0.5 * distance)

    for left in range(n):
        rest = np.arange(n) != left
        others, own = [group[rest] for group in groups], [group[[left]] for group in groups]
        solved = np.linalg.inv(kernel(others, others) + fit.noise * np.eye(n - 1))
        near = kernel(own, others)
        means.append(fit.offset + (near @ solved @ (targets[rest] - fit.offset))[0])
        spreads.append(fit.signal_std * np.sqrt(1 + fit.noise - (near @ solved @ near.T)[0, 0]))
    return np.array(means), np.array(spreads)


def test_leaving_one_out_is_solving_without_it() -> None:
    groups, targets = table()
    fit = GaussianProcess.fit(groups, targets)
    errors, spreads = fit.leave_one_out()
    means, expected = again(groups, targets, fit)
    np.testing.assert_allclose(targets - errors, means, atol=1e-8)
    np.testing.assert_allclose(spreads, expected, rtol=1e-6)


def test_the_process_predicts_what_its_formula_says() -> None:
    groups, targets = table()
    fit = GaussianProcess.fit([group[:-1] for group in groups], targets[:-1])
    mean, spread = fit.predict([group[-1:] for group in groups])
    full = replace(fit, groups=groups)
    means, spreads = again(groups, targets, full)
    assert mean[0] == pytest.approx(means[-1], abs=1e-8) and spread[0] == pytest.approx(spreads[-1], rel=1e-6)


def test_the_group_that_tells_is_found_and_the_other_left_out() -> None:
    groups, targets = table(n=60)
    fit = GaussianProcess.fit(groups, targets)
    assert fit.scales[0] > 0 and fit.scales[1] == 0


# -- scores and parameters -----------------------------------------------------------------------------------


def test_normal_scores_are_the_quantiles_of_ranks() -> None:
    scores = RankTransform(np.array([3.0, 1.0, 2.0, 10.0]))
    np.testing.assert_allclose(scores(np.array([1.0, 2, 3, 10])), norm.ppf([0.125, 0.375, 0.625, 0.875]))
    np.testing.assert_allclose(scores(np.array([-9.0, 99.0])), norm.ppf([0.125, 0.875]))
    np.testing.assert_allclose(scores.inverse(scores(np.array([1.5, 7.0]))), [1.5, 7.0])
    tied = RankTransform(np.array([1.0, 1.0, 5.0, 5.0]))
    np.testing.assert_allclose(tied(np.array([1.0, 5.0])), norm.ppf([0.25, 0.75]))


def test_parameters_may_be_conditional_categorical_and_logarithmic() -> None:
    known = [
        {"lr": 10.0**-exponent, "depth": exponent, "kind": kind, "on": exponent > 1, **extra}
        for exponent, (kind, extra) in enumerate(
            [("sgd", {"momentum": 0.9}), ("adam", {}), (None, {}), ("sgd", {})]
        )
    ]
    rows = ParameterEncoder(known)
    found = rows(known)
    assert np.isfinite(found).all() and len(np.unique(found, axis=0)) == 4
    steps = np.diff(found, axis=0)
    even = np.isclose(steps, steps[0]).all(axis=0) & (steps[0] != 0)
    assert even.sum() == 2  # the logarithm of lr, and depth
    strange = rows([{"lr": 1e9, "kind": "never seen", "other": 1}, {}])
    assert strange.shape == (2, found.shape[1]) and np.abs(strange).max() <= 3


def test_a_choice_of_numbers_and_texts_may_show_its_first_text_late() -> None:
    rows = ParameterEncoder([{"width": 16}, {"width": 32}, {"width": 16}])
    assert np.isfinite(rows([{"width": "auto"}, {"width": True}, {"width": 32}])).all()


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


# -- the budget ----------------------------------------------------------------------------------------------


def brute(
    scores: np.ndarray, chances: np.ndarray, good: np.ndarray, rate: float, weights: np.ndarray
) -> float:
    """The three conditions, one limit after the other."""
    lowest, counts = np.array([np.nanmin(row) for row in scores])[good], weights[good]
    total = counts.sum()
    if len(lowest) < 2 or not rate:
        return -np.inf
    shares = counts / total
    n = 1 / (shares**2).sum()
    mean = (shares * lowest).sum()
    variance = (5 + n * (shares * (lowest - mean) ** 2).sum()) / (n + 4)
    next_one = mean + t.ppf(rate, n + 4) * np.sqrt(variance * (1 + 1 / n))

    def allowed(limit: float) -> bool:
        cost = 0.0
        for row, chance, weight in zip(scores, chances, weights, strict=True):
            below = [weight * p for score, p in zip(row, chance, strict=True) if score < limit]
            cost += below[0] if below else 0
        stopped = counts[lowest < limit].sum()
        within = stopped <= rate * (total + 1) + 1e-9 and cost <= rate * total + 1e-9
        return limit <= next_one + 1e-12 and within

    known = scores[np.isfinite(scores)]
    return max((limit for limit in [*known, next_one] if allowed(limit)), default=-np.inf)


@pytest.mark.parametrize(("seed", "rate"), list(product(range(12), [0.02, 0.1, 0.3, 0.95])))
def test_the_limit_is_the_highest_that_three_conditions_allow(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 60))
    good = rng.random(n) < 0.3
    good[:2] = True
    scores = rng.normal(size=(n, 3)) * rng.uniform(0.3, 2) - 1.5 * ~good[:, None]
    scores[rng.random((n, 3)) < 0.2] = np.nan
    scores[np.isnan(scores).all(axis=1), 0] = 0.0
    chances = norm.cdf(scores)
    ones = np.ones(n)
    found = stop_threshold(scores, chances, good, rate)
    assert found == pytest.approx(brute(scores, chances, good, rate, ones), abs=1e-9)
    weights = np.where(rng.random(n) < 0.2, 20.0, 1.0)
    found = stop_threshold(scores, chances, good, rate, weights)
    assert found == pytest.approx(brute(scores, chances, good, rate, weights), abs=1e-9)


def test_a_condemned_run_that_was_let_finish_well_speaks_for_those_that_were_stopped() -> None:
    """200 good runs, of which the budget of 5 % pays for ten: one that stands for twenty is too much."""
    scores = np.concatenate([np.linspace(1, 3, 200), np.full(100, -4.0), [-1.0]])[:, None]
    good = np.arange(301) != 250
    good[200:300] = False
    weights = np.ones(301)
    before = stop_threshold(scores, norm.cdf(scores), good, 0.05, weights)
    weights[300] = 20.0  # let finish with a probability of 5 %
    after = stop_threshold(scores, norm.cdf(scores), good, 0.05, weights)
    assert before > -1.0 >= after > -4.0


def test_without_a_budget_or_good_runs_nothing_is_stopped() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 2))
    chances, good = norm.cdf(scores), np.arange(20) < 5
    assert stop_threshold(scores, chances, good, 0.0) == -np.inf
    assert stop_threshold(scores, chances, np.arange(20) < 1, 0.3) == -np.inf


def test_stopped_runs_raise_no_bar() -> None:
    values = np.arange(10.0)
    assert good_value(values, 0.2, 10) == 8 and good_value(values, 0.2, 20) == 6
    assert good_value(values, 0.25, 100) == 0 and good_value(values, 0.01, 10) == 9


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

    def watched(*arguments: Any) -> None:
        found.append(blas_threads())
        learn(*arguments)

    monkeypatch.setattr(SweepPredictor, "_fit", watched)
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
        bar = np.sort([run.value for run in runs[30:]])[-12]
        for run in runs[30:]:
            stops = any(predictor.decide(replace(run, readings=run.readings[:n])).stop for n in (1, 2, 3, 4))
            stopped, lost = stopped + stops, lost + (stops and run.value >= bar)
            finished += not stops
        said = predictor.forecast(runs[40])
        assert "hyperparameters" in said.inputs or "curve" in said.inputs
    assert stopped > 0.4 * (stopped + finished) and lost <= 0.1 * 120  # of 120 good ones


def test_where_nothing_can_be_known_hardly_anything_is_stopped() -> None:
    lost = good = 0
    for seed in range(40):
        runs = sweep(seed, 60, noise=1.0, signal=0.0)
        predictor = fitted(runs[:25])
        bar = np.sort([run.value for run in runs[25:]])[-9]
        for run in runs[25:]:
            if run.value >= bar:
                good += 1
                courses = [replace(run, readings=run.readings[:n]) for n in (1, 2, 3, 4)]
                lost += any(predictor.decide(course).stop for course in courses)
    assert good == 360 and lost <= 0.05 * good + 2 * (0.05 * 0.95 * good) ** 0.5


def test_what_is_said_of_a_run_names_its_numbers() -> None:
    runs = sweep(0)
    predictor = fitted(runs[:40], good_share=0.2, max_false_stop_rate=0.1)
    worst = min(runs[40:], key=lambda run: run.value)
    said, decision = predictor.forecast(worst), predictor.decide(worst)
    assert decision.stop is said.stop is True and decision.epoch == said.time == 2.0
    assert f"predicted final value {said.value:.4g}" in decision.reason
    assert "among the best 20% of this sweep" in decision.reason and "at most 10% of them" in decision.reason
    assert "learned from 40 finished runs" in decision.reason
    young = replace(worst, readings=())
    assert predictor.forecast(young).time == 0 and "before training" in predictor.decide(young).reason


@pytest.mark.parametrize(
    "settings",
    [{"direction": "up"}, {"n_startup_trials": 4}, {"good_share": 1.0}, {"max_false_stop_rate": 1.0}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(PredictorError, match=f"{name}={value!r}"):
        SweepPredictor(**settings)


def test_readings_survive_a_storage() -> None:
    for reading in (Reading(0.25, (1.0, 2.5), (0.1,), 0.7), Reading(1.0)):
        assert Reading.from_dict(reading.to_dict()) == reading
