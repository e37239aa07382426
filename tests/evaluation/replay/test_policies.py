"""Stopping rules, by hand; Optuna's pruners are Optuna's pruners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replay_runs import BAD, FAST, FOUR, LATE, SLOW, random_runs, run

from lightning_nndyn.evaluation.replay.learned_policies import Surrogate
from lightning_nndyn.evaluation.replay.policies import (
    BestShare,
    NoStopping,
    Patience,
    Pruner,
    name_of,
    policies_to_compare,
)
from lightning_nndyn.evaluation.replay.result import replay
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun


def test_a_diverged_run_costs_what_it_was_trained() -> None:
    broken = run(9, [0.1], epochs=0.25)
    assert NoStopping().epochs([broken]) == BestShare(1.0).epochs([broken]) == [0.25]
    assert Patience(1).epochs([broken]) == Pruner("median", "x").epochs([broken]) == [0.25]
    assert BestShare(0.5).epochs([broken, FAST]) == [0.25, 4]


def test_patience_waits_for_a_better_accuracy() -> None:
    assert Patience(2).epochs(FOUR) == [4, 4, 3, 3]
    assert Patience(1).epochs(FOUR) == [4, 3, 2, 2]


def test_after_one_epoch_the_best_go_on_and_the_others_have_cost_one() -> None:
    assert BestShare(0.25).epochs(FOUR) == [1, 4, 1, 1]
    assert BestShare(0.5).epochs(FOUR) == [1, 4, 1, 4]
    assert BestShare(0.01).epochs(FOUR) == [1, 4, 1, 1]  # one at least


def test_runs_may_be_ranked_by_what_was_predicted_earlier() -> None:
    said = {SLOW.index: 0.1, FAST.index: 0.2, BAD.index: 0.3, LATE.index: 0.4}
    assert BestShare(0.5, 0.25, said).epochs(FOUR) == [0.25, 0.25, 4, 4]


def test_hyperparameters_choose_once_the_first_runs_have_finished() -> None:
    """The rate is the accuracy: after the first ten, what begins is nearly all among the best."""
    runs = random_runs(50)
    ends = Surrogate(0.2).epochs(runs)
    assert ends[:10] == [8.0] * 10 and set(ends) == {0.0, 8.0}
    begun = [one.accuracy for one, end in zip(runs[10:], ends[10:], strict=True) if end]
    left = [one.accuracy for one, end in zip(runs[10:], ends[10:], strict=True) if not end]
    assert 3 <= len(begun) <= 15 and min(begun) > np.median(left)
    assert replay(Surrogate(0.2), [runs]).regret < 0.05


@pytest.mark.needs("optuna")
def test_all_entrants_have_names_of_their_own_and_spend_no_more_than_there_is() -> None:
    names = [name_of(policy) for policy in policies_to_compare()]
    assert len(set(names)) == len(names) == len({repr(policy) for policy in policies_to_compare()})
    runs = random_runs(30)
    for policy in policies_to_compare():
        ends = policy.epochs(runs)
        assert len(ends) == 30 and all(0 <= end <= 8 for end in ends)


@pytest.mark.needs("optuna")
@pytest.mark.parametrize("kept", [25, 75])
def test_percentiles_equal_optuna_driven_by_hand(kept: int) -> None:
    import optuna

    for order in (random_runs(30), random_runs(30)[::-1]):
        expected = by_hand(optuna.pruners.PercentilePruner(kept), order)
        policy = Pruner("percentile", "PercentilePruner", f"{kept} %", {"percentile": kept})
        assert policy.epochs(order) == expected
        assert 1 <= min(expected) < 8


def by_hand(pruner: Any, order: list[ReplayRun]) -> list[float]:
    """After how many epochs Optuna ends each run."""
    import optuna

    study, ends = optuna.create_study(direction="maximize", pruner=pruner), []
    for one in order:
        trial = study.ask()
        for epoch, value in enumerate(one.curve, start=1):
            trial.report(value, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, one.accuracy)
        ends.append(float(epoch))
    return ends


@pytest.mark.needs("optuna")
def test_each_order_has_its_own_brackets_and_always_the_same() -> None:
    policy, runs = Pruner("hyperband", "HyperbandPruner"), random_runs(40)
    assert policy.epochs(runs) == policy.epochs(runs)
    again = dict(zip([one.index for one in runs[::-1]], policy.epochs(runs[::-1]), strict=True))
    assert [again[one.index] for one in runs] != policy.epochs(runs)
