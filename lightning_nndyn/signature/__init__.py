"""A network's signature: statistics of its graph as training goes on (section 3.2, S3).

In: a rolled graph whose weights change. Out: snapshots, their temporal forms, and movement since the start.
"""

from lightning_nndyn.signature.reader import SnapshotReader, SnapshotTaker
from lightning_nndyn.signature.snapshot import (
    DEFAULT_TIMES,
    LAYER_FIELDS,
    SIGNATURE_VERSION,
    STATISTICS,
    Snapshot,
    batch_of,
)
from lightning_nndyn.signature.temporal import temporal

__all__ = [
    "DEFAULT_TIMES",
    "LAYER_FIELDS",
    "SIGNATURE_VERSION",
    "STATISTICS",
    "Snapshot",
    "SnapshotReader",
    "SnapshotTaker",
    "batch_of",
    "temporal",
]
