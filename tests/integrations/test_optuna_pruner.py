"""The pruner for objectives that report intermediate values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState  # noqa: E402
from optuna_studies import states, study  # noqa: E402

from lightning_nndyn.integrations import optuna_pruner  # noqa: E402
from lightning_nndyn.integrations.optuna import GraphDynamicsPruner  # noqa: E402


def test_readings_of_many_steps_are_what_each_of_them_says() -> None:
    values = np.random.default_rng(0).normal(size=50).tolist()
    for direction, best in (("maximize", max), ("minimize", min)):
        trial = optuna.trial.create_trial(value=1.0, intermediate_values=dict(enumerate(values)))
        found = [reading.curve for reading in optuna_pruner._readings(trial, best)]
        changes = [0.0, *np.diff(values)]
        assert found == [
            pytest.approx((value, best(values[: place + 1]), changes[place]))
            for place, value in enumerate(values)
        ], direction


def reported(trial: Any) -> float:
    """An objective that knows nothing of us: a curve that tells ever better how the run ends."""
    lr = trial.suggest_float("lr", 1e-5, 1, log=True)
    end = 0.9 - 0.1 * abs(np.log10(lr) + 2)
    rng = np.random.default_rng(trial.number)
    for epoch in range(8):
        trial.report(end * (1 - 0.5 ** (epoch + 1)) + rng.normal() * 0.02 / (epoch + 1), epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return end


def test_the_pruner_learns_from_reported_values() -> None:
    lost = 0
    for seed in range(4):
        sampler, pruner = optuna.samplers.RandomSampler(seed), GraphDynamicsPruner(audit_share=0.0)
        found = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        found.optimize(reported, n_trials=60)
        pruned = [trial for trial in found.trials if trial.state == TrialState.PRUNED]
        assert states(found)[:10] == ["COMPLETE"] * 10 and len(pruned) > 20
        assert np.mean([len(trial.intermediate_values) for trial in pruned]) < 4
        ends = {trial.number: 0.9 - 0.1 * abs(np.log10(trial.params["lr"]) + 2) for trial in found.trials}
        best = sorted(ends, key=lambda number: -ends[number])[:15]
        lost += sum(trial.number in best for trial in pruned)
        assert best[0] not in [trial.number for trial in pruned]
    assert lost <= 0.1 * 60  # of the 60 good ones; 0.05 is asked for


def test_the_pruner_audits_the_same_trials_everywhere() -> None:
    found = study(pruner=GraphDynamicsPruner(audit_share=0.5, seed=7))
    found.optimize(reported, n_trials=60)
    audited = [GraphDynamicsPruner(audit_share=0.5, seed=7)._is_audited(number) for number in range(60)]
    pruned = [state == "PRUNED" for state in states(found)]
    assert 20 < sum(audited) < 40 and sum(pruned) > 10
    assert not any(one and other for one, other in zip(audited, pruned, strict=True))


def test_the_pruner_prunes_what_is_not_a_number() -> None:
    def objective(trial: Any) -> float:
        trial.report(float("nan"), 0)
        if trial.should_prune():
            raise optuna.TrialPruned
        return 0.0

    found = study(pruner=GraphDynamicsPruner(audit_share=0.0))
    found.optimize(objective, n_trials=1)
    assert states(found) == ["PRUNED"]


@pytest.mark.parametrize("settings", [{"audit_share": 1.0}, {"n_startup_trials": 2}, {"good_share": 0}])
def test_the_pruner_refuses_what_is_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=f"{next(iter(settings))}="):
        GraphDynamicsPruner(**settings)
