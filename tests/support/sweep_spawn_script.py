"""A sweep whose runs are trained in processes that `trainer.fit` spawns, for test_optuna_ddp.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from callback_runs import trainer
from sweep_runs import joined, suggested

FOLDER = Path(sys.argv[1])


def objective(trial: Any) -> float:
    """The storage says what happened in the spawned process."""
    callback = joined(trial)
    run = trainer(callback, strategy="ddp_spawn", accelerator="cpu", devices=1, max_epochs=1)
    run.fit(suggested(trial))
    callback.check_pruned()
    return float(run.callback_metrics["val_acc"])


def main() -> None:
    study = optuna.create_study(
        storage=f"sqlite:///{FOLDER / 'sweep.db'}", direction="maximize", study_name="spawn"
    )
    both = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 3, log=True),
        "width": optuna.distributions.CategoricalDistribution([8, 16]),
    }
    for lr in np.logspace(-4.9, 0, 20):
        params = {"lr": float(lr), "width": 8}
        value = float(np.log10(lr))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=both, value=value))
    study.enqueue_trial({"lr": 1e-5, "width": 8})
    study.optimize(objective, n_trials=1)
    last = study.trials[-1]
    (FOLDER / "last.json").write_text(json.dumps([last.state.name, last.user_attrs["nndyn:reason"]]))


if __name__ == "__main__":
    main()
