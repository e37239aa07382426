"""Trials whose process was killed: they are marked, and their hyperparameters are tried once more.

Optuna's heartbeat and retry callback need a data base (`RDBStorage`) and a grace period. A sweep's default
storage is a journal file, which has no heartbeat, and a sweep that goes on has to know at once. So each trial
stores its process, and a sweep that goes on checks whether that process still exists on its machine.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

_PROCESS, _RETRY_OF, _KILLED = "nndyn:process", "nndyn:again", "nndyn:killed"
_TOKEN = uuid.uuid4().hex  # a restarted container gives its process the same number


def store_process(trial: optuna.Trial) -> None:
    """Store that this process trains a trial."""
    trial.set_user_attr(_PROCESS, [socket.gethostname(), os.getpid(), _TOKEN])


def was_killed(trial: Any) -> bool:
    """Whether a trial ended because its process was killed; it does not count as one of the sweep's runs."""
    return bool(trial.user_attrs.get(_KILLED))


def retry_killed_trials(study: optuna.Study) -> None:
    """Fail the running trials whose processes on this machine are gone, and enqueue them again.

    Once only: the hyperparameters may be the reason, such as those of a model too large for the memory.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = trial.user_attrs.get(_PROCESS)
        if process is None or not _is_gone(*process):
            continue
        try:
            study._storage.set_trial_user_attr(trial._trial_id, _KILLED, True)
            reason = f"its process {process[1]} on {process[0]} is gone"
            study._storage.set_trial_user_attr(trial._trial_id, "nndyn:reason", reason)
            study.tell(trial.number, state=TrialState.FAIL)
        except (RuntimeError, ValueError):  # another process was faster
            continue
        if trial.params and _RETRY_OF not in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})


def _is_gone(host: str, process: int, token: str) -> bool:
    if host != socket.gethostname() or os.name != "posix":  # on Windows, os.kill(process, 0) ends the process
        return False
    if process == os.getpid():
        return token != _TOKEN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it exists and belongs to another user
        pass
    return False
