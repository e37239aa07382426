"""What the paper's classifiers and its regression read: raw statistics of snapshots (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Classifier, Features, FeatureSet
from lightning_nndyn.signature.snapshot import Snapshot
from lightning_nndyn.signature.temporal import Form


@dataclass(frozen=True)
class Setting:
    """One of the paper's classifiers and what it reads; degree, plain is its main setting (section 4.1)."""

    classifier: Classifier
    features: FeatureSet = "degree"
    form: Form = "plain"

    @property
    def name(self) -> str:
        """The method's name in rows: the main setting has the bare one."""
        bare = f"graph-paper-{self.classifier}"
        main = (self.features, self.form) == ("degree", "plain")
        return bare if main else f"{bare}-{self.features}-{self.form}"


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for features in ("degree", "eigenvector")
    for classifier in ("svm", "mlp")
    for form in ("plain", "linear", "exponential")
    for setting in (Setting(classifier, features, form),)
}
"""All that the paper's figures 4, 5, 11 and 12 draw, by name."""


def without_raw_material(study: Study) -> Study:
    """The same runs with their ten statistics alone: small enough to keep all corpora, and for processes."""
    return replace(study, records=tuple(map(_slim, study.records)))


def _slim(record: RunRecord) -> RunRecord:
    snapshots = [replace(snapshot, layers={}) for snapshot in record.snapshots]
    return replace(record, snapshots=snapshots, losses=[], weights=[])


def epochs_read(records: Sequence[RunRecord], time: float) -> list[float]:
    """When all of the runs were read up to a time, epoch 0 apart.

    From the first epoch's end on, epochs' ends alone, as in the paper, which reads no earlier; before, the
    fractions of the first epoch.
    """
    common = set.intersection(*(set(_table(record)) for record in records))
    return sorted(epoch for epoch in common if 0 < epoch <= time and (time < 1 or epoch == int(epoch)))


def signatures(
    study: Study, places: NDArray[np.int64], epochs: Sequence[float], features: FeatureSet, form: Form
) -> Array:
    """The paper's S_t of the runs at `places`, one row each: epoch 0 and `epochs`; shape [n, d]."""
    reader = Features(features, form, "raw")
    return np.array([reader.all_snapshots(_table(study.records[place]), epochs) for place in places])


def snapshot_pairs(
    study: Study, places: NDArray[np.int64], pair: tuple[int, int], features: FeatureSet
) -> Array:
    """The statistics at two epochs side by side, the paper's input to regression; shape [n, d]."""
    reader = Features(features, "plain", "raw")
    epochs = [float(epoch) for epoch in pair if epoch]
    return np.array([reader.two_snapshots(_table(study.records[place]), epochs) for place in places])


def _table(record: RunRecord) -> dict[float, Snapshot]:
    return index_by_epoch(record.snapshots)
