"""Leaves the raw material of late snapshots out of a corpus that is too large to carry.

It is nearly all of a file's size. Statistics, eigenvalues, losses and curves stay for the whole run; what was
read layer by layer stays up to some epoch: early, where predictions are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lightning_nndyn.corpus.storage.record import RunRecord

_HORIZONS = (30, 20, 15, 10, 7, 5, 3, 2, 1)  # epochs


def thinned(record: RunRecord, horizon: float) -> RunRecord:
    """The record without raw material, per layer, of snapshots after an epoch; that of a divergence stays."""
    kept = [snapshot.epoch <= horizon or not snapshot.finite for snapshot in record.snapshots]
    thin = [
        [
            snapshot if keep else replace(snapshot, layers={})
            for keep, snapshot in zip(kept, snapshots, strict=True)
        ]
        for snapshots in (record.snapshots, record.flow)
        if snapshots
    ]
    return replace(
        record,
        snapshots=thin[0] if record.snapshots else [],
        flow=thin[1] if record.flow else [],
        weights=[layers if keep else {} for keep, layers in zip(kept, record.weights, strict=True)],
    )


def horizon_of(record: RunRecord) -> float:
    """The epoch after which raw material was left out of the record; infinite where it has all."""
    horizon = -1.0
    for snapshot, layers in zip(record.snapshots, record.weights, strict=True):
        if not layers:
            return horizon
        horizon = snapshot.epoch
    return math.inf


def horizons(records: Sequence[RunRecord], whole: float, bare: float, limit: float) -> Iterator[int]:
    """Epochs, from late to early, up to which raw material may be kept within a size.

    Args:
        records: of the corpus.
        whole: its size with all raw material.
        bare: its size without any.
        limit: the size that is wanted, in the same unit. Epochs that are too late for it, were every snapshot
            to weigh the same, are passed over.
    """
    epochs = [snapshot.epoch for record in records for snapshot in record.snapshots]
    for horizon in _HORIZONS:
        share = sum(epoch <= horizon for epoch in epochs) / max(len(epochs), 1)
        if share < 1 and bare + share * (whole - bare) <= limit:
            yield horizon
