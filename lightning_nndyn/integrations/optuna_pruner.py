"""A pruner that learns from a study's finished trials which of the running ones can be given up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from lightning_nndyn.errors import SweepError
from lightning_nndyn.integrations.optuna_storage import (
    EndedTrials,
    decode_readings,
    direction_of,
    optuna,
    shared_by,
    user_values,
)
from lightning_nndyn.sweep import SweepPredictor, SweepReading, SweepRun, shared_predictor


class GraphDynamicsPruner(optuna.pruners.BasePruner):
    """Prunes trials that are unlikely to end among the study's best, as predicted from its finished trials.

    It learns from parameters and from the intermediate values that the objective reports: the last one, the
    best, and the latest change, at each step. Where ``GraphDynamicsCallback(trial=trial, action="observe")``
    has stored the weights' movement at the same time, it learns from that as well; step 0 is the end of the
    first epoch then. A value that is not a number prunes at once. See `SweepPredictor`.

    Args:
        n_startup_trials: trials that must have completed before any is pruned, 5 at least.
        good_share: the best share of all trials, of which none is to be pruned.
        max_false_stop_rate: share of those that may be pruned by mistake.
        audit_share: share of all trials that are never pruned, so that mistakes are noticed.
        seed: of the draw of these trials, which is the same in all processes.

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
        """Whether to give up a trial, by all that it has reported so far."""
        direction = direction_of(study)
        if not trial.intermediate_values or self._is_audited(trial.number):
            return False
        if math.isnan(trial.intermediate_values[max(trial.intermediate_values)]):
            return True
        best = max if direction == "maximize" else min
        shared = shared_by(study)
        ended = shared.setdefault(f"reported {direction}", EndedTrials(lambda other: _readings(other, best)))
        template = SweepPredictor(direction=direction, **self._settings)
        lock, predictor = shared_predictor(shared, template, "pruner")
        runs = ended.runs(study)
        with lock:
            predictor.fit(runs)
            return predictor.decide(SweepRun(trial.params, _readings(trial, best))).stop

    def _is_audited(self, number: int) -> bool:
        return random.Random(f"{self._seed}:{number}").random() < self._audit_share


def _readings(trial: optuna.trial.FrozenTrial, best: Callable[..., float]) -> list[SweepReading]:
    """One for each step at which the objective has reported a finite value."""
    stored = {reading.time: reading for reading in decode_readings(trial.user_attrs)}
    values = [pair for pair in sorted(user_values(trial).items()) if math.isfinite(pair[1])]
    readings = []
    before = best_so_far = values[0][1] if values else 0.0
    for step, value in values:
        best_so_far = best(best_so_far, value)
        known = stored.get(step + 1.0, SweepReading(step + 1.0))
        curve = value, best_so_far, value - before
        readings.append(SweepReading(known.time, known.weights, curve, known.prior_prediction))
        before = value
    return readings
