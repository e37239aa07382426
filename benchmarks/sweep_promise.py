"""Good runs that sweeps lose, trial after trial, and the epochs that they save.

    python benchmarks/sweep_promise.py --sweeps 200 --trials 20 50 100

Sweeps of three made-up kinds are played as they are used: stopped trials are censored, the predictor is
fitted on the way, one condemned trial in twenty finishes. A row is a kind and a number of trials.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from sequential_sweeps import KINDS, Losses, play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=100, help="of each kind and size")
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    print("| kind | trials | good ones lost | of those after the start-up | best one lost | epochs |")
    print("|---|---|---|---|---|---|")
    for kind in given.kinds:
        for trials in given.trials:
            found = Losses.of([play(kind, trials, seed) for seed in range(given.sweeps)])
            after = f"{found.of_open:.1%} ± {found.error:.1%}"
            shares = f"{found.of_all:.1%} | {after} | {found.best:.1%} | {found.epochs:.0%}"
            print(f"| {kind.replace('_', ' ')} | {trials} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
