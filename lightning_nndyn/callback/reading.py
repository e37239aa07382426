"""How weights are read into a run's record, and how verdicts are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from lightning_nndyn.callback.fit import Fit
from lightning_nndyn.callback.record import Record
from lightning_nndyn.signature.snapshot import Snapshot


def read_start(fit: Fit, record: Record) -> None:
    """Reads snapshot 0, if that is still to be done and the layers are known."""
    snapshot = fit.watch.read(0.0) if fit.watch.start_due else None
    if snapshot is not None:
        record.history.append(snapshot)
        record.first_weights = fit.watch.first_weights
        record.classes = max(2, fit.watch.outputs)


def read(
    fit: Fit,
    record: Record,
    model: nn.Module,
    due: Sequence[float],
    losses: Tensor,
    *,
    waits: bool,
    monitored: bool,
) -> None:
    """Reads the weights for all times that are due.

    Args:
        fit: the parts at work.
        record: the run's record.
        model: whose weights are read.
        due: times in epochs, rising.
        losses: the epoch's mean training loss so far, and lately; float32 [2].
        waits: whether verdicts are left for later, as the epoch's validation is still to come.
        monitored: whether the run's curve is to be read.
    """
    read_start(fit, record)  # may be due where gradients are accumulated: no weight has changed then
    due, fit.postponed = (*fit.postponed, *due), ()
    due = tuple(time for time in due if time > record.time)  # not what was read before an interruption
    if not due:
        return
    moved = due[-1] >= 1 or fit.watch.moved(model)
    # Once for all times: they have the same weights, and other processes may be waiting in here.
    snapshot = fit.watch.read(due[0])
    if not moved and not _shows_movement(snapshot):
        # Accumulated gradients, or steps that a gradient scaler skips. Weights that have not moved look
        # hopeless, so these times wait for the next one.
        fit.postponed = due
        return
    if snapshot is None:
        return
    fit.keeper.layer_sizes = fit.watch.layer_sizes
    so_far, lately = losses.tolist()
    for time in due:
        record.history.append(replace(snapshot, epoch=time))
        record.losses[time] = (so_far, lately)
        fit.unheard = True
        if not waits:
            hear(fit, record, monitored)


def _shows_movement(snapshot: Snapshot | None) -> bool:
    """Whether weights have moved since snapshot 0, even if nobody was seen to write to them (DeepSpeed)."""
    return snapshot is not None and (not snapshot.finite or any(snapshot.distances))


def hear(fit: Fit, record: Record, monitored: bool) -> None:
    """Asks for the verdict on what was read last, unless it has been given."""
    unheard, fit.unheard = fit.unheard, False
    if unheard and fit.judge is not None:
        fit.warn("kind", fit.judge.choose_kind(record, monitored))
        fit.judge.hear(record)
