"""Finished runs of one corpus or several, in the form that a predictor is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord, load_corpus
from lightning_nndyn.corpus.status import low_threshold as threshold_on
from lightning_nndyn.corpus.storage.access import corpus_manifest
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.material import (
    classes_of,
    configuration_of,
    curve_of,
    history_of,
    training_of,
)
from lightning_nndyn.predictor import LearningCurve, Predictor, TrainingSetup
from lightning_nndyn.predictor.low_accuracy import relative_accuracies
from lightning_nndyn.signature.snapshot import Snapshot


@dataclass(frozen=True)
class Collection:
    """Runs, with one entry of each list a run.

    Attributes:
        name: of the corpora.
        records: as they were recorded; failed ones are left out.
        histories: their snapshots.
        curves: what they logged.
        accuracies: their best test accuracies, fractions; shape [n].
        configurations: equal for runs that differ in their seed alone.
        populations: which network on which data set; shape [n].
        trainings: optimizer and steps per epoch.
        relative: accuracies as shares of the best of the same population, in all its runs; shape [n].
        thresholds: the low thresholds of the presets, by population.
    """

    name: str
    records: Sequence[RunRecord]
    histories: Sequence[list[Snapshot]]
    curves: Sequence[LearningCurve]
    accuracies: NDArray[np.float64]
    configurations: Sequence[str]
    populations: NDArray[np.str_]
    trainings: Sequence[TrainingSetup]
    relative: NDArray[np.float64]
    thresholds: dict[str, float]

    @classmethod
    def load(cls, corpora: Sequence[Path | str], name: str | None = None) -> Collection:
        """Read corpus folders or parquet files.

        Raises:
            CorpusError: a corpus cannot be read.
            MissingExtraError: one is a parquet file and pyarrow is not installed.
            PredictorError: one has no runs.
        """
        names, records, populations, trainings = [], [], [], []
        thresholds: dict[str, float] = {}
        for corpus in corpora:
            manifest = corpus_manifest(corpus)
            settings: dict[str, Any] = manifest["settings"]
            names.append(settings["name"])
            for record in _finished(corpus, settings["name"]):
                dataset = record.config["dataset"]
                records.append(record)
                populations.append(f"{settings['name']} on {dataset}")
                trainings.append(training_of(record, int(manifest["data"][dataset]["train_images"])))
                thresholds.setdefault(populations[-1], threshold_on(settings, dataset))
        accuracies = np.array([record.best_accuracy for record in records])
        guesses = np.array([1 / classes_of(record) for record in records])
        return cls(
            name=name or " and ".join(names),
            records=records,
            histories=[history_of(record) for record in records],
            curves=[curve_of(record) for record in records],
            accuracies=accuracies,
            configurations=[configuration_of(record) for record in records],
            populations=np.array(populations),
            trainings=trainings,
            relative=relative_accuracies(accuracies, np.array(populations), guesses),
            thresholds=thresholds,
        )

    def take(self, chosen: NDArray[Any]) -> Collection:
        """Some of the runs, by their indices or a mask."""
        places = np.arange(len(self.records))[chosen]

        def of(values: Sequence[Any]) -> list[Any]:
            return [values[place] for place in places]

        return Collection(
            self.name,
            of(self.records),
            of(self.histories),
            of(self.curves),
            self.accuracies[places],
            of(self.configurations),
            self.populations[places],
            of(self.trainings),
            self.relative[places],
            self.thresholds,
        )

    def fit(self, predictor: Predictor) -> Predictor:
        """Fit a predictor to all runs.

        Raises:
            PredictorError: too few runs of one class.
        """
        return predictor.fit(
            self.histories,
            self.accuracies.tolist(),
            corpus=self.name,
            curves=self.curves,
            groups=self.configurations,
            populations=self.populations.tolist(),
            training=self.trainings,
        )


def _finished(corpus: Path | str, name: str) -> list[RunRecord]:
    records = [record for record in load_corpus(corpus) if not record.failed]
    if not records:
        raise PredictorError(f"corpus {name!r} has no runs yet: train some with nndyn corpus train")
    return records
