"""What a trial of Optuna stores, and a study's ended trials as runs of a sweep."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

from lightning_nndyn._files import decode, parse_json
from lightning_nndyn.errors import MissingExtraError, NNDynWarning, SweepError
from lightning_nndyn.sweep import MAX_FITTED_RUNS, SweepReading, SweepRun
from lightning_nndyn.sweep.run import Weight

try:
    import optuna as optuna  # also for the files beside this one: here alone is asked whether it is installed
except ImportError as error:
    raise MissingExtraError("optuna", "optuna", "A member of an Optuna study") from error

READING = "nndyn:reading:"
"""Prefix of the user attributes that hold a trial's readings; their times follow."""

WEIGHT = "nndyn:weight"
"""User attribute: `SweepRun.weight` of a trial that was flagged to stop and finished as an audit."""

_ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
_STEPS_PER_EPOCH = 1000  # of the intermediate values that are reported for readings

_shared: WeakKeyDictionary[optuna.Study, dict[str, Any]] = WeakKeyDictionary()
_lock = threading.Lock()


def shared_by(study: optuna.Study) -> dict[str, Any]:
    """What the trials of a study share in this process; it lives as long as the study."""
    with _lock:
        return _shared.setdefault(study, {})


def direction_of(study: optuna.Study) -> Literal["maximize", "minimize"]:
    """Whether large or small values are good.

    Raises:
        SweepError: the study has several objectives.
    """
    if len(study.directions) > 1:
        raise SweepError(
            f"the study {study.study_name!r} has {len(study.directions)} objectives, and which runs are the "
            "best is told by one: optimize a single one, or leave trial= away"
        )
    return "maximize" if study.direction == optuna.study.StudyDirection.MAXIMIZE else "minimize"


def encode_reading(reading: SweepReading) -> str:
    """A reading as compact JSON: a text needs less memory in a process than a list of numbers."""
    return json.dumps(reading.to_dict(), separators=(",", ":"))


def decode_readings(attributes: Mapping[str, Any]) -> list[SweepReading]:
    """The readings in a trial's user attributes, by rising time; what is damaged is left out."""
    found = []
    for name, text in attributes.items():
        if name.startswith(READING):
            try:
                found.append(SweepReading.from_dict(parse_json(text)))
            except (ValueError, TypeError) as error:
                message = f"the user attribute {name!r} of a trial holds no reading ({error}): it is left out"
                warnings.warn(message, NNDynWarning, stacklevel=2)
    return sorted(found, key=lambda reading: reading.time)


def step_of(time: float) -> int:
    """The step of the intermediate value that is reported for a reading: thousandths of an epoch."""
    return round(_STEPS_PER_EPOCH * time)


def user_values(trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """The intermediate values that the user's own code has reported, by step."""
    own_steps = set()
    for name in trial.user_attrs:
        with suppress(ValueError, OverflowError):  # no name of ours
            own_steps |= {step_of(float(name.removeprefix(READING)))} if name.startswith(READING) else set()
    return {step: value for step, value in trial.intermediate_values.items() if step not in own_steps}


class EndedTrials:
    """The ended trials of a study as runs of a sweep.

    Each trial is decoded once. Only the latest finished and the latest stopped ones keep their readings: no
    more are used in a fit, and as many suffice to compare a run with.

    Args:
        readings: reads those of a trial.

    Attributes:
        any_user_values: whether any trial has intermediate values of the user's own.
    """

    def __init__(self, readings: Callable[[optuna.trial.FrozenTrial], Sequence[SweepReading]]) -> None:
        self.any_user_values = False
        self._readings = readings
        self._without_readings: dict[int, SweepRun] = {}
        self._with_readings: dict[int, SweepRun] = {}
        self._lock = threading.Lock()

    def runs(self, study: optuna.Study) -> list[SweepRun]:
        """In the order in which they began; running and failed trials are passed over."""
        with self._lock:
            trials = study.get_trials(deepcopy=False, states=_ENDED)
            runs = [self._without_readings.get(trial.number) or self._add(trial) for trial in trials]
            finished = [index for index, run in enumerate(runs) if run.finished]
            stopped = [index for index, run in enumerate(runs) if run.stopped]
            latest = finished[-MAX_FITTED_RUNS:] + stopped[-MAX_FITTED_RUNS:]
            before, self._with_readings = self._with_readings, {}
            for index in latest:
                trial = trials[index]
                runs[index] = before.get(trial.number) or self._decode(trial)
                self._with_readings[trial.number] = runs[index]
            return runs

    def _add(self, trial: optuna.trial.FrozenTrial) -> SweepRun:
        self.any_user_values = self.any_user_values or bool(user_values(trial))
        stopped = trial.state == optuna.trial.TrialState.PRUNED
        value = None if stopped or trial.value is None or not math.isfinite(trial.value) else trial.value
        run = self._without_readings[trial.number] = SweepRun(trial.params, (), value, stopped)
        return run

    def _decode(self, trial: optuna.trial.FrozenTrial) -> SweepRun:
        weight = trial.user_attrs.get(WEIGHT, 1.0)
        try:
            weight = decode(weight, Weight)
        except ValueError:
            weight = 1.0
        whole = self._without_readings[trial.number]
        return replace(whole, readings=self._readings(trial), weight=1.0 if whole.stopped else weight)
