"""A pruner that learns from the study's finished trials which of the running ones can be given up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from lightning_nndyn.errors import SweepError
from lightning_nndyn.integrations.optuna_storage import (
    FinishedTrials,
    direction_of,
    foreign_values,
    optuna,
    readings_in,
    shared_of,
)
from lightning_nndyn.sweep import SweepPredictor, SweepReading, SweepRun, shared_predictor


class GraphDynamicsPruner(optuna.pruners.BasePruner):
    """Prunes trials that are unlikely to end among the study's best, as its finished trials tell.

    It learns from parameters and from the intermediate values that the objective reports: the last one, the
    best, and the latest change, at each step. Where ``GraphDynamicsCallback(trial=trial, action="observe")``
    has noted the weights' movement at the same time, it learns from that as well; step 0 is the end of the
    first epoch then. A value that is not a number prunes at once. See `SweepPredictor`.

    Args:
        n_startup_trials: trials that must have completed before any is pruned, 5 at least.
        good_share: the best share of all trials, of which none is to be pruned.
        max_false_stop_rate: of those the share that may be pruned by mistake.
        audit_share: of all trials the share that is never pruned, so that mistakes are seen.
        seed: which trials these are; the same in all processes.

    Raises:
        PredictorError: one of the first three is out of its range.
        SweepError: `audit_share` is, or later, the study has several objectives.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 10,
        good_share: float = 0.25,
        max_false_stop_rate: float = 0.05,
        audit_share: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not 0 <= audit_share < 1:
            raise SweepError(f"audit_share={audit_share} is not in [0, 1); give a share such as 0.05")
        self._settings: dict[str, Any] = {
            "n_startup_trials": n_startup_trials,
            "good_share": good_share,
            "max_false_stop_rate": max_false_stop_rate,
        }
        SweepPredictor(**self._settings)  # checks them
        self._audit_share, self._seed = audit_share, seed

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial is to be given up, by all that it has reported so far."""
        direction = direction_of(study)
        if not trial.intermediate_values or self._spared(trial.number):
            return False
        if math.isnan(trial.intermediate_values[max(trial.intermediate_values)]):
            return True
        best = max if direction == "maximize" else min
        shared = shared_of(study)
        read = FinishedTrials(lambda one: _readings(one, best))
        finished = shared.setdefault(f"reported {direction}", read)
        lock, predictor = shared_predictor(shared, SweepPredictor(direction=direction, **self._settings), "p")
        runs = finished(study)
        with lock:
            predictor.fit(runs)
            return predictor.decide(SweepRun(trial.params, _readings(trial, best))).stop

    def _spared(self, number: int) -> bool:
        return random.Random(f"{self._seed}:{number}").random() < self._audit_share


def _readings(trial: optuna.trial.FrozenTrial, best: Callable[..., float]) -> list[SweepReading]:
    """One for each step that the objective has reported."""
    noted = {reading.time: reading for reading in readings_in(trial.user_attrs)}
    reported = [
        (step, value) for step, value in sorted(foreign_values(trial).items()) if math.isfinite(value)
    ]
    found, before, top = [], *(reported[0][1:] * 2 if reported else (0.0, 0.0))
    for step, value in reported:
        top = best(top, value)
        known = noted.get(step + 1.0, SweepReading(step + 1.0))
        found.append(
            SweepReading(known.time, known.weights, (value, top, value - before), known.prior_prediction)
        )
        before = value
    return found
