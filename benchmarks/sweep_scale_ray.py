"""What a sweep of 5,000 trials costs on Ray: time for each decision, size of what is shared.

    python benchmarks/sweep_scale_ray.py          # a table, in a few minutes

Recorded runs, drawn again and again with noise as in `sweep_scale.py`, end in the actor that a sweep's trials
share. Before each size is reached, some trials go through `RayMember` and `SweepPredictor` as the callback
does it, each as if in a process of its own that has to learn all from the actor. Nothing is stopped, which is
the worst case: all trials finish, and are learned from.
"""

from __future__ import annotations

import argparse
import os
import pickle
import time

import numpy as np
from sweep_scale import AT, noisy, recorded

from lightning_nndyn.integrations import ray as integration
from lightning_nndyn.integrations.ray import RayMember, end_sweep
from lightning_nndyn.integrations.ray_actor import actor_of, encode_run, ray
from lightning_nndyn.sweep import SweepPredictor, SweepRun, shared_predictor

SWEEP, AROUND = "scale", 20


def decisions(run: SweepRun) -> tuple[list[float], float]:
    """Plays one run in a process that knows nothing; seconds for each decision, and for its end."""
    integration._shared.clear()
    member, spent = RayMember(run.params, sweep=SWEEP), list[float]()
    for count in range(1, len(run.readings) + 1):
        start = time.perf_counter()
        lock, predictor = shared_predictor(member.shared, SweepPredictor())
        with lock:
            predictor.fit(member.runs())
            decision = predictor.decide(SweepRun(member.params, run.readings[:count]))
        member.report(run.readings[count - 1], {"verdict": "go on", "reason": decision.reason})
        spent.append(time.perf_counter() - start)
    start = time.perf_counter()
    member.finish(False, decision.reason)
    return spent, time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--trials", type=int, nargs="+", default=AT)
    given = options.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    rng, runs = np.random.default_rng(0), recorded()
    actor, ended = actor_of(SWEEP), 0
    print(
        "| trials | a trial's first decision | any other | one with a fit | its end | shared |\n"
        + "|---" * 6
        + "|"
    )
    for size in given.trials:
        for number in range(ended, size - AROUND):
            run = noisy(runs[rng.integers(len(runs))], rng)
            ray.get(actor.add.remote(str(number), encode_run(run)))
        fit = max(decisions(noisy(runs[rng.integers(len(runs))], rng))[0])  # fits to what has been added
        played = [decisions(noisy(runs[rng.integers(len(runs))], rng)) for _ in range(AROUND)]
        first, others = [one[0][0] for one in played], [second for one in played for second in one[0][1:]]
        shared = len(pickle.dumps(ray.get([actor.since.remote(0), actor.predictors.remote()])))
        times = [
            np.median(first),
            np.median(others),
            fit,
            np.median([one[1] for one in played]),
        ]
        print(
            f"| {size:,} | {' | '.join(f'{1000 * one:.0f} ms' for one in times)} | {shared / 2**20:.1f} MiB |"
        )
        ended = size
    end_sweep(SWEEP)


if __name__ == "__main__":
    main()
