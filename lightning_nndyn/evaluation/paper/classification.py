"""The paper's classification, low or not (section 4.1): SVM and MLP on raw statistics, cross-validated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.compare import LEAST_RUNS, Row, banded, folds
from lightning_nndyn.evaluation.benchmark.scores import Outcome, accuracy, auc, scored
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.predictor.paper_models import Classifier, decision_values, fit_classifier
from lightning_nndyn.signature.snapshot import Mask

MAJORITY = "majority"
"""Calls all runs what most of them are. The paper's sample is half low, and its baseline a coin."""

_METRICS: dict[str, Callable[[Outcome], float]] = {"accuracy": accuracy, "auc": auc}


def classification(
    study: Study, settings: Sequence[Setting], *, times: Sequence[float], seed: int, jobs: int
) -> Iterator[Row]:
    """Share of runs rightly called low or not, and area under the ROC, by settings at times.

    Cross-validated once, on the first of the folds that `compare` uses.
    """
    usable = [time for time in times if len(study.at(time)) >= LEAST_RUNS]
    for time in usable:
        yield from majority(study, time, seed)
    tasks = [(study, setting, time, seed) for setting in settings for time in usable]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_score)(*task) for task in tasks):
        yield from rows


def majority(study: Study, time: float, seed: int) -> Iterator[Row]:
    """The share of the more frequent class: what must be beaten."""
    places = study.at(time)
    for band, wanted in banded(study, places):
        yield majority_row(study, places[wanted], band, time, seed)


def majority_row(study: Study, places: NDArray[np.int64], band: str, time: float, seed: int) -> Row:
    """The share of the more frequent class among the runs at `places`."""
    low = study.low[places]
    runs = decisions(study, places, np.full(len(places), 1.0 if low.mean() > 0.5 else -1.0))
    score = scored(accuracy, runs, study.groups[places], seed)
    return Row.of(study.name, band, MAJORITY, time, "accuracy", score, len(places))


def decisions(study: Study, places: NDArray[np.int64], decided: Array) -> Outcome:
    """Decision values [n], positive for low, in the form that scores take: larger is better, 0 the bar."""
    return Outcome(study.accuracies[places], -decided, study.low[places], np.zeros(len(places)))


def fitted(kind: Classifier, x: Array, low: Mask, seed: int) -> Callable[[Array], Array]:
    """A classifier fitted to rows x [n, d]: a function from rows to decision values, positive for low.

    Where all runs are of one class, there is nothing to fit: all new ones are called the same.
    """
    if low.all() or not low.any():
        return lambda new: np.full(len(new), 1.0 if low.all() else -1.0)
    classifier = fit_classifier(kind, x, low, seed)
    return lambda new: decision_values(classifier, new)


def _score(study: Study, setting: Setting, time: float, seed: int) -> list[Row]:
    places = study.at(time)
    decided = _held_out(study, setting, time, places, seed)
    return [
        Row.of(study.name, band, setting.name, time, name, score, int(wanted.sum()))
        for band, wanted in banded(study, places)
        for name, metric in _METRICS.items()
        for runs in (decisions(study, places[wanted], decided[wanted]),)
        for score in (scored(metric, runs, study.groups[places[wanted]], seed),)
    ]


def _held_out(study: Study, setting: Setting, time: float, places: NDArray[np.int64], seed: int) -> Array:
    epochs = epochs_read([study.records[place] for place in places], time)
    x = signatures(study, places, epochs, setting.features, setting.form)
    low, decided = study.low[places], np.empty(len(places))
    for test in folds(study.groups[places], seed):
        train = np.setdiff1d(np.arange(len(places)), test)
        decided[test] = fitted(setting.classifier, x[train], low[train], seed)(x[test])
    return decided
