"""What other ways of stopping would have saved and lost on the same runs.

Only runs that went on to their end can be replayed: of the others nobody knows what would have come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_nndyn.corpus.storage.record import patience_epoch
from lightning_nndyn.errors import MissingExtraError
from lightning_nndyn.evaluation.replay.optuna_pruners import pruner_epochs
from lightning_nndyn.evaluation.report.bar import Bar
from lightning_nndyn.evaluation.report.run import Run, Values

PATIENCES = (3, 10)
"""Epochs without a better accuracy after which a run is stopped; 10 is the paper's."""

_PRUNERS = {"median": "Median rule", "asha": "ASHA", "hyperband": "Hyperband"}
"""Optuna's that are replayed, and what they are called on the page."""

_VALUES = 400_000  # accuracies that are replayed at most, which bounds how many orders there are
_ORDERS = 20


@dataclass(frozen=True)
class Outcome:
    """What a way of stopping did, on average over the orders in which the runs may come.

    Attributes:
        name: of the way.
        note: its settings.
        orders: how many orders it was tried in; 1 where the order does not matter.
        epochs: trained, as a share of all.
        low_stopped: low runs that were stopped.
        good_stopped: good runs that were stopped.
        best_kept: share of the orders in which the best run was trained to its end.
        regret: how much lower the best accuracy found is than the best there was, a fraction.
    """

    name: str
    note: str
    orders: int
    epochs: float
    low_stopped: float
    good_stopped: float
    best_kept: float
    regret: float


@dataclass(frozen=True)
class Replay:
    """All ways on the same runs.

    Attributes:
        runs: that were replayed.
        good: how many of them ended good.
        epochs: all that they were trained.
        outcomes: one for each way.
        missing: why there are no pruners; empty if there are.
    """

    runs: int
    good: int
    epochs: float
    outcomes: list[Outcome]
    missing: str = ""


def replay(runs: Sequence[Run], bar: Bar, seed: int = 0) -> Replay:
    """Replays the finished runs.

    Args:
        runs: all; those that did not finish are left out.
        bar: what is low.
        seed: of the orders.
    """
    # In an order that does not depend on the runs' names, which are drawn at random.
    usable = sorted(
        (run for run in runs if run.finished), key=lambda run: [value or 0.0 for value in run.curve]
    )
    if not usable:
        return Replay(0, 0, 0.0, [])
    table = _Table(usable, bar)
    outcomes = [
        table.outcome("No stopping", "", [table.lengths]),
        table.outcome("This callback", "as it decided", [np.array([_ours(run) for run in usable])]),
    ]
    for patience in PATIENCES:
        after = np.array([_patient(run.curve, patience) for run in usable], dtype=float)
        outcomes.append(table.outcome(f"Patience {patience}", f"no better for {patience} epochs", [after]))
    try:
        outcomes += [table.pruned(name, seed) for name in _PRUNERS]
    except MissingExtraError as error:
        return Replay(len(usable), int(table.good.sum()), float(table.lengths.sum()), outcomes, str(error))
    return Replay(len(usable), int(table.good.sum()), float(table.lengths.sum()), outcomes)


def _patient(curve: Values, patience: int) -> int:
    """After how many epochs patience ends a run."""
    end = patience_epoch(curve, patience)
    return len(curve) if end is None else end


def _ours(run: Run) -> float:
    return min(run.decision.epoch, float(len(run.curve))) if run.decision.stop else float(len(run.curve))


class _Table:
    """The runs' curves, and what becomes of them when they are cut."""

    def __init__(self, runs: Sequence[Run], bar: Bar) -> None:
        self.curves = [run.curve for run in runs]
        self.lengths = np.array([len(curve) for curve in self.curves], dtype=float)
        self.good = np.array([bool(bar.good(run)) for run in runs])
        self.final = np.array([run.best for run in runs], dtype=float)

    def pruned(self, name: str, seed: int) -> Outcome:
        """One of Optuna's pruners, in several random orders."""
        orders = int(np.clip(_VALUES / (self.lengths.sum() * np.sqrt(len(self.curves))), 1, _ORDERS))
        after = []
        for number in range(orders):
            order = np.random.default_rng([seed, number]).permutation(len(self.curves))
            epochs = np.empty(len(order))
            epochs[order] = pruner_epochs(name, [self.curves[i] for i in order], number)
            after.append(epochs)
        return self.outcome(_PRUNERS[name], "Optuna's, with its defaults", after)

    def outcome(self, name: str, note: str, after: Sequence[np.ndarray]) -> Outcome:
        """What comes of ending the runs after these epochs, for each order."""
        stopped = [epochs < self.lengths for epochs in after]
        best = self.final == self.final.max()
        return Outcome(
            name=name,
            note=note,
            orders=len(after),
            epochs=_mean(after, lambda epochs: epochs.sum() / self.lengths.sum()),
            low_stopped=_mean(stopped, lambda ended: (ended & ~self.good).sum()),
            good_stopped=_mean(stopped, lambda ended: (ended & self.good).sum()),
            best_kept=_mean(stopped, lambda ended: (best & ~ended).any()),
            regret=_mean(after, lambda epochs: self.final.max() - self._found(epochs)),
        )

    def _found(self, after: np.ndarray) -> float:
        """The best accuracy that was seen."""
        seen = [
            value
            for curve, epochs in zip(self.curves, after, strict=True)
            for value in curve[: int(epochs)]
            if value is not None
        ]
        return max(seen, default=0.0)


def _mean(items: Sequence[np.ndarray], number: Callable[[np.ndarray], float]) -> float:
    return float(np.mean([number(item) for item in items]))
