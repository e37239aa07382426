"""The policy is pure: its rule is held against the definition, its promise against many draws."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Verdict, load_predictor
from lightning_nndyn.predictor.policy import (
    Policy,
    allowed_above,
    conformal_threshold,
    good_runs_needed,
    low_runs_stopped,
    smallest_rate,
    worthwhile_rate,
)

SCORES = tuple(i / 100 for i in range(100))  # 99 values would do for 1 %
EVEN = {"weights": (SCORES,)}


def verdict(risk: float, epoch: float = 1.0, **changes: object) -> Verdict:
    """One whose probability and risk are the same number, so that either can be compared."""
    facts: dict[str, object] = {"predicted_accuracy": 0.142, "in_domain": True, "note": "", "risk": risk}
    return Verdict(p_low=risk, epoch=epoch, **{**facts, **changes})  # type: ignore[arg-type]


DEAD = verdict(1.0, 2.0, diverged=True, note="weights are not finite since epoch 2")
STRANGE = verdict(0.999, in_domain=False, note="num_nodes before training is 9, the corpus has 5 to 7")


def by_definition(scores: list[float], rate: Fraction) -> float | None:
    """The smallest of the scores at which a new one, exchangeable with them, is above it often enough only.

    A new score is above the j-th largest of n if it is among the j largest of n + 1: probability j / (n + 1).
    """
    n = len(scores)
    fitting = [j for j in range(1, n + 1) if Fraction(j, n + 1) <= rate]
    return sorted(scores, reverse=True)[fitting[-1] - 1] if fitting else None


@pytest.mark.parametrize("percent", [0, 1, 5, 7, 10, 20, 33, 50, 99])
def test_threshold_is_the_one_the_definition_gives(percent: int) -> None:
    rng = np.random.default_rng(percent)
    for n in (0, 1, 2, 9, 18, 19, 20, 38, 39, 99, 100, 101, 250):
        scores = rng.random(n).tolist()
        assert conformal_threshold(scores, percent / 100) == by_definition(scores, Fraction(percent, 100))


@pytest.mark.parametrize("percent", [1, 3, 5, 6, 10, 25, 50])
def test_fewest_good_runs_are_just_enough(percent: int) -> None:
    needed = good_runs_needed(percent / 100)
    assert conformal_threshold([0.5] * needed, percent / 100) is not None
    assert conformal_threshold([0.5] * (needed - 1), percent / 100) is None


@pytest.mark.parametrize("confidence", [None, 0.9])
@pytest.mark.parametrize("runs", [1, 9, 12, 18, 19, 44, 200])
def test_the_smallest_rate_is_one_that_so_many_good_runs_can_promise(
    runs: int, confidence: float | None
) -> None:
    rate = smallest_rate(runs, confidence)
    assert allowed_above(runs, rate, confidence) >= 1 and good_runs_needed(rate, confidence) <= runs
    assert not allowed_above(runs, rate - 0.001, confidence)


def test_a_worthwhile_rate_stops_half_of_the_low_runs() -> None:
    good = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95]
    low = [0.4, 0.75, 0.9, 0.99]
    assert worthwhile_rate(good, low) == 0.2  # 0.1 would stop the last one alone
    assert [low_runs_stopped(good, low, rate) for rate in (0.05, 0.1, 0.2, 0.3)] == [0, 1, 2, 3]
    assert worthwhile_rate(good, [0.0, 0.1]) is None and worthwhile_rate(good, []) is None


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (69, 0.05), (69, 0.1), (10, 0.3)])
@pytest.mark.parametrize("ties", [False, True])
def test_promise_holds_over_many_draws(n: int, rate: float, ties: bool) -> None:
    """At most the promised share of new good runs is stopped, and without ties not much less either."""
    rng = np.random.default_rng(0)
    draws = 6000
    scores = rng.beta(2, 2, size=(draws, n + 1))
    if ties:
        scores = np.round(scores, 1)
    stopped = [
        Policy({"weights": [tuple(row[:-1])]}, max_false_stop_rate=rate).decide([verdict(row[-1])]).stop
        for row in scores
    ]
    share, error = np.mean(stopped), np.sqrt(rate * (1 - rate) / draws)
    exact = np.floor(rate * (n + 1) + 1e-9) / (n + 1)
    assert share <= rate + 4 * error
    if not ties:
        assert abs(share - exact) <= 4 * error


def test_stops_above_the_threshold_only() -> None:
    policy = Policy(EVEN, max_false_stop_rate=0.1)
    bar = policy.risk_threshold("weights")
    assert bar == 0.9  # the tenth largest of 0.99, 0.98, ...: (9 + 1) / 101 <= 0.1
    assert not policy.decide([verdict(bar)]).stop
    assert policy.decide([verdict(np.nextafter(bar, 1))]).stop


def test_reason_of_a_stop_has_the_numbers() -> None:
    decision = Policy(EVEN, max_false_stop_rate=0.05).decide([verdict(0.98, 0.25)])
    assert decision.stop
    assert decision.epoch == 0.25
    assert decision.reason == (
        "predicted final accuracy 14.2 % "
        "(risk 0.98 > 0.95, the threshold that stops at most 5 % of good runs) after 0.25 epochs"
    )


@pytest.mark.parametrize("p_low", [0.9500001, 0.94999])
def test_reason_tells_near_numbers_apart(p_low: float) -> None:
    reason = Policy(threshold=0.95).decide([verdict(p_low)]).reason
    left, right = reason.split("p_low ")[1].split(",")[0].replace("<=", ">").split(" > ")
    assert left != right
    assert (float(left) > float(right)) == (p_low > 0.95)


def test_too_few_good_runs_never_stop_and_say_how_many_it_takes() -> None:
    policy = Policy({"weights": [SCORES[:18]]})
    decision = policy.decide([verdict(1.0)])
    assert policy.risk_threshold("weights") is None and not policy.can_stop("weights")
    assert not decision.stop
    assert "takes 19 of them" in decision.reason
    rate = float(decision.reason.partition("max_false_stop_rate=")[2].partition(" ")[0])
    assert rate == 0.053 and Policy({"weights": [SCORES[:18]]}, max_false_stop_rate=rate).can_stop("weights")
    assert "max_false_stop_rate" not in Policy({"weights": [()]}).decide([verdict(1.0)]).reason
    assert "has 18" in decision.reason
    assert Policy({"weights": [SCORES[:19]]}).decide([verdict(1.0)]).stop


def test_rate_zero_never_stops_for_its_risk() -> None:
    decision = Policy(EVEN, max_false_stop_rate=0.0).decide([verdict(1.0)])
    assert not decision.stop
    assert "max_false_stop_rate is 0" in decision.reason


def test_given_threshold_goes_before_calibration() -> None:
    policy = Policy(EVEN, threshold=0.3)
    assert policy.decide([verdict(0.31)]).stop
    assert not policy.decide([verdict(0.3)]).stop
    assert "the threshold that was set" in policy.decide([verdict(0.31)]).reason


@pytest.mark.parametrize("policy", [Policy(), Policy(EVEN), Policy(threshold=1.0)])
def test_diverged_run_stops_at_any_threshold(policy: Policy) -> None:
    decision = policy.decide([verdict(0.1), DEAD])
    assert decision.stop
    assert "diverged" in decision.reason
    assert "since epoch 2" in decision.reason


def test_network_out_of_domain_never_stops_and_says_why() -> None:
    decision = Policy(EVEN, threshold=0.0).decide([STRANGE])
    assert not decision.stop
    assert STRANGE.note in decision.reason


def test_diverged_network_out_of_domain_stops() -> None:
    assert Policy(EVEN).decide([verdict(1.0, diverged=True, in_domain=False, note="NaN")]).stop


def test_nothing_counts_during_grace() -> None:
    policy = Policy(EVEN, min_epochs=2)
    early = [verdict(1.0, 0.5), verdict(1.0, 1.0)]
    assert not policy.decide(early).stop
    assert "min_epochs" in policy.decide(early).reason
    assert not policy.decide([*early, verdict(0.2, 2.0)]).stop
    assert policy.decide([*early, verdict(0.2, 2.0), verdict(1.0, 3.0)]).epoch == 3.0


def test_the_largest_group_is_named_where_all_are_too_small() -> None:
    policy = Policy({"weights": ((0.1,) * 3, (0.1,) * 7, (0.1,) * 5)})
    assert "the predictor's corpus has 7" in policy.decide([verdict(0.5)]).reason


def test_a_threshold_or_a_calibration_can_stop() -> None:
    assert Policy(threshold=0.5).can_stop("weights") and Policy(EVEN).can_stop("weights")
    assert not Policy().can_stop("weights") and not Policy(EVEN).can_stop("fused")


def test_grace_ends_with_its_last_moment() -> None:
    assert Policy(EVEN, min_epochs=2).decide([verdict(1.0, 2.0)]).stop
    assert not Policy(EVEN, min_epochs=2).decide([verdict(1.0, 1.999)]).stop


def test_a_product_that_falls_an_ulp_short_of_a_whole_number_counts_as_it() -> None:
    assert 0.29 * 100 < 29
    assert allowed_above(99, 0.29) == 29
    assert [allowed_above(n, 0.05) for n in (18, 19, 38, 39)] == [0, 1, 1, 2]
    assert good_runs_needed(1 / 49) == 48  # 1 / (1 / 49) is above 49


def test_stopped_stays_stopped_for_the_first_reason() -> None:
    policy = Policy(EVEN)
    verdicts = [verdict(0.2, 1.0), verdict(0.97, 2.0), verdict(0.1, 3.0), DEAD]
    decisions = [policy.decide(verdicts[:n]) for n in range(1, 5)]
    assert [decision.stop for decision in decisions] == [False, True, True, True]
    assert decisions[1] == decisions[2] == decisions[3]
    assert decisions[1].epoch == 2.0


def test_a_verdict_of_which_only_the_accuracy_is_known_stops_nothing() -> None:
    """As those of records before risks were compared."""
    assert not Policy(EVEN).decide([Verdict(0.9, 0.1, 1.0, True)]).stop


def test_without_verdicts_the_run_goes_on() -> None:
    assert not Policy(EVEN).decide([]).stop


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_false_stop_rate": 5},
        {"max_false_stop_rate": 1},
        {"threshold": 1.5},
        {"confidence": 0},
        {"max_false_stop_rate": -0.1},
        {"threshold": 95},
        {"min_epochs": -1},
        {"confidence": 2},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PredictorError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Policy(EVEN, **wrong)


def test_old_names_work_for_one_more_release() -> None:
    with pytest.warns(DeprecationWarning, match="max_risks_of_good_runs"):
        policy = Policy(good_maxima=EVEN)  # type: ignore[call-arg]
    assert policy == Policy(EVEN)
    with pytest.warns(DeprecationWarning, match="risk_threshold"):
        assert policy.calibrated("weights") == policy.risk_threshold("weights")
    with pytest.warns(DeprecationWarning, match="can_stop"):
        assert policy.powerless("weights") is not policy.can_stop("weights")
    with pytest.warns(DeprecationWarning, match="max_risks_of_good_runs"):
        assert policy.good_maxima == EVEN
    predictor = load_predictor("lenet5-digits")
    with pytest.warns(DeprecationWarning, match="from_predictor"):
        assert Policy.of(predictor, confidence=0.9) == Policy.from_predictor(predictor, confidence=0.9)


# -- kinds of models, and confidence


def test_each_kind_of_models_has_its_own_threshold() -> None:
    policy = Policy(
        {"weights": [SCORES], "fused": [[10 * score for score in SCORES]]}, max_false_stop_rate=0.1
    )
    assert policy.decide([verdict(2.0)]).stop
    assert not policy.decide([verdict(2.0, kind="fused")]).stop
    assert policy.decide([verdict(9.5, kind="fused")]).stop
    assert not policy.can_stop("curves")


def test_the_promise_is_kept_for_each_group_of_good_runs() -> None:
    """The highest threshold counts; groups too small to ask for one are passed over."""
    groups = [SCORES, [3 * score for score in SCORES], [99.0] * 5]
    policy = Policy({"weights": groups}, max_false_stop_rate=0.1)
    assert policy.risk_threshold("weights") == pytest.approx(2.7)
    for group in groups[:2]:
        assert np.mean([policy.decide([verdict(score)]).stop for score in group]) <= 0.1


@pytest.mark.parametrize(
    ("runs", "confidence", "needed"),
    [(45, 0.9, 1), (44, 0.9, 0), (59, 0.95, 1), (58, 0.95, 0), (209, 0.9, 7)],
)
def test_confidence_takes_the_binomial_count(runs: int, confidence: float, needed: int) -> None:
    """At 5 %: k + 1 = 1 from 45 runs with 90 %, from 59 with 95 %; k = 6 at 209."""
    assert allowed_above(runs, 0.05, confidence) == needed
    for allowed in range(1, needed + 1):
        assert binom.cdf(allowed - 1, runs, 0.05) <= 1 - confidence + 1e-9
    assert binom.cdf(needed, runs, 0.05) > 1 - confidence
    assert good_runs_needed(0.05, 0.9) == 45 and good_runs_needed(0.05, 0.95) == 59


@pytest.mark.parametrize(("runs", "rate"), [(4_000, 0.05), (4_000, 0.2), (100_000, 0.01), (300, 0.0)])
def test_confidence_takes_any_number_of_good_runs(runs: int, rate: float) -> None:
    allowed = allowed_above(runs, rate, 0.9)
    assert binom.cdf(allowed, runs, rate) > 0.1 >= (binom.cdf(allowed - 1, runs, rate) if allowed else 0)


def test_with_confidence_few_corpora_break_the_promise() -> None:
    """A threshold's true rate is known where risks are uniform; on average half the corpora exceed it."""
    rng = np.random.default_rng(0)
    over = {None: 0, 0.9: 0}
    for _ in range(2000):
        risks = {"weights": [rng.random(100).tolist()]}
        for confidence in over:
            threshold = Policy(risks, 0.1, confidence=confidence).risk_threshold("weights")
            assert threshold is not None
            over[confidence] += 1 - threshold > 0.1
    assert over[0.9] / 2000 <= 0.11 < over[None] / 2000
    reason = Policy(risks, 0.1, confidence=0.9).decide([verdict(1.5)]).reason
    assert "at most 10 % of good runs, 90 % sure" in reason


@pytest.mark.needs("mapie")
@pytest.mark.parametrize("seed", range(4))
def test_confidence_threshold_agrees_with_mapie(seed: int) -> None:
    """MAPIE's risk control (Learn then Test) finds the same largest set of thresholds that keep the rate."""
    from mapie.risk_control import BinaryClassificationController

    good = np.random.default_rng(seed).random(150)
    risks = np.concatenate([good, np.ones(20)])[:, None]
    controller = BinaryClassificationController(
        lambda risk: np.concatenate([1 - risk, risk], axis=1),
        risk="fpr",  # of the good runs, those that are stopped
        target_level=0.1,
        confidence_level=0.9,
        best_predict_param_choice="recall",
        list_predict_params=np.linspace(1, 0, 2001),
        fwer_method="fixed_sequence",
    )
    controller.calibrate(risks, (np.arange(len(risks)) >= len(good)).astype(int))
    ours = conformal_threshold(good.tolist(), 0.1, 0.9)
    assert ours is not None
    assert 0 <= min(controller.valid_predict_params) - ours <= 1 / 2000
