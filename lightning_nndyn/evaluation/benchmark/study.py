"""The runs of one corpus as an evaluation sees them: truth, classes, groups, and what is known when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord, load_corpus
from lightning_nndyn.corpus.status import is_trainable
from lightning_nndyn.corpus.status import low_threshold as threshold_on
from lightning_nndyn.corpus.storage.access import corpus_manifest
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.material import configuration_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Finished runs and what became of them.

    Attributes:
        name: the corpus's.
        records: the runs, failed ones left out.
        accuracies: the best test accuracy of each, a fraction; shape [n].
        thresholds: below which a run on its data set is low; shape [n].
        trainable: whether it did not diverge and reaches twice the accuracy of guessing; shape [n].
    """

    name: str
    records: tuple[RunRecord, ...]
    accuracies: Array
    thresholds: Array
    trainable: NDArray[np.bool_]

    @classmethod
    def load(cls, path: Path | str) -> Study:
        """Read a corpus folder or parquet file.

        Raises:
            CorpusError: there is no corpus, or it cannot be read.
            MissingExtraError: the path is a parquet file and pyarrow is not installed.
            PredictorError: it has no runs.
        """
        manifest = corpus_manifest(path)
        return cls.of(load_corpus(path), manifest)

    @classmethod
    def of(cls, records: Sequence[RunRecord], manifest: dict[str, Any]) -> Study:
        """From records in memory and their corpus's manifest."""
        whole = tuple(record for record in records if not record.failed)
        settings = manifest["settings"]
        if not whole:
            raise PredictorError(f"corpus {settings['name']!r} has no whole runs yet: train some first")
        accuracies = np.array([record.best_accuracy for record in whole])
        thresholds = np.array([threshold_on(settings, record.config["dataset"]) for record in whole])
        trainable = [is_trainable(record, manifest) for record in whole]
        return cls(settings["name"], whole, accuracies, thresholds, np.array(trainable))

    @property
    def low(self) -> NDArray[np.bool_]:
        """Whether a run ends low; shape [n]."""
        return self.accuracies < self.thresholds

    @cached_property
    def datasets(self) -> NDArray[np.str_]:
        """What each run was trained on; shape [n]."""
        return np.array([record.config["dataset"] for record in self.records])

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """A number for each configuration: runs that differ in their seed alone share it; shape [n]."""
        keys = [configuration_of(record) for record in self.records]
        numbers = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        return np.array([numbers[key] for key in keys])

    def at(self, time: float) -> NDArray[np.int64]:
        """The runs that were read at this time and whose weights were finite until then; indices."""
        usable = [
            place
            for place, record in enumerate(self.records)
            if any(snapshot.epoch == time for snapshot in record.snapshots)
            and all(snapshot.finite for snapshot in record.snapshots if snapshot.epoch <= time)
        ]
        return np.array(usable, dtype=np.int64)
