"""Races LeNet on digits in three processes in turn, of which two kill themselves: python race_script.py FILE

With "compared" as a second argument it races a line without a predictor, and once more without a kill.

They are forked: to import all they need takes longer than the race.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import lightning as L

from lightning_nndyn.study import race

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import race_runs
from sweep_digits import train

COMPARED = sys.argv[2:] == ["compared"]
RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
FILE = Path(sys.argv[1])


def raced(killed_at: int, file: Path = FILE) -> None:
    """Races, unless it is time to die: as the given run begins."""
    begun = 0

    def trained(params: dict[str, Any], callback: Any) -> float:
        nonlocal begun
        begun += 1
        if begun == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        L.seed_everything(0, verbose=False)
        return race_runs.train(params, callback) if COMPARED else train(params, callback)

    found = race(
        trained,
        [{"rate": rate, "learning_rate": rate, "dropout": 0.0, "batch_size": 128} for rate in RATES],
        file=file,
        predictor=None if COMPARED else "lenet5-digits",
        rungs=((1 / 16, 0.7), (1 / 4, 0.5), (1.0, 0.2)),
    )
    print(f"trained {begun}, best {found.best}")


if __name__ == "__main__":
    for killed_at in (3, 6):
        child = os.fork()
        if not child:
            raced(killed_at)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with FILE.open("ab") as end:
        end.write(b'{"candidate": 1, "num')  # as if it had died in the middle of a line
    raced(0)
    if COMPARED:
        raced(0, FILE.with_name("whole.jsonl"))
