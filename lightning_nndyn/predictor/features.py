"""Features of a run's snapshots: what the predictor's models read (section 3.2, S3).

Plain numpy on purpose: the artefact on disk then holds nothing but stock scikit-learn estimators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.relative import signed, size
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot, statistics_matrix
from lightning_nndyn.signature.temporal import Form, temporal

FeatureSet = Literal["degree", "eigenvector", "both"]
Scale = Literal["relative", "raw"]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Table = Mapping[float, Snapshot]


def key(epoch: float) -> float:
    """Round `epoch` so that equal times compare equal after arithmetic or a trip through JSON."""
    return round(float(epoch), 9)


def tabulate(history: Sequence[Snapshot]) -> dict[float, Snapshot]:
    """Index a history by epoch.

    Raises:
        PredictorError: the history is empty, does not begin at epoch 0, or is not in ascending order.
    """
    epochs = [key(snapshot.epoch) for snapshot in history]
    if not epochs or epochs[0] != 0.0:
        raise PredictorError(
            f"a history must begin with the snapshot at epoch 0, before the first step; it holds the epochs "
            f"{show(epochs)}. Take a snapshot before training starts."
        )
    if any(late <= early for early, late in pairwise(epochs)):
        raise PredictorError(f"a history's epochs must ascend; it holds {show(epochs)}. Sort its snapshots.")
    return dict(zip(epochs, history, strict=True))


def broken_epoch(table: Table) -> float | None:
    """Epoch of the first snapshot whose weights were not finite; None if there is none."""
    return next((epoch for epoch, snapshot in table.items() if not snapshot.finite), None)


def readings(times: Iterable[float]) -> list[tuple[float, ...]]:
    """All series of snapshot times that get a model of their own, by the time of decision.

    Each prefix of `times` is one; each prefix of the epoch ends among them another, for runs that are
    read at epoch ends only.
    """
    ordered = sorted(times)
    series = (ordered, [time for time in ordered if time == int(time)])
    prefixes = {tuple(one[:end]) for one in series for end in range(1, len(one) + 1)}
    return sorted(prefixes, key=lambda prefix: (prefix[-1], -len(prefix)))


def show(epochs: Iterable[float]) -> str:
    """Join epochs as text, for messages."""
    return ", ".join(f"{epoch:g}" for epoch in epochs) or "none"


@dataclass(frozen=True)
class Features:
    """How the statistics of a few snapshots become one row of numbers.

    Attributes:
        features: which of the two centralities is summarised, or both.
        form: temporal form of section 3.2; "plain" leaves each snapshot as it is.
        scale: "raw" is the paper's. "relative" gives three numbers for each statistic: its movement since
            epoch 0, with its sign, and the logarithms of how far it has moved since epoch 0 and since the
            snapshot before. They stay bounded while a run diverges, and compare networks of other sizes and
            initialisations.
    """

    features: FeatureSet = "both"
    form: Form = "plain"
    scale: Scale = "relative"

    @property
    def columns(self) -> list[int]:
        """Indices into `STATISTICS` of the statistics in use."""
        if self.features == "both":
            return list(range(len(STATISTICS)))
        return [i for i, name in enumerate(STATISTICS) if name.startswith(self.features)]

    def rows(self, table: Table, times: Sequence[float]) -> Array:
        """Temporal signature, one row a snapshot.

        Args:
            table: snapshots by epoch; must hold epoch 0 and all of `times`.
            times: the epochs to read besides 0, in ascending order.

        Returns:
            Shape [1 + n, k] for scale "raw"; [n, 3 k] for "relative", where epoch 0 has nothing to say.
        """
        statistics = statistics_matrix([table[time] for time in (0.0, *times)])[:, self.columns]
        if self.scale == "raw":
            return temporal(statistics, self.form)
        return temporal(_movement(np.arcsinh(statistics)), self.form)

    def all_snapshots(self, table: Table, times: Sequence[float]) -> Array:
        """Concatenate all snapshots up to the last of `times` (the paper's S_t); shape [d]."""
        return self.rows(table, times).reshape(-1)

    def two_snapshots(self, table: Table, times: Sequence[float]) -> Array:
        """Concatenate the two latest snapshots, the paper's input to regression (section 4.2); shape [d]."""
        return self.rows(table, times)[-2:].reshape(-1)


def _movement(level: Array) -> Array:
    """Movements of [1 + n, k] numbers: signed since the first row, and sizes since the first and the last."""
    since_start, since_last = level[1:] - level[0], np.diff(level, axis=0)
    return np.hstack((signed(since_start), size(since_start), size(since_last)))
