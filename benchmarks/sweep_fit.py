"""What it takes to learn from a sweep's finished runs, alone and beside other trials of the same machine.

    python benchmarks/sweep_fit.py

`SweepPredictor` is fitted to recorded runs of LeNet-5 on CIFAR-10, with noise, in one process and in as many
at once as there are cores: on one BLAS thread, as it does it, and with as many as the library would take.
Printed are milliseconds of a fit, the median of five, in the slowest process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from sweep_scale import noisy, recorded

import lightning_nndyn.sweep.predictor as learned
from lightning_nndyn.sweep import SweepPredictor, SweepRun

WAYS = {"one thread": learned.one_blas_thread, "all threads": nullcontext}
FITS = 5


def fit(way: str, sizes: Sequence[int]) -> None:
    """Prints the median seconds of a fit, by size, as JSON."""
    runs, rng = recorded(), np.random.default_rng(0)
    drawn = [noisy(runs[rng.integers(len(runs))], rng) for _ in range(max(sizes))]
    learned.one_blas_thread = WAYS[way]  # type: ignore[assignment]
    SweepPredictor().fit(drawn[:20])  # imports what it needs
    print("ready", flush=True)
    sys.stdin.readline()
    medians = {size: float(np.median([seconds(drawn[:size]) for _ in range(FITS)])) for size in sizes}
    print(json.dumps(medians))


def seconds(runs: Sequence[SweepRun]) -> float:
    """That a fit takes."""
    start = time.perf_counter()
    SweepPredictor().fit(runs)
    return time.perf_counter() - start


def side_by_side(processes: int, way: str, sizes: Sequence[int]) -> dict[str, float]:
    """Median seconds of the slowest process, by size."""
    command = [sys.executable, __file__, "--way", way, "--sizes", *map(str, sizes)]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    started = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [json.loads(process.communicate()[0]) for process in started]
    return {size: max(one[size] for one in said) for size in said[0]}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--sizes", type=int, nargs="+", default=(20, 50, 100, 200), help="finished runs")
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = options.parse_args()
    if given.way:
        fit(given.way, given.sizes)
        return
    print(f"{os.cpu_count()} cores; milliseconds a fit")
    for processes in sorted({1, given.processes}):
        found = [side_by_side(processes, way, given.sizes) for way in WAYS]
        for size in map(str, given.sizes):
            one, all_ = (1000 * milliseconds[size] for milliseconds in found)
            print(
                f"{processes} at once, {size:>3} runs: {one:6.0f} on one thread, {all_:6.0f} on all "
                f"({all_ / one:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
