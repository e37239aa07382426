"""Sweeps as they are run: one trial after the other, stopped ones censored, fits on the way.

`benchmarks/sweep_promise.py` plays many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from lightning_nndyn.sweep import SweepPredictor, SweepReading, SweepRun

TIMES = (0.25, 0.5, 1.0, 2.0)
EPOCHS = 8.0
"""Of a run that is not stopped."""


def nothing_to_learn(rng: Generator) -> SweepRun:
    """Neither the learning rate nor the curve says anything of the end."""
    return _run(10 ** rng.uniform(-5, 0), rng.normal(), rng.normal(size=len(TIMES)))


def learning_rate_decides(rng: Generator) -> SweepRun:
    """The end depends on the learning rate, and shows ever better in the curve."""
    rate = 10 ** rng.uniform(-5, 0)
    value = -abs(np.log10(rate) + 2) + 0.1 * rng.normal()
    return _run(rate, value, value + 0.5 / np.array(TIMES) * rng.normal(size=len(TIMES)))


def good_runs_look_worst_early(rng: Generator) -> SweepRun:
    """Of the curve early one would say the better the better; but one in six is late, and then the best."""
    value, late = rng.normal(), rng.random() < 1 / 6
    curve = value + 0.5 * rng.normal(size=len(TIMES))
    if late:
        value, curve = 1.5 + 0.5 * abs(rng.normal()), curve - 2.5
    return _run(10 ** rng.uniform(-5, 0), value, curve)


KINDS: dict[str, Callable[[Generator], SweepRun]] = {
    kind.__name__: kind for kind in (nothing_to_learn, learning_rate_decides, good_runs_look_worst_early)
}


def _run(rate: float, value: float, curve: Any) -> SweepRun:
    readings = [SweepReading(time, (), (float(seen),)) for time, seen in zip(TIMES, curve, strict=True)]
    return SweepRun({"lr": float(rate)}, readings, float(value))


@dataclass(frozen=True)
class Played:
    """What became of a sweep; each array has one entry a trial.

    Attributes:
        stopped: whether it was.
        good: whether it would have ended among the best quarter of all.
        epochs: that it was trained for.
        open: whether it could have been stopped, as enough had finished.
        best: the index of the best trial.
    """

    stopped: np.ndarray
    good: np.ndarray
    epochs: np.ndarray
    open: np.ndarray
    best: int


def play(kind: str, trials: int, seed: int, audit_share: float = 0.05, **settings: Any) -> Played:
    """Runs a sweep of so many trials; `settings` are arguments of `SweepPredictor`."""
    rng = np.random.default_rng([seed, trials, list(KINDS).index(kind)])
    drawn = [KINDS[kind](rng) for _ in range(trials)]
    exempt = rng.random(trials) < audit_share
    predictor = SweepPredictor(**settings)
    ended: list[SweepRun] = []
    stopped, epochs, ready = np.zeros(trials, bool), np.full(trials, EPOCHS), np.zeros(trials, bool)
    for i, run in enumerate(drawn):
        ready[i] = predictor.fit(ended).ready
        condemned_at = _condemned_at(predictor, run)
        if condemned_at is not None and not exempt[i]:
            seen = [reading for reading in run.readings if reading.time <= condemned_at]
            run, stopped[i], epochs[i] = (
                replace(run, readings=seen, value=None, stopped=True),
                True,
                condemned_at,
            )
        elif condemned_at is not None:
            run = replace(run, weight=1 / audit_share)
        ended.append(run)
    values = np.array([run.value for run in drawn])
    good = values >= np.sort(values)[-max(1, round(trials / 4))]
    return Played(stopped, good, epochs, ready, int(values.argmax()))


def _condemned_at(predictor: SweepPredictor, run: SweepRun) -> float | None:
    if not predictor.ready:
        return None
    prefixes = (replace(run, readings=run.readings[: n + 1]) for n in range(len(run.readings)))
    return next((prefix.readings[-1].time for prefix in prefixes if predictor.decide(prefix).stop), None)


@dataclass(frozen=True)
class Losses:
    """Shares over many sweeps.

    Attributes:
        of_all: of the good trials, those that were stopped.
        of_open: of the good ones that could have been stopped.
        error: the standard error of that, by the spread between sweeps.
        best: sweeps that have stopped their best trial.
        epochs: that were trained, of those of sweeps in which nothing is stopped.
    """

    of_all: float
    of_open: float
    error: float
    best: float
    epochs: float

    @classmethod
    def of(cls, sweeps: Sequence[Played]) -> Losses:
        lost = np.array([(s.stopped & s.good).sum() for s in sweeps], dtype=float)
        good = np.array([s.good.sum() for s in sweeps], dtype=float)
        could = np.array([(s.good & s.open).sum() for s in sweeps], dtype=float)
        share = lost.sum() / could.sum()
        error = np.sqrt(((lost - share * could) ** 2).sum()) / could.sum()
        return cls(
            of_all=lost.sum() / good.sum(),
            of_open=share,
            error=float(error),
            best=float(np.mean([s.stopped[s.best] for s in sweeps])),
            epochs=float(
                np.concatenate([s.epochs for s in sweeps]).sum() / sum(len(s.epochs) for s in sweeps) / EPOCHS
            ),
        )
