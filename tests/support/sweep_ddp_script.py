"""A sweep under `strategy="ddp"` on two processes, for test_optuna_ddp.py.

Each process is started by the test, as torchrun does it. The first runs the study; the other one follows it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

FOLDER, RANK = Path(sys.argv[1]), int(os.environ["LOCAL_RANK"])
os.environ["RANK"] = str(RANK)

import optuna  # noqa: E402
import torch  # noqa: E402
from callback_runs import trainer  # noqa: E402
from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from processes import leave_group  # noqa: E402
from sweep_runs import Perceptron, joined  # noqa: E402

TRIALS = 14
ENDS: list[str] = []


class Follower:
    """What a wrapper of trials is on all processes but the first: it has none."""

    _delegate = None


def objective(trial: Any) -> float:
    """Both processes train one run, with the parameters that the first has drawn."""
    found = [None if trial is None else (trial.suggest_float("lr", 1e-5, 3, log=True), trial.number)]
    torch.distributed.broadcast_object_list(found, src=0)
    lr, number = found[0]
    # On some the other process is given nothing, and has nothing to raise.
    callback = joined(trial if trial is not None else Follower() if number % 2 else None)
    run = trainer(callback, strategy="ddp", accelerator="cpu", devices=2, max_epochs=2)
    try:
        run.fit(Perceptron(lr, seed=number))
    except optuna.TrialPruned as pruned:
        ENDS.append(f"{number} {run.global_step} pruned: {pruned}")
        raise
    finally:
        logged = {name: float(run.callback_metrics.get(f"nndyn/{name}", -1)) for name in ("p_good", "stop")}
        record = {"decision": callback.decision.reason, "steps": run.global_step, **logged}
        (FOLDER / f"{number}.{RANK}.json").write_text(json.dumps(record))
    ENDS.append(f"{number} {run.global_step}")
    return float(run.callback_metrics["val_acc"])


def main() -> None:
    torch.set_num_threads(1)
    # They meet in a file: a port that is free now may be taken a moment later.
    store = torch.distributed.FileStore(str(FOLDER / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=RANK, world_size=2)
    if RANK == 0:
        storage = JournalStorage(JournalFileBackend(str(FOLDER / "sweep.log")))
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(storage=storage, study_name="ddp", direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=TRIALS)
    else:
        for _ in range(TRIALS):
            try:
                objective(None)
            except optuna.TrialPruned:
                continue
    (FOLDER / f"ends.{RANK}.json").write_text(json.dumps(ENDS))


if __name__ == "__main__":
    main()
    leave_group()
