"""A run's history by the epochs at which its snapshots were taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.signature.snapshot import Snapshot

HistoryByEpoch = Mapping[float, Snapshot]


def index_by_epoch(history: Sequence[Snapshot]) -> dict[float, Snapshot]:
    """Index a history by epoch.

    Epochs are rounded, so that equal times compare equal after arithmetic or after a trip through JSON.

    Raises:
        PredictorError: the history is empty, does not begin at epoch 0, or is not in ascending order.
    """
    epochs = [round(float(snapshot.epoch), 9) for snapshot in history]
    if not epochs or epochs[0] != 0.0:
        raise PredictorError(
            f"a history must begin with the snapshot at epoch 0, before the first step; it holds the epochs "
            f"{show_epochs(epochs)}. Take a snapshot before training starts."
        )
    if any(late <= early for early, late in pairwise(epochs)):
        raise PredictorError(
            f"a history's epochs must ascend; it holds {show_epochs(epochs)}. Sort its snapshots."
        )
    return dict(zip(epochs, history, strict=True))


def diverged_at(history: HistoryByEpoch) -> float | None:
    """Epoch of the first snapshot with weights that are not finite; None if there is none."""
    return next((epoch for epoch, snapshot in history.items() if not snapshot.finite), None)


def epoch_ends(times: Iterable[float]) -> list[float]:
    """Those of `times` at which an epoch ends."""
    return [time for time in times if time == int(time)]


def show_epochs(epochs: Iterable[float]) -> str:
    """Join epochs as text, for messages."""
    return ", ".join(f"{epoch:g}" for epoch in epochs) or "none"
