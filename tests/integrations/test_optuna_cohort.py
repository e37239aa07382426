"""A study whose trials are compared with each other from the third one on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sweep_runs import EPOCHS, joined, train

from lightning_nndyn.sweep import DEFAULT_KEEP, SweepPredictor, rank

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState  # noqa: E402
from optuna_studies import study  # noqa: E402

from lightning_nndyn.integrations.optuna import OptunaMember  # noqa: E402

TRIALS = 20


@pytest.fixture(scope="module")
def swept() -> Any:
    found = study()
    found.optimize(lambda trial: train(trial, joined(trial, keep=DEFAULT_KEEP)), n_trials=TRIALS)
    return found


def pruned(found: Any) -> list[Any]:
    return [trial for trial in found.trials if trial.state == TrialState.PRUNED]


def test_no_trial_is_free(swept: Any) -> None:
    first = min(trial.number for trial in pruned(swept))
    assert 2 <= first < 8


def test_half_of_the_epochs_find_as_good_a_run(swept: Any) -> None:
    runs = OptunaMember(swept.ask()).runs()
    spent = sum(run.readings[-1].time for run in runs)
    assert len(runs) == TRIALS and spent < 0.55 * TRIALS * EPOCHS
    assert swept.best_value > 0.85


def test_a_pruned_trial_says_with_how_many_it_was_compared(swept: Any) -> None:
    for trial in pruned(swept):
        reason = trial.user_attrs["nndyn:reason"]
        assert (
            reason.startswith("rank ")
            and "runs that were read after" in reason
            and "go on from there" in reason
        )


def test_stopped_trials_keep_their_readings_and_are_ranked(swept: Any) -> None:
    runs = OptunaMember(swept.ask()).runs()
    stopped = [run for run in runs if run.stopped]
    assert stopped and all(run.readings for run in stopped)
    scores = np.array(rank(runs))
    finished = np.array([run.finished for run in runs])
    assert scores[finished].mean() > scores[~finished].mean()


def test_a_study_that_minimizes(swept: Any) -> None:
    found = study(direction="minimize")
    settings = {"monitor": "val_loss", "keep": DEFAULT_KEEP}
    found.optimize(lambda trial: train(trial, joined(trial, **settings), "val_loss"), n_trials=14)
    rates = [trial.params["lr"] for trial in pruned(found)]
    assert len(rates) >= 4 and np.mean([0.03 < rate < 0.3 for rate in rates]) < 0.3
    assert found.best_value < 0.7


def test_a_sweep_of_its_own_settings_goes_before_keep() -> None:
    trial = study().ask()
    callback = joined(trial, keep=0.5, sweep=SweepPredictor())
    train(trial, callback, max_epochs=1)
    assert "must have finished first" in trial.user_attrs["nndyn:reason"]
