"""A network's signature: the statistics of its graph through training (section 3.2, S3).

In: a rolled graph whose weights change. Out: snapshots, temporal signatures, and movement since the start.
"""

from lightning_nndyn.signature.snapshot import (
    DEFAULT_TIMES,
    LAYER_FIELDS,
    SIGNATURE_VERSION,
    STATISTICS,
    Snapshot,
    SnapshotTaker,
    batch_of,
    temporal,
)

__all__ = [
    "DEFAULT_TIMES",
    "LAYER_FIELDS",
    "SIGNATURE_VERSION",
    "STATISTICS",
    "Snapshot",
    "SnapshotTaker",
    "batch_of",
    "temporal",
]
