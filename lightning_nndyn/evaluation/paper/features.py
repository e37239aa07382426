"""Features of the paper's classifiers and regression: raw statistics of snapshots (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Classifier, Features, FeatureSet
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.signature.temporal import Form


@dataclass(frozen=True)
class Setting:
    """One of the paper's classifiers with its features; the main setting is degree, plain (section 4.1)."""

    classifier: Classifier
    features: FeatureSet = "degree"
    form: Form = "plain"

    @property
    def name(self) -> str:
        """The method's name in rows, short for the main setting."""
        short = f"graph-paper-{self.classifier}"
        main = (self.features, self.form) == ("degree", "plain")
        return short if main else f"{short}-{self.features}-{self.form}"


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for features in ("degree", "eigenvector")
    for classifier in ("svm", "mlp")
    for form in ("plain", "linear", "exponential")
    for setting in (Setting(classifier, features, form),)
}
"""All settings of the paper's figures 4, 5, 11 and 12, by name."""


def without_raw_material(runs: RunDataset) -> RunDataset:
    """The same runs with nothing but their ten statistics: small enough to keep all corpora in memory."""
    return replace(runs, records=[_without_raw_material(record) for record in runs.records])


def _without_raw_material(record: RunRecord) -> RunRecord:
    snapshots = [replace(snapshot, layers={}) for snapshot in record.snapshots]
    return replace(record, snapshots=snapshots, losses=[], weights=[])


def epochs_read(records: Sequence[RunRecord], time: float) -> list[float]:
    """The epochs, apart from 0, at which all of the runs have a snapshot up to a time.

    From the end of the first epoch on these are ends of epochs only, as in the paper; before, the fractions
    of the first epoch.
    """
    common = set.intersection(*(set(index_by_epoch(record.snapshots)) for record in records))
    return sorted(epoch for epoch in common if 0 < epoch <= time and (time < 1 or epoch == int(epoch)))


def signatures(
    runs: RunDataset, indices: Indices, epochs: Sequence[float], features: FeatureSet, form: Form
) -> Array:
    """The paper's S_t of the runs at `indices`, from epoch 0 and `epochs`; shape [n, d]."""
    reader = Features(features, form, "raw")
    tables = (index_by_epoch(runs.records[index].snapshots) for index in indices)
    return np.array([reader.all_snapshots(table, epochs) for table in tables])


def snapshot_pairs(runs: RunDataset, indices: Indices, pair: tuple[int, int], features: FeatureSet) -> Array:
    """The statistics at two epochs, concatenated: the paper's input of the regression; shape [n, d]."""
    reader = Features(features, "plain", "raw")
    epochs = [float(epoch) for epoch in pair if epoch]
    tables = (index_by_epoch(runs.records[index].snapshots) for index in indices)
    return np.array([reader.two_snapshots(table, epochs) for table in tables])
