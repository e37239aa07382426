"""What a way of stopping spends on sweeps, and what it misses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_nndyn.evaluation.replay.policies import SweepPolicy
from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run

_DIGITS = 5
_COUNTED = ("epochs_share", "regret", "good_stopped", "best_kept")


@dataclass(frozen=True)
class Outcome:
    """A way of stopping, over all sweeps of one corpus and band.

    Attributes:
        corpus: where the runs come from.
        band: "all", or "trainable" for the runs that did not diverge and learned something.
        policy: family and setting.
        epochs_share: epochs spent, as a share of those of no stopping; mean over sweeps.
        regret: by how much the best accuracy that was found, in stopped runs until they were stopped, is
            below the best there was, a fraction; mean over sweeps.
        good_stopped: share of all good runs that were stopped or not begun; None where none is good.
        best_kept: share of the sweeps whose best run was not stopped.
        family: see `SweepPolicy`.
        ours: whether it is one of this package.
        part: the key by which it is known as finished, see `lightning_nndyn.evaluation.benchmark.parts`.
        seconds: that it took.
    """

    corpus: str
    band: str
    policy: str
    epochs_share: float
    regret: float
    good_stopped: float | None
    best_kept: float
    family: str
    ours: bool
    part: str
    seconds: float

    def row(self) -> dict[str, Any]:
        """What is published, JSON-able."""
        hidden = ("family", "ours", "seconds")
        return {name: value for name, value in asdict(self).items() if name not in hidden}


def counted(policy: SweepPolicy, sweeps: Sequence[Sequence[Run]]) -> dict[str, Any]:
    """The numbers of an `Outcome`, by name."""
    each = [_one(policy, runs) for runs in sweeps]
    shares, regrets, stopped, good, kept = (
        np.array(column, dtype=np.float64) for column in zip(*each, strict=True)
    )
    return {
        "epochs_share": round(float(shares.mean()), _DIGITS),
        "regret": round(float(regrets.mean()), _DIGITS),
        "good_stopped": round(float(stopped.sum() / good.sum()), _DIGITS) if good.any() else None,
        "best_kept": round(float(kept.mean()), _DIGITS),
    }


def known_outcomes(file: Path) -> dict[str, dict[str, Any]]:
    """The numbers that a replay has written, by their parts; nothing where there is no such file."""
    try:
        rows = json.loads(file.read_text())["rows"]
        return {row["part"]: {name: row[name] for name in _COUNTED} | {"seconds": 0.0} for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _one(policy: SweepPolicy, runs: Sequence[Run]) -> tuple[float, float, int, int, bool]:
    """Epochs spent as a share, regret, good runs stopped, good runs, and whether a best one was kept."""
    epochs = np.array(policy.epochs(runs))
    spent = sum(map(policy.spent, epochs)) if isinstance(policy, Race) else epochs.sum()
    whole = np.array([run.epochs for run in runs])
    accuracies = np.array([run.accuracy for run in runs])
    good = np.array([run.good for run in runs])
    stopped = epochs < whole
    best = accuracies == accuracies.max()
    found = max(run.found(end) for run, end in zip(runs, epochs, strict=True))
    return (
        float(spent / whole.sum()),
        float(accuracies.max() - found),
        int((good & stopped).sum()),
        int(good.sum()),
        bool((best & ~stopped).any()),
    )
