"""The predictor: what it reads, what it fits, what it says, and when it refuses."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import digits_runs
import numpy as np
import pytest
from synthetic_runs import START, TIMES, corpus, diverged, history, paper, snapshot

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Features, PaperFamily, decision_values, fit_classifier
from lightning_nndyn.predictor.platt import fit_platt
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.signature.relative import MOVEMENT_FLOOR, SIGNED_UNIT
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot
from lightning_nndyn.signature.temporal import temporal


@cache
def fitted() -> Predictor:
    return paper(low_threshold=0.5).fit(*corpus(80), corpus="made up")


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


def epochs(history: list[Snapshot], *times: float) -> list[Snapshot]:
    return [snapshot for snapshot in history if snapshot.epoch in times]


# -- features


@pytest.mark.parametrize("form", ["plain", "linear", "exponential"])
@pytest.mark.parametrize("features", ["degree", "eigenvector", "both"])
def test_raw_features_are_the_papers(form: Any, features: Any) -> None:
    """All snapshots one after the other, epoch 0 first, in the temporal form asked for."""
    snapshots = run()
    chosen = [i for i, name in enumerate(STATISTICS) if features in ("both", name.split("_")[0])]
    table = np.array([snapshot.statistics for snapshot in snapshots])[:, chosen]
    read = Features(features, form, "raw")
    np.testing.assert_allclose(
        read.all_snapshots(index_by_epoch(snapshots), TIMES), temporal(table, form).ravel(), rtol=1e-12
    )
    np.testing.assert_allclose(
        read.two_snapshots(index_by_epoch(snapshots), TIMES), temporal(table, form)[-2:].ravel(), rtol=1e-12
    )


def test_relative_features_are_movements() -> None:
    """Ten times the movement adds log(10) to its sizes, whatever the statistic's size; its sign is kept."""
    slow, fast, back = (
        Features().rows(index_by_epoch([snapshot(0, START), snapshot(1, START + factor * START)]), [1.0])
        for factor in (1e-3, 1e-2, -1e-2)
    )
    assert slow.shape == (1, 30)
    large = START > 1  # below 1 the arcsinh of the statistic itself is linear, and movement is absolute
    for part in (1, 2):
        gain = (fast - slow)[0, 10 * part : 10 * part + 10]
        np.testing.assert_allclose(gain[large], np.log(10), rtol=0.05)
    assert (fast[0, :10][large] > 0).all()
    assert (back[0, :10][large] < 0).all()


def test_relative_features_tell_the_last_step_from_the_whole_way() -> None:
    there_and_back = index_by_epoch([snapshot(0, START), snapshot(1, 2 * START), snapshot(2, START)])
    signed, whole, last = Features().rows(there_and_back, [1.0, 2.0])[1].reshape(3, 10)
    np.testing.assert_array_equal(signed, 0.0)
    np.testing.assert_allclose(whole, np.log(MOVEMENT_FLOOR))
    assert (last > whole + 5).all()


def test_relative_features_stay_bounded_while_a_run_diverges() -> None:
    exploding = index_by_epoch([snapshot(0, START), snapshot(1, START * 1e30)])
    largest = np.abs(Features().rows(exploding, [1.0])).max()
    assert largest < max(np.arcsinh(100 / SIGNED_UNIT), -np.log(MOVEMENT_FLOOR))


def test_each_prefix_of_all_times_and_of_the_epoch_ends_is_read() -> None:
    assert set(PaperFamily("svm", "svr", Features(), 0).series([0.25, 1.0, 2.0, 0.5])) == {
        (0.25,),
        (0.25, 0.5),
        (0.25, 0.5, 1.0),
        (0.25, 0.5, 1.0, 2.0),
        (1.0,),
        (1.0, 2.0),
    }


# -- estimators


def test_mlp_decision_values_are_the_logits_of_its_probabilities() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    model = fit_classifier("mlp", x, x[:, 0] + rng.normal(size=60) > 0, seed=0)
    p = model.predict_proba(x)[:, 1]
    np.testing.assert_allclose(decision_values(model, x), np.log(p / (1 - p)), atol=1e-6)


def test_platt_recovers_a_sigmoid() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40_000) * 3
    low = rng.random(40_000) < 1 / (1 + np.exp(-(1.5 * values - 1)))
    platt = fit_platt(values, low)
    assert platt.slope == pytest.approx(1.5, abs=0.05)
    assert platt.intercept == pytest.approx(-1, abs=0.05)


def test_platt_keeps_separated_classes_apart_from_one() -> None:
    """Probabilities that round to 1 would tie with each other at the policy's threshold."""
    values = np.linspace(-2, 2, 400)
    p = fit_platt(values, values > 0)(values)
    assert p.max() < 1
    assert (np.diff(p) > 0).all()


def test_platt_does_not_turn_the_ranking_round() -> None:
    values = np.linspace(-1, 1, 50)
    platt = fit_platt(values, values < 0)
    np.testing.assert_allclose(platt(values), 0.5, atol=1e-12)


# -- which snapshots a verdict rests on


def test_verdict_rests_on_the_latest_known_time() -> None:
    whole = run()
    for count, time in enumerate(TIMES, start=2):
        assert fitted().predict(whole[:count]).epoch == time


def test_snapshots_at_unknown_times_change_nothing() -> None:
    whole = run()
    extra = sorted([*whole, snapshot(0.3, START), snapshot(4.0, START)], key=lambda s: s.epoch)
    assert fitted().predict(extra) == fitted().predict(whole)


def test_history_of_epoch_ends_has_models_of_its_own() -> None:
    whole = run()
    ends = fitted().predict(epochs(whole, 0, 1, 2))
    assert ends.epoch == 2
    # Not the model that reads fractions as well, with something made up in their place.
    assert ends != fitted().predict(epochs(whole, 0, 0.25, 0.5, 1, 2))


def test_missing_fraction_falls_back() -> None:
    whole = run()
    assert fitted().predict(epochs(whole, 0, 0.25)).epoch == 0.25
    assert fitted().predict(epochs(whole, 0, 0.25, 1)) == fitted().predict(epochs(whole, 0, 1))
    assert fitted().predict(epochs(whole, 0, 0.25, 2)).epoch == 0.25


@pytest.mark.parametrize("times", [(0,), (0, 0.5), (0, 2, 3)])
def test_history_without_a_known_beginning_is_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(
        PredictorError, match=r"needs epoch 0 and epoch 0.25 or 1 .*snapshots=\(0.25, 0.5, 1, 2, 3\)"
    ):
        fitted().predict(epochs(run(), *times))


@pytest.mark.parametrize("history", [[], run()[1:]])
def test_history_that_does_not_begin_at_zero_is_refused(history: list[Snapshot]) -> None:
    with pytest.raises(PredictorError, match="must begin with the snapshot at epoch 0"):
        fitted().predict(history)


def test_history_out_of_order_is_refused() -> None:
    whole = run()
    with pytest.raises(PredictorError, match="must ascend"):
        fitted().predict([whole[0], whole[2], whole[1]])


# -- diverged runs


def test_diverged_run_is_low_for_sure() -> None:
    histories, accuracies = corpus(60)
    dead = [run(dies=0.5, seed=i) for i in range(3)]
    predictor = paper(low_threshold=0.5).fit([*histories, *dead], [*accuracies, 0.07, 0.1, 0.3])
    verdict = predictor.predict(run(dies=2.0)[:5])
    assert (verdict.p_low, verdict.predicted_accuracy, verdict.diverged) == (1.0, 0.1, True)
    assert verdict.epoch == 2.0
    assert verdict.in_domain
    assert "since epoch 2" in verdict.note


def test_diverged_runs_have_no_part_in_the_models_from_then_on() -> None:
    histories, accuracies = corpus(60)
    dead = [run(seed=i, dies=0.25) for i in range(5)]
    without = paper(low_threshold=0.5).fit(histories, accuracies)
    along = paper(low_threshold=0.5).fit([*histories, *dead], [*accuracies, *[0.1] * 5])
    assert along.predict(run()).predicted_accuracy == without.predict(run()).predicted_accuracy
    assert [score["runs"] for score in along.card["scores"]] == [60] * len(along.card["scores"])
    assert along.card["diverged"] == 5


def test_divergence_is_seen_at_unknown_times_and_before_training() -> None:
    assert fitted().predict([run()[0], diverged(0.01)]).epoch == 0.01
    assert fitted().predict([diverged(0.0)]).p_low == 1.0


def test_without_diverged_runs_the_worst_accuracy_stands_for_them() -> None:
    assert fitted().predict(run(dies=0.25)).predicted_accuracy == min(corpus(80)[1])


# -- domain


def test_corpus_is_in_its_own_domain() -> None:
    assert all(fitted().predict(history).in_domain for history in corpus(80)[0])


def test_new_seeds_are_in_domain() -> None:
    assert all(fitted().predict(run(seed=seed)).in_domain for seed in range(200))


def test_other_size_is_out_of_domain() -> None:
    other = [snapshot(s.epoch, s.statistics, nodes=101) for s in run()]
    verdict = fitted().predict(other)
    assert not verdict.in_domain
    assert "num_nodes before training is 101, the corpus has 100 to 100" in verdict.note
    assert verdict.p_low == fitted().predict(run()).p_low


def test_other_initialisation_is_out_of_domain() -> None:
    wide = [snapshot(s.epoch, np.array(s.statistics) * ([1, 1, 2] + [1] * 7)) for s in run()]
    assert "degree_std before training" in fitted().predict(wide).note


def test_statistics_not_in_use_have_no_domain() -> None:
    predictor = paper(features="eigenvector", low_threshold=0.5).fit(*corpus(60))
    wide = [snapshot(s.epoch, np.array(s.statistics) * ([2] * 5 + [1] * 5)) for s in run()]
    assert predictor.predict(wide).in_domain


# -- held-out scores and calibration


def test_one_maximum_per_good_run() -> None:
    accuracies = np.array(corpus(80)[1])
    (maxima,) = fitted().card["calibration"]["weights"]["good_maxima"]
    assert len(maxima) == (accuracies >= 0.5).sum()
    assert maxima == sorted(maxima)
    assert maxima[0] < maxima[-1] < 1e6


def test_good_run_that_diverges_counts_as_stopped() -> None:
    histories, accuracies = corpus(60)
    predictor = paper(low_threshold=0.5).fit([*histories, run(dies=3.0)], [*accuracies, 0.9])
    assert predictor.card["calibration"]["weights"]["good_maxima"][0][-1] == 1e6


def test_scores_are_of_runs_not_seen() -> None:
    """On noise a fit to the very runs it is scored on looks good; held out, it cannot."""
    rng = np.random.default_rng(0)
    histories = [history(rng, 1e-3) for _ in range(200)]
    predictor = paper(low_threshold=0.5).fit(histories, rng.random(200))
    for score in predictor.card["scores"]:
        assert abs(score["accuracy"] - 0.5) < 0.12
        assert score["r2"] < 0.1


def test_groups_are_not_split() -> None:
    """Copies of a run give its accuracy away, unless they are held out together."""
    rng = np.random.default_rng(0)
    once = [history(rng, 1e-3) for _ in range(50)]
    accuracies = rng.random(50)
    copies, labels, groups = once * 4, np.tile(accuracies, 4), list(range(50)) * 4

    def score(groups: Any) -> float:
        fitted = paper(low_threshold=0.5, max_epoch=0.5).fit(copies, labels, groups=groups)
        return fitted.card["scores"][-1]["accuracy"]

    assert score(None) > 0.85
    assert score(groups) < 0.65


def test_probability_is_calibrated() -> None:
    """Of new runs that are given p_low about p, about a share p is low; a plain sigmoid is at 0.1."""
    gaps = []
    for seed in range(3):
        predictor = paper(low_threshold=0.5).fit(*corpus(400, seed=seed))
        histories, accuracies = corpus(1000, seed=50 + seed)
        p_low = np.array([predictor.predict(history).p_low for history in histories])
        low = np.array(accuracies) < 0.5
        bins = [np.floor(10 * p_low) == i for i in range(10)]
        gaps.append(sum(abs(p_low[b].sum() - low[b].sum()) for b in bins) / len(low))
    assert np.mean(gaps) < 0.075


def test_calibrated_policy_stops_few_good_runs_and_most_doomed_ones() -> None:
    """From histories to decisions: the promise holds for new runs, within what few corpora can show."""
    rate, stopped, caught = 0.1, [], []
    for seed in range(4):
        predictor = paper(low_threshold=0.5).fit(*corpus(160, seed=seed, noise=0.3))
        policy = Policy.from_predictor(predictor, max_false_stop_rate=rate)
        histories, accuracies = corpus(120, seed=100 + seed, noise=0.3)
        for whole, accuracy in zip(histories, accuracies, strict=True):
            verdicts = [predictor.predict(whole[:n]) for n in range(2, len(whole) + 1)]
            (stopped if accuracy >= 0.5 else caught).append(policy.decide(verdicts).stop)
    assert np.mean(stopped) < rate + 0.05
    assert np.mean(caught) > 0.6


# -- all settings


@pytest.mark.parametrize(
    "settings",
    [
        {"classifier": "mlp", "max_epoch": 0.5},
        {"features": "degree", "regressor": "linear", "scale": "raw"},
        {"features": "eigenvector", "form": "exponential"},
        {"form": "linear", "regressor": "linear"},
    ],
)
def test_every_setting_tells_good_from_low(settings: Any) -> None:
    histories, accuracies = corpus(80, noise=0.2)
    predictor = paper(low_threshold=0.5, **settings).fit(histories, accuracies)
    fast, slow = predictor.predict(run(0.08)), predictor.predict(run(2e-5))
    assert fast.p_low < 0.5 < slow.p_low
    assert 0 <= slow.predicted_accuracy < fast.predicted_accuracy <= 1


@pytest.mark.parametrize("classifier", ["svm", "mlp"])
def test_refit_is_the_same_to_the_bit(classifier: Any) -> None:
    one, two = (
        paper(low_threshold=0.5, classifier=classifier, max_epoch=0.5).fit(*corpus(40)) for _ in range(2)
    )
    assert one.card == two.card
    assert one.predict(run()) == two.predict(run())


# -- refusals


def test_too_few_runs_of_a_class_is_refused_with_counts() -> None:
    histories, accuracies = corpus(40)
    low = [i for i, accuracy in enumerate(accuracies) if accuracy < 0.5]
    kept = [i for i in range(40) if i not in low[4:]]
    with pytest.raises(PredictorError, match=r"4 low and \d+ good runs in the corpus.*at least 5 of each"):
        paper(low_threshold=0.5).fit([histories[i] for i in kept], [accuracies[i] for i in kept])


def test_too_few_runs_at_a_late_time_is_refused_with_a_max_epoch_that_works() -> None:
    """Low runs tend to end early."""
    histories, accuracies = corpus(60)
    cut = [history[:5] if a < 0.5 else history for history, a in zip(histories, accuracies, strict=True)]
    with pytest.raises(
        PredictorError, match=r"0 low .* epochs 0.25, 0.5, 1, 2, 3 .*max_epoch=2 is the largest"
    ):
        paper(low_threshold=0.5).fit(cut, accuracies)
    assert paper(low_threshold=0.5, max_epoch=2).fit(cut, accuracies).times == (0.25, 0.5, 1, 2)


def test_percentages_are_refused() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="divide percentages by 100"):
        paper(low_threshold=0.5).fit(histories, [100 * a for a in accuracies])


def test_accuracy_that_is_nan_is_refused() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="got nan"):
        paper(low_threshold=0.5).fit(histories, [float("nan"), *accuracies[1:]])


def test_lengths_must_agree() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="20 histories and 19 accuracies"):
        paper(low_threshold=0.5).fit(histories, accuracies[1:])
    with pytest.raises(PredictorError, match="20 histories and 3 groups"):
        paper(low_threshold=0.5).fit(histories, accuracies, groups=[1, 2, 3])
    with pytest.raises(PredictorError, match="needs 5 groups or more, got 2"):
        paper(low_threshold=0.5).fit(histories, accuracies, groups=[1, 2] * 10)


def test_no_snapshot_up_to_max_epoch_is_refused() -> None:
    with pytest.raises(PredictorError, match="raise max_epoch"):
        paper(low_threshold=0.5, max_epoch=0.1).fit(*corpus(20))


@pytest.mark.parametrize(
    "wrong",
    [{"features": "pagerank"}, {"classifier": "tree"}, {"regressor": "x"}, {"form": "x"}, {"scale": "x"}],
)
def test_unknown_choice_is_refused(wrong: Any) -> None:
    with pytest.raises(PredictorError, match=next(iter(wrong))):
        paper(low_threshold=0.5, **wrong)


def test_threshold_in_percent_is_refused() -> None:
    with pytest.raises(PredictorError, match="low_threshold=40"):
        paper(low_threshold=40)


def test_predictor_that_is_not_fitted_says_so() -> None:
    with pytest.raises(PredictorError, match="not fitted"):
        paper(low_threshold=0.5).predict(run())


# -- import and real runs


def test_scikit_learn_is_not_imported_with_the_package() -> None:
    code = (
        "import sys, lightning_nndyn.predictor.policy, lightning_nndyn.predictor;"
        "print([name for name in ('sklearn', 'skops', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_runs_it_has_not_seen() -> None:
    """LeNet on digits: new seeds and learning rates, decided within the first epochs."""
    predictor = digits_runs.predictor()
    for seed, rate in enumerate((0.06, 0.025)):
        history, accuracy = digits_runs.history_of(rate, seed=500 + seed)
        verdict = predictor.predict(history)
        assert accuracy > 0.5
        assert verdict.in_domain
        assert verdict.p_low < 0.5
        assert abs(verdict.predicted_accuracy - accuracy) < 0.35
    history, accuracy = digits_runs.history_of(3e-6, seed=510)
    verdict = predictor.predict(history[:2])
    assert accuracy < 0.5
    assert verdict.epoch == 0.0625
    assert verdict.p_low > 0.5
    assert abs(verdict.predicted_accuracy - accuracy) < 0.25
