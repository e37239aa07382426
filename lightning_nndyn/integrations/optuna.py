"""Optuna: a trial as a member of the sweep that its study is, and a pruner for objectives that report values.

`OptunaMember` is what ``GraphDynamicsCallback(trial=trial)`` makes of a trial.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_nndyn.errors import NNDynWarning, SweepError
from lightning_nndyn.integrations.optuna_pruner import GraphDynamicsPruner
from lightning_nndyn.integrations.optuna_storage import (
    READING,
    WEIGHT,
    EndedTrials,
    decode_readings,
    direction_of,
    encode_reading,
    optuna,
    shared_by,
    step_of,
    user_values,
)
from lightning_nndyn.sweep import SweepMember, SweepReading, SweepRun

__all__ = ["GraphDynamicsPruner", "OptunaMember"]

_VERDICT, _REASON = "nndyn:verdict", "nndyn:reason"
_STOPPED, _FINISHED = "stopped", "finished"


class OptunaMember(SweepMember):
    """A trial of an Optuna study, on any storage that the study has.

    User attributes of the trial hold what was read (``nndyn:reading:0.25``, JSON) and, for people to read,
    ``nndyn:verdict``, ``nndyn:reason``, ``nndyn:signature`` and, of a run that finishes as an audit,
    ``nndyn:audit`` and, once it is flagged to stop, ``nndyn:weight``. The predicted final value is reported
    as intermediate value, at thousandths of an epoch. It is not reported where the user's own code reports
    any, in this trial or in a finished one: those values and the study's pruner stay as they are.

    The trial goes along to other processes if its storage can, which one in memory cannot. Copies share it.

    Args:
        trial: a live ``optuna.Trial``, or what wraps one, such as ``TorchDistributedTrial``. One without a
            study, such as ``FixedTrial``, learns nothing.

    Raises:
        SweepError: the study has several objectives.
    """

    def __init__(self, trial: Any) -> None:
        # TorchDistributedTrial's own methods wait for all processes: ours are called by the first alone.
        self._trial = trial._delegate if hasattr(trial, "_delegate") else trial
        self._process = os.getpid()
        self._stored: dict[str, Any] = {}
        study = getattr(self._trial, "study", None)
        self.direction = "maximize" if study is None else direction_of(study)

    @property
    def reachable(self) -> bool:
        """Whether this process has the trial."""
        return self._live is not None

    @property
    def params(self) -> Mapping[str, Any]:  # type: ignore[override]  # they may grow while the objective runs
        """What has been suggested so far."""
        return {} if self._live is None else dict(self._live.params)

    @property
    def shared(self) -> dict[str, Any]:
        """What the study's trials share in this process."""
        return super().shared if self._study is None else shared_by(self._study)

    def runs(self) -> Sequence[SweepRun]:
        """The study's completed and pruned trials."""
        return [] if self._study is None else self._ended.runs(self._study)

    def report(self, reading: SweepReading, facts: Mapping[str, Any]) -> None:
        """Store a reading, and what was decided upon it, in the trial's attributes."""
        self._store(f"{READING}{reading.time:g}", encode_reading(reading))
        for name in ("verdict", "reason", "signature", "audit"):
            if facts.get(name):
                self._store(f"nndyn:{name}", facts[name])
        if facts.get("weight", 1.0) > 1:
            self._store(WEIGHT, facts["weight"])
        if facts.get("predicted") is not None and not self._any_user_values():
            self._live.report(facts["predicted"], step_of(reading.time))

    def finish(self, stopped: bool, reason: str) -> BaseException | None:
        """Store how training has ended.

        Returns:
            ``optuna.TrialPruned`` for a run that was stopped.
        """
        try:
            self._store(_VERDICT, _STOPPED if stopped else _FINISHED)
            self._store(_REASON, reason)
        except Exception as error:  # a stopped run must not count as finished
            warnings.warn(f"the trial's end is not noted: {error!r}", NNDynWarning, stacklevel=2)
        return optuna.TrialPruned(reason) if stopped else None

    def pruned(self) -> BaseException | None:
        """What `finish` has returned, in whichever process it was called."""
        if self._study is None:
            return None
        attributes = self._frozen().user_attrs
        stopped = attributes.get(_VERDICT) == _STOPPED
        return optuna.TrialPruned(attributes.get(_REASON, "")) if stopped else None

    # -- the trial -------------------------------------------------------------------------------------------

    @property
    def _live(self) -> Any:
        """The trial; in a forked process a copy, as a storage's connections must not be shared."""
        if self._process != os.getpid() and self._trial is not None:
            self.__setstate__(self.__getstate__())
        return self._trial

    @property
    def _study(self) -> Any:
        return getattr(self._live, "study", None)

    @property
    def _ended(self) -> EndedTrials:
        ended = EndedTrials(lambda trial: decode_readings(trial.user_attrs))
        found: EndedTrials = self.shared.setdefault("ended", ended)
        return found

    def _frozen(self) -> Any:
        return self._live.storage.get_trial(self._live._trial_id)

    def _any_user_values(self) -> bool:
        return self._study is None or self._ended.any_user_values or bool(user_values(self._frozen()))

    def _store(self, name: str, value: Any) -> None:
        if self._stored.get(name) != value:
            self._live.set_user_attr(name, value)
            self._stored[name] = value

    # -- copies ----------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> OptunaMember:
        return self

    def __getstate__(self) -> dict[str, Any]:
        try:
            if isinstance(getattr(self._trial, "storage", None), optuna.storages.InMemoryStorage):
                raise SweepError("its study lives in this process' memory")  # where a copy could not reach it
            trial = pickle.dumps(self._trial)
        except Exception as error:
            trial = pickle.dumps(None)
            warnings.warn(
                f"trial {getattr(self._trial, 'number', '')} cannot go along to another process ({error}): "
                "the run takes no part in its sweep there; give the study a storage such as "
                "'sqlite:///sweep.db' or JournalStorage",
                NNDynWarning,
                stacklevel=2,
            )
        return {"direction": self.direction, "trial": trial, "stored": dict(self._stored)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.direction, self._stored = state["direction"], state["stored"]
        self._trial, self._process = pickle.loads(state["trial"]), os.getpid()
