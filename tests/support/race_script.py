"""Races LeNet on digits; it kills itself at a given run: python race_script.py FILE KILLED_AT"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning as L

from lightning_nndyn.study import race

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from sweep_digits import train

RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
begun = 0


def trained(params: dict[str, Any], callback: Any) -> float:
    """Trains, unless it is time to die."""
    global begun
    begun += 1
    if begun == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    L.seed_everything(0, verbose=False)
    return train(params, callback)


found = race(
    trained,
    [{"learning_rate": rate, "dropout": 0.0, "batch_size": 128} for rate in RATES],
    file=sys.argv[1],
    predictor="lenet5-digits",
    rungs=((1 / 16, 0.7), (1 / 4, 0.5), (1.0, 0.2)),
)
print(f"trained {begun}, best {found.best}")
