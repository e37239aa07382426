"""The paper's classification of runs as low or not (section 4.1): SVM and MLP on raw statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import (
    MIN_RUNS,
    bands,
    cross_validated,
    scored,
    scored_by_band,
)
from lightning_nndyn.evaluation.benchmark.scores import Metric, Predictions, Row, accuracy, auc
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.predictor.paper_models import Classifier, decision_values, fit_classifier
from lightning_nndyn.signature.snapshot import Array, Mask

MAJORITY = "majority"
"""The baseline: all runs get the more frequent label. The paper's sample is balanced, its baseline 50 %."""

METRICS: dict[str, Metric] = {"accuracy": accuracy, "auc": auc}


def classification(
    runs: RunDataset, settings: Sequence[Setting], *, times: Sequence[float], seed: int
) -> Iterator[Row]:
    """Accuracy and area under the ROC curve by setting and time.

    Cross-validated once, on the first of the folds that `compare` uses.

    Args:
        runs: of one corpus.
        settings: classifiers with their features.
        times: decision times, in epochs; those with fewer than 20 runs are left out.
        seed: of folds, classifiers and intervals.
    """
    usable = [(time, indices) for time in times if len(indices := runs.at(time)) >= MIN_RUNS]
    for time, indices in usable:
        for band, members in bands(runs, indices):
            yield from majority_rows(runs, indices[members], band, time, seed)
    for setting in settings:
        for time, indices in usable:
            decisions = _held_out_decisions(runs, setting, time, indices, seed)
            predictions = as_predictions(runs, indices, decisions)
            yield from scored_by_band(runs, indices, setting.name, time, predictions, METRICS, seed)


def majority_rows(runs: RunDataset, indices: Indices, band: str, time: float, seed: int) -> Iterator[Row]:
    """The share of the more frequent class among the runs at `indices`."""
    label = 1.0 if runs.low[indices].mean() > 0.5 else -1.0
    predictions = as_predictions(runs, indices, np.full(len(indices), label))
    return scored(runs, indices, band, MAJORITY, time, predictions, {"accuracy": accuracy}, seed)


def as_predictions(runs: RunDataset, indices: Indices, decisions: Array) -> Predictions:
    """Decision values [n], positive for low, as `Predictions`: larger is better, below 0 is low."""
    return Predictions(runs.accuracies[indices], -decisions, runs.low[indices], np.zeros(len(indices)))


def fitted(kind: Classifier, x: Array, low: Mask, seed: int) -> Callable[[Array], Array]:
    """A classifier fitted to rows x [n, d]: a function from rows to decision values, positive for low.

    Where all runs are of one class, all new ones get that label.
    """
    if low.all() or not low.any():
        return lambda new: np.full(len(new), 1.0 if low.all() else -1.0)
    classifier = fit_classifier(kind, x, low, seed)
    return lambda new: decision_values(classifier, new)


def _held_out_decisions(
    runs: RunDataset, setting: Setting, time: float, indices: Indices, seed: int
) -> Array:
    epochs = epochs_read([runs.records[index] for index in indices], time)
    x = signatures(runs, indices, epochs, setting.features, setting.form)
    low = runs.low[indices]
    return cross_validated(
        runs.groups[indices],
        seed,
        lambda train, test: fitted(setting.classifier, x[train], low[train], seed)(x[test]),
    )
