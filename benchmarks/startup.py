"""What the callback adds to a process that has imported Lightning, up to its first verdict.

    python benchmarks/startup.py

CPU seconds and megabytes of resident memory, each step beside `import lightning`, the median of five
processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from rich.console import Console
from rich.table import Table

PROCESSES = 5

SCRIPT = """
import json, time
from pathlib import Path

def now():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return time.process_time(), pages * 4096 / 2**20

steps = [("", now())]
import lightning.pytorch
steps.append(("import lightning", now()))
import lightning_nndyn as nd
callback = nd.GraphDynamicsCallback(monitor="val_acc")
steps.append(("import lightning_nndyn, make the callback", now()))
nd.load_predictor("universal")
from lightning_nndyn.predictor.curve_model import shipped_curve_model
shipped_curve_model()
steps.append(("load `universal` and `curve`", now()))
print(json.dumps([(name, after[0] - before[0], after[1] - before[1])
                  for (_, before), (name, after) in zip(steps, steps[1:])]))
"""


def main() -> None:
    measured = [
        json.loads(subprocess.check_output([sys.executable, "-W", "ignore", "-c", SCRIPT]))
        for _ in range(PROCESSES)
    ]
    table = Table("step", "CPU seconds", "MB")
    for steps in zip(*measured, strict=True):
        seconds, megabytes = (statistics.median(step[i] for step in steps) for i in (1, 2))
        table.add_row(steps[0][0], f"{seconds:.2f}", f"{megabytes:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
