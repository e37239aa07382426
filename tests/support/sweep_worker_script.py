"""One of several workers of a sweep, for test_optuna_workers.py: one hangs for good, others wait for that."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import optuna
import torch
from callback_runs import trainer
from lightning.pytorch import Callback
from optuna.storages import RDBStorage
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from processes import PATIENCE, wait_until
from sweep_runs import joined, suggested

FOLDER, NAME, URL, TRIALS, HANGS, SEED = Path(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:7])
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
AHEAD = 5  # trials of a steady worker before the other hangs: fewer than a sweep learns from


class Hang(Callback):
    """Half an epoch into its trial."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 13:
            (FOLDER / "hangs").touch()
            time.sleep(600)


def main() -> None:
    torch.set_num_threads(1)
    storage = RDBStorage(URL, heartbeat_interval=1, grace_period=PATIENCE)
    study = optuna.load_study(
        study_name="workers", storage=storage, sampler=optuna.samplers.RandomSampler(seed=SEED)
    )
    done = 0

    def objective(trial: Any) -> float:
        nonlocal done
        done += 1
        trial.set_user_attr("worker", NAME)
        if not HANGS and done > AHEAD:  # however late the other one has begun, it comes to hang
            wait_until((FOLDER / "hangs").exists)
        run = trainer(joined(trial), *[Hang()] * (done == HANGS), max_epochs=2)
        run.fit(suggested(trial))
        return float(run.callback_metrics["val_acc"])

    study.optimize(objective, callbacks=[MaxTrialsCallback(TRIALS, states=ENDED)])


if __name__ == "__main__":
    main()
