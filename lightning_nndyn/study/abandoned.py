"""Trials whose process was killed: they are known as such, and their hyperparameters get another run."""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

_PROCESS, _AGAIN, _KILLED = "nndyn:process", "nndyn:again", "nndyn:killed"
_TOKEN = uuid.uuid4().hex  # a restarted container has the process number that it had before


def own(trial: optuna.Trial) -> None:
    """Notes that this process trains a trial."""
    trial.set_user_attr(_PROCESS, [socket.gethostname(), os.getpid(), _TOKEN])


def killed(trial: Any) -> bool:
    """Whether a trial has ended because its process had; it does not count as one of the sweep's runs."""
    return bool(trial.user_attrs.get(_KILLED))


def take_up(study: optuna.Study) -> None:
    """Ends the running trials whose processes on this machine are gone, and puts them in line once more.

    Once only: hyperparameters may be what a process dies of, such as those of a model too large for memory.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner = trial.user_attrs.get(_PROCESS)
        if owner is None or not _gone(*owner):
            continue
        try:
            study._storage.set_trial_user_attr(trial._trial_id, _KILLED, True)
            reason = f"its process {owner[1]} on {owner[0]} is gone"
            study._storage.set_trial_user_attr(trial._trial_id, "nndyn:reason", reason)
            study.tell(trial.number, state=TrialState.FAIL)
        except (RuntimeError, ValueError):  # another process was faster
            continue
        if trial.params and _AGAIN not in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number})


def _gone(host: str, process: int, token: str) -> bool:
    if host != socket.gethostname() or os.name != "posix":  # elsewhere the question would end the process
        return False
    if process == os.getpid():
        return token != _TOKEN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
