"""What our own predictors read and learn: curves, forests, neighbours, risks; each against its definition."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from synthetic_runs import RUNS, runs

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import LearningCurve, Predictor, TrainingSetup, Verdict
from lightning_nndyn.predictor.applicability import ApplicabilityArea, fit_applicability
from lightning_nndyn.predictor.forest import Forest, fit_forest
from lightning_nndyn.predictor.learning_curve import curve_row, linear_row, linear_width
from lightning_nndyn.predictor.low_accuracy import relative_accuracies
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.predictor.risk import HeldOutScores, RiskScale, max_risk_per_run
from lightning_nndyn.predictor.scores import mean_rank_correlation
from lightning_nndyn.signature.snapshot import Snapshot


def grown(one: Snapshot, factor: float) -> Snapshot:
    """The same snapshot, of weights that have grown by a factor since the first."""
    if one.epoch == 0:
        return one
    return replace(
        one,
        statistics=tuple(factor * value for value in one.statistics),
        layers={name: tuple(factor * value for value in row) for name, row in one.layers.items()},
        distances=tuple(factor + far for far in one.distances),
    )


@cache
def fitted() -> Predictor:
    histories, accuracies, curves = runs()
    return Predictor(low_threshold=0.5).fit(histories, accuracies, curves=curves, corpus="made up")


# -- curves


def test_curves_are_read_in_units_of_guessing() -> None:
    """Losses of guessing are 1, accuracies of guessing 0, whatever the number of classes."""
    for classes in (2, 10, 100):
        guess = math.log(classes)
        curve = LearningCurve({0.5: (guess, guess), 1.0: (guess, guess / 2)}, [1 / classes], classes)
        row = curve_row(curve, (0.5, 1.0))
        np.testing.assert_allclose(row, [1, 1, 1, 0.5, -0.5, -0.5, 0, 0, 0, 0], atol=1e-12)
        assert len(linear_row(curve, (0.5, 1.0))) == linear_width((0.5, 1.0)) == 4
        assert len(linear_row(curve, (0.5,))) == linear_width((0.5,)) == 0


def test_curves_stay_bounded_where_a_loss_explodes() -> None:
    curve = LearningCurve({1.0: (1e30, 1e30)}, [0.1], 10)
    assert np.abs(curve_row(curve, (1.0,))).max() <= 5


def test_a_curve_is_known_as_far_as_it_reaches() -> None:
    curve = LearningCurve({0.5: (2.0, 2.0), 1.0: (2.0, 1.9), 2.0: (1.8, 1.7)}, [0.3], 10)
    assert curve.known((0.5,)) and curve.known((0.5, 1.0))
    assert not curve.known((1.0, 2.0))  # no second accuracy yet
    assert not curve.known((0.25, 0.5))
    assert not LearningCurve({1.0: (math.nan, math.nan)}, [0.3], 10).known((1.0,))
    with pytest.raises(PredictorError, match="classes=1"):
        LearningCurve(classes=1)


# -- forests


def test_forest_predicts_what_scikit_learn_does() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 9)).astype(np.float32)
    x[:, 3] = rng.integers(0, 3, size=120)  # ties at thresholds
    y = np.stack([x[:, 0] > 0, x[:, 1] + x[:, 3]], axis=1).astype(np.float64)
    grown = ExtraTreesRegressor(25, min_samples_leaf=2, max_features=0.4, random_state=5).fit(x, y)
    forest = fit_forest(x, y, trees=25, seed=5)
    new = np.concatenate([x, rng.normal(size=(300, 9)).astype(np.float32)])
    np.testing.assert_allclose(forest(new), grown.predict(new), atol=1e-6)
    np.testing.assert_allclose(forest.importances, grown.feature_importances_, atol=1e-6)
    again = Forest.from_arrays(forest.to_arrays())
    np.testing.assert_array_equal(again(new), forest(new))


# -- neighbours


def test_neighbours_know_strangers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6))
    near = fit_applicability(x, np.array([0.5, 0.5, 0, 0, 0, 0]), np.arange(100) % 5)
    new = rng.normal(size=(400, 6))
    p_values = np.array([near.p_value(near.distance(row)) for row in new])
    assert abs((p_values < 0.1).mean() - 0.1) < 0.06  # a new one is as far as those that were held out
    assert near.p_value(near.distance(np.full(6, 9.0))) < 0.02
    blind = np.array([0.0, 0.0, 9, 9, 9, 9])  # far off only in what tells nothing
    assert near.p_value(near.distance(blind)) > 0.3
    assert ApplicabilityArea.from_arrays(near.to_arrays()).distance(blind) == near.distance(blind)


def test_neighbours_of_held_out_groups_are_far() -> None:
    """Where whole groups were held out, the usual distance is that between groups."""
    rng = np.random.default_rng(0)
    group = np.arange(100) % 5
    x = rng.normal(size=(100, 3)) + 10 * rng.normal(size=(5, 3))[group]
    weights = np.ones(3)
    apart, mixed = (fit_applicability(x, weights, folds) for folds in (group, np.arange(100) // 20))
    assert np.median(apart.held_out) > 3 * np.median(mixed.held_out)


# -- risk


def test_risk_is_on_the_scale_of_the_other_good_runs() -> None:
    rng = np.random.default_rng(0)
    low = np.arange(40) >= 25
    held = [HeldOutScores("weights", np.arange(40), rng.normal(size=40)) for _ in range(3)]
    largest = max_risk_per_run(held, low, np.zeros(40, bool))
    for run in (0, 7, 24):
        others = [i for i in range(25) if i != run]
        scales = [RiskScale.from_good_runs(said.values[others]) for said in held]
        expected = max(scale(said.values[run]) for scale, said in zip(scales, held, strict=True))
        assert largest[run] == pytest.approx(expected)
    assert largest[30] == pytest.approx(
        max(RiskScale.from_good_runs(said.values[:25])(said.values[30]) for said in held)
    )


def test_a_run_that_diverged_has_the_largest_risk_and_an_unread_one_none() -> None:
    held = [HeldOutScores("weights", np.array([0, 1]), np.array([0.0, 1.0]))]
    largest = max_risk_per_run(held, np.zeros(4, bool), np.array([False, False, True, False]))
    assert largest[2] == 1e6 and largest[3] == -math.inf


def test_the_promise_holds_for_the_scale_too() -> None:
    """Scale and threshold come from the same good runs; a new one still exceeds it no more often."""
    rng = np.random.default_rng(0)
    stopped, draws, n = 0, 3000, 39
    for _ in range(draws):
        values = rng.normal(size=(4, n + 1)) * np.array([[1], [3], [0.2], [10]])
        held = [HeldOutScores("weights", np.arange(n), row[:-1]) for row in values]
        maxima = max_risk_per_run(held, np.zeros(n, bool), np.zeros(n, bool))
        bar = Policy({"weights": [maxima.tolist()]}, 0.1).risk_threshold("weights")
        new = max(RiskScale.from_good_runs(row[:-1])(row[-1]) for row in values)
        stopped += bar is not None and new > bar
    assert stopped / draws <= 0.1 + 3 * math.sqrt(0.09 / draws)


# -- relative accuracy


def test_relative_accuracy_is_a_share_of_what_can_be_reached() -> None:
    names = np.array(["a", "a", "a", "b", "b"])
    accuracies = np.array([0.1, 0.5, 0.9, 0.01, 0.05])
    guesses = np.array([0.1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(relative_accuracies(accuracies, names, guesses), [0, 0.5, 1, 0, 1])


def test_ranks_are_compared_within_populations_only() -> None:
    truth = np.concatenate([np.arange(20), 100 + np.arange(20)]).astype(float)
    predicted = np.concatenate([np.arange(20), np.arange(20)]).astype(float)
    names = np.repeat(["a", "b"], 20)
    assert mean_rank_correlation(truth, predicted, names) == pytest.approx(1)
    assert mean_rank_correlation(truth[:5], predicted[:5], names[:5]) == 0.0  # too few to rank


# -- the whole predictor


def test_curves_help_where_they_are_given() -> None:
    scores = {(score["time"], score["kind"]): score["mae"] for score in fitted().card["scores"]}
    assert fitted().reads_curves and fitted().reads_layers
    assert scores[3.0, "fused"] < 0.7 * scores[3.0, "weights"]


def test_a_verdict_says_what_it_was_given() -> None:
    histories, _, curves = runs(seed=1)
    verdicts: list[Verdict] = [fitted().predict(histories[0], curve=curve) for curve in (None, curves[0])]
    assert [verdict.kind for verdict in verdicts] == ["weights", "fused"]
    assert all(0 <= (verdict.relative_accuracy or 0) <= 1 for verdict in verdicts)
    short = replace(curves[0], accuracies=curves[0].accuracies[:1])
    assert fitted().predict(histories[0], curve=short).epoch == 1.0
    blank = Predictor(low_threshold=0.5, max_epoch=0.5).fit(*runs()[:2])
    with pytest.raises(PredictorError, match="fitted without curves"):
        blank.predict(histories[0], curve=curves[0])


def test_a_share_of_the_best_takes_the_place_of_a_threshold() -> None:
    histories, accuracies, curves = runs()
    worse = [accuracy / 3 for accuracy in accuracies]  # the same runs, on data where less can be reached
    names = ["a"] * RUNS + ["b"] * RUNS
    both = Predictor(low_share=0.5, max_epoch=1).fit(
        histories * 2, accuracies + worse, curves=curves * 2, populations=names, groups=[*range(RUNS)] * 2
    )
    shares = relative_accuracies(np.array(accuracies + worse), np.array(names), np.full(2 * RUNS, 0.1))
    assert both.card["low"] == (shares < 0.5).sum() > 0
    assert str(both.low_rule) == "below 50% of the best" and both.low_threshold is None
    for wrong in ({}, {"low_threshold": 0.5, "low_share": 0.5}):
        with pytest.raises(PredictorError, match="low_threshold, an accuracy, or low_share"):
            Predictor(**wrong)
    with pytest.raises(PredictorError, match="low_share=50"):
        Predictor(low_share=50)


def test_populations_are_held_out_whole() -> None:
    """Runs of a population are copies of each other: only what other populations teach is counted."""
    rng = np.random.default_rng(0)
    histories, accuracies, curves = runs(count=60)
    names = [f"network {i % 6}" for i in range(60)]
    marked = [[grown(one, 4.0 ** (i % 6)) for one in history] for i, history in enumerate(histories)]
    noise = rng.random(6)
    told = [float(noise[i % 6]) for i in range(60)]  # the population alone decides
    split, held = (
        Predictor(low_threshold=0.5, max_epoch=0.25).fit(marked, told, curves=curves, populations=given)
        for given in (None, names)
    )
    assert split.card["scores"][0]["mae"] < 0.7 * held.card["scores"][0]["mae"]
    assert held.card["populations"] == sorted(set(names))
    assert len(held.card["calibration"]["weights"]["good_maxima"]) == 6
    assert len(split.card["calibration"]["weights"]["good_maxima"]) == 1
    assert len(accuracies) == 60


def test_strangers_are_told_by_how_their_weights_move() -> None:
    histories, _, _ = runs(seed=2)
    known = [fitted().predict(history[:3]) for history in histories]
    assert np.mean([verdict.in_domain for verdict in known]) > 0.85
    odd = [grown(one, 50.0) for one in histories[0]]
    verdict = fitted().predict(odd[:3])
    assert not verdict.in_domain and "unlike those of all runs that are known" in verdict.note
    assert (verdict.p_domain or 1) < 0.05 < 1 < (verdict.distance or 0)


def test_optimizers_and_steps_of_any_run_of_the_corpus_are_known() -> None:
    histories, accuracies, curves = runs()
    training = [TrainingSetup(100 * (1 + i % 3), ("sgd", "adam")[i % 2]) for i in range(RUNS)]
    predictor = Predictor(low_threshold=0.5, max_epoch=0.25).fit(
        histories, accuracies, curves=curves, training=training
    )

    def note(steps: float, optimizer: str) -> str:
        return predictor.predict(histories[0], training=TrainingSetup(steps, optimizer)).note

    assert "optimizer" not in note(70, "sgd") + note(440, "adam")
    assert "500 optimizer steps" in note(500, "sgd")
    assert "trained by lion, the corpus by adam or sgd" in note(100, "lion")


def test_nothing_is_stopped_that_is_to_go_on_for_longer_than_any_run_of_the_corpus() -> None:
    histories, accuracies, curves = runs()
    training = [TrainingSetup(100, "sgd", planned_epochs=(10, 30)[i % 2]) for i in range(RUNS)]
    predictor = Predictor(low_threshold=0.5, max_epoch=0.25).fit(
        histories, accuracies, curves=curves, training=training
    )
    doomed, policy = histories[int(np.argmin(accuracies))], Policy(threshold=0.0)
    verdicts = {
        planned: predictor.predict(doomed, training=TrainingSetup(100, "sgd", planned_epochs=planned))
        for planned in (30, 31)
    }
    assert verdicts[31].p_low == verdicts[30].p_low > 0
    assert policy.decide([verdicts[30]]).stop
    assert "it is planned for 31 epochs" in policy.decide([verdicts[31]]).reason
    assert not policy.decide([verdicts[31]]).stop


def test_refit_is_the_same_to_the_bit_and_so_is_what_was_saved(tmp_path: Any) -> None:
    histories, accuracies, curves = runs(count=50)
    one, two = (
        Predictor(low_threshold=0.5, max_epoch=1).fit(histories, accuracies, curves=curves) for _ in range(2)
    )
    assert one.card == two.card
    files = []
    for number, predictor in enumerate((one, two)):
        predictor.save(tmp_path / str(number))
        files.append((tmp_path / f"{number}.skops").read_bytes())
    assert files[0] == files[1]
    loaded = Predictor.load(tmp_path / "0")
    for curve in (None, curves[3]):
        assert loaded.predict(histories[3], curve=curve) == one.predict(histories[3], curve=curve)


@pytest.mark.parametrize("wrong", [{"classifier": "svm"}, {"regressor": "linear"}])
def test_a_forest_does_both_or_neither(wrong: Any) -> None:
    with pytest.raises(PredictorError, match="one forest does both"):
        Predictor(low_threshold=0.5, **wrong)


def test_curves_must_be_as_many_as_runs() -> None:
    histories, accuracies, curves = runs()
    with pytest.raises(PredictorError, match=f"{RUNS} histories and 2 curves"):
        Predictor(low_threshold=0.5).fit(histories, accuracies, curves=curves[:2])
    with pytest.raises(PredictorError, match=f"{RUNS} histories and 1 populations"):
        Predictor(low_threshold=0.5).fit(histories, accuracies, populations=["a"])
