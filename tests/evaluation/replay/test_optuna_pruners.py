"""Optuna's pruners on recorded curves are Optuna's pruners."""

from __future__ import annotations

from typing import Any

import pytest
from replay_runs import random_runs

from lightning_nndyn.evaluation.replay.policies import (
    Pruner,
)
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun


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
