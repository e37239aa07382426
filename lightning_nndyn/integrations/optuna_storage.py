"""A study's finished trials as runs of a sweep, and where a trial keeps what was read of it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from lightning_nndyn.errors import MissingExtraError, SweepError
from lightning_nndyn.sweep import MAX_FITTED_RUNS, SweepReading, SweepRun

try:
    import optuna as optuna  # for the files beside this one, which need not ask whether it is there
except ImportError as error:
    raise MissingExtraError("optuna", "optuna", "A member of an Optuna study") from error

READING = "nndyn:reading:"
"""How the user attributes begin that hold a trial's readings, by their times."""

WEIGHT = "nndyn:weight"
"""The user attribute that says how many runs a condemned one stands for that was let finish."""

_ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
_STEPS = 1000  # of intermediate values, in an epoch

_shared: WeakKeyDictionary[optuna.Study, dict[str, Any]] = WeakKeyDictionary()
_lock = threading.Lock()


def shared_of(study: optuna.Study) -> dict[str, Any]:
    """What all trials of a study in this process share; gone with the study."""
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


def text_of(reading: SweepReading) -> str:
    """A reading as compact JSON: storages keep it as it is, and processes need no list for each."""
    return json.dumps(reading.to_dict(), separators=(",", ":"))


def readings_in(attributes: Mapping[str, Any]) -> list[SweepReading]:
    """The readings that a trial's user attributes hold, by rising time."""
    found = [json.loads(text) for name, text in attributes.items() if name.startswith(READING)]
    return sorted((SweepReading.from_dict(one) for one in found), key=lambda reading: reading.time)


def step_of(time: float) -> int:
    """The step of the intermediate value that is reported for a reading: thousandths of an epoch."""
    return round(_STEPS * time)


def foreign_values(trial: optuna.trial.FrozenTrial) -> dict[int, float]:
    """The intermediate values that were not reported for readings: the user's own, by step."""
    names = [name for name in trial.user_attrs if name.startswith(READING)]
    own = {step_of(float(name.removeprefix(READING))) for name in names}
    return {step: value for step, value in trial.intermediate_values.items() if step not in own}


class FinishedTrials:
    """The ended trials of a study as runs. Each is read once; only the latest are kept with their readings.

    Args:
        readings: of a trial.

    Attributes:
        reporting: whether any of them has intermediate values of the user's own.
    """

    def __init__(self, readings: Callable[[optuna.trial.FrozenTrial], Sequence[SweepReading]]) -> None:
        self.reporting = False
        self._readings = readings
        self._bare: dict[int, SweepRun] = {}
        self._read: dict[int, SweepRun] = {}
        self._lock = threading.Lock()

    def __call__(self, study: optuna.Study) -> list[SweepRun]:
        """In the order in which they began; failed ones, and those that run, are passed over."""
        with self._lock:
            trials = study.get_trials(deepcopy=False, states=_ENDED)
            bare = [self._bare.get(trial.number) or self._begin(trial) for trial in trials]
            finished = [place for place, run in enumerate(bare) if run.finished]
            read = {trials[place].number: self._full(trials[place]) for place in finished[-MAX_FITTED_RUNS:]}
            self._read = read
            return [read.get(trial.number, run) for trial, run in zip(trials, bare, strict=True)]

    def _begin(self, trial: optuna.trial.FrozenTrial) -> SweepRun:
        self.reporting = self.reporting or bool(foreign_values(trial))
        stopped = trial.state == optuna.trial.TrialState.PRUNED
        value = None if stopped or trial.value is None or not math.isfinite(trial.value) else trial.value
        self._bare[trial.number] = SweepRun(trial.params, (), value, stopped)
        return self._bare[trial.number]

    def _full(self, trial: optuna.trial.FrozenTrial) -> SweepRun:
        known = self._read.get(trial.number)
        weight = trial.user_attrs.get(WEIGHT, 1.0)
        return known or SweepRun(trial.params, self._readings(trial), trial.value, weight=weight)
