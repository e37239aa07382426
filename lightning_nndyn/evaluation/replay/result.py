"""What a stopping rule spends on sweeps, and what it misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.evaluation.replay.policies import SweepPolicy
from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.sampled_sweeps import ReplayRun


@dataclass(frozen=True)
class ReplayResult:
    """A stopping rule over several sweeps.

    Attributes:
        epochs_share: epochs spent, as a share of those without stopping; mean over sweeps.
        regret: the best accuracy of a sweep less the best accuracy that was seen (of stopped runs until they
            were stopped), a fraction; mean over sweeps.
        good_stopped: share of all good runs that were stopped or not begun; None where no run is good.
        low_stopped: the same for low runs.
        best_kept: share of the sweeps whose best run was not stopped.
    """

    epochs_share: float
    regret: float
    good_stopped: float | None
    low_stopped: float | None
    best_kept: float


def replay(policy: SweepPolicy, sweeps: Sequence[Sequence[ReplayRun]]) -> ReplayResult:
    """Play sweeps under a stopping rule."""
    ends = [policy.epochs(runs) for runs in sweeps]
    if not isinstance(policy, Race):
        return measure(sweeps, ends)
    return measure(sweeps, ends, [[policy.cost(end) for end in after] for after in ends])


def measure(
    sweeps: Sequence[Sequence[ReplayRun]],
    ends: Sequence[Sequence[float]],
    costs: Sequence[Sequence[float]] | None = None,
) -> ReplayResult:
    """Measure what was spent and missed, from the epochs after which each run was ended.

    Args:
        sweeps: runs in the order in which they were trained.
        ends: for each sweep and run the epochs after which it ends; 0 for a run that is not begun.
        costs: the epochs that were spent on it, where these are more.
    """
    shares, regrets, kept = [], [], []
    stopped = {True: 0, False: 0}
    total = {True: 0, False: 0}
    for runs, after, spent in zip(sweeps, ends, costs or ends, strict=True):
        full = np.array([run.epochs for run in runs])
        accuracies = np.array([run.accuracy for run in runs])
        good = np.array([run.good for run in runs])
        ended = np.asarray(after) < full
        seen = max(run.best_until(end) for run, end in zip(runs, after, strict=True))
        shares.append(np.asarray(spent).sum() / full.sum())
        regrets.append(accuracies.max() - seen)
        kept.append((~ended[accuracies == accuracies.max()]).any())
        for label in (True, False):
            stopped[label] += int(ended[good == label].sum())
            total[label] += int((good == label).sum())
    good_stopped, low_stopped = (
        stopped[label] / total[label] if total[label] else None for label in (True, False)
    )
    return ReplayResult(
        float(np.mean(shares)), float(np.mean(regrets)), good_stopped, low_stopped, float(np.mean(kept))
    )
