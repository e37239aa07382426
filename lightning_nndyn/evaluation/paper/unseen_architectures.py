"""The paper's App. A.4: classifiers fitted to runs of some networks, tested on another, same data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import MIN_RUNS, scored
from lightning_nndyn.evaluation.benchmark.scores import Metric, Predictions, Row
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.paper.classification import METRICS, as_predictions, fitted, majority_rows
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.evaluation.paper.published_numbers import Subject, subject_of
from lightning_nndyn.signature.snapshot import Array, Mask

_REPEATS = 5  # the paper's: each time another balanced sample of the training runs
_PREFIX = "from "


def unseen(
    corpora: Sequence[RunDataset], settings: Sequence[Setting], *, times: Sequence[float], seed: int
) -> Iterator[Row]:
    """Accuracy and area under the ROC curve on all runs of a corpus, fitted to runs of other networks.

    Corpora of one network and one data set are tested with each other network on their data set as the
    training runs, and with all of these together. As in the paper, one threshold labels all runs, here that
    of the tested corpus, and the score is the mean over five random balanced training samples. A row's band
    is "from NAME", the training corpora. Without two such corpora there are no rows.

    Args:
        corpora: the runs of each.
        settings: classifiers with their features.
        times: decision times, in epochs.
        seed: of samples, classifiers and intervals.
    """
    for sources, tested in pairings(corpora):
        for time in times:
            yield from _rows(sources, tested, settings, time, seed)


def is_unseen(row: Row) -> bool:
    """Whether a row is of a network that no training run had."""
    return row.band.startswith(_PREFIX)


def pairings(corpora: Sequence[RunDataset]) -> Iterator[tuple[list[RunDataset], RunDataset]]:
    """Training corpora and the tested one: other networks, the same data set."""
    for tested in corpora:
        subject = subject_of(tested)
        others = [other for other in corpora if _is_other_network(subject_of(other), subject)]
        yield from (([other], tested) for other in others)
        if len(others) > 1:
            yield others, tested


def _is_other_network(other: Subject | None, subject: Subject | None) -> bool:
    return bool(other and subject and other[0] != subject[0] and other[1] == subject[1])


def _rows(
    sources: Sequence[RunDataset], tested: RunDataset, settings: Sequence[Setting], time: float, seed: int
) -> list[Row]:
    test, trains = tested.at(time), [source.at(time) for source in sources]
    if min(len(test), sum(map(len, trains))) < MIN_RUNS:
        return []
    accuracies = np.concatenate([runs.accuracies[train] for runs, train in zip(sources, trains, strict=True)])
    low = accuracies < tested.thresholds[0]
    if low.all() or not low.any():
        return []
    band = _PREFIX + "+".join(source.name for source in sources)
    rows = [*majority_rows(tested, test, band, time, seed)]
    for setting in settings:
        decisions = _decisions([*zip(sources, trains, strict=True)], low, (tested, test), setting, time, seed)
        predictions = as_predictions(tested, test, decisions)
        metrics = {name: _mean_of(metric) for name, metric in METRICS.items()}
        rows += scored(tested, test, band, setting.name, time, predictions, metrics, seed)
    return rows


_Part = tuple[RunDataset, Indices]


def _decisions(
    sources: Sequence[_Part], low: Mask, tested: _Part, setting: Setting, time: float, seed: int
) -> Array:
    """Decision values for the tested runs, one column for each training sample; shape [n, repeats]."""
    parts = [*sources, tested]
    records = [runs.records[index] for runs, indices in parts for index in indices]
    epochs = epochs_read(records, time)
    *known, new = (signatures(*part, epochs, setting.features, setting.form) for part in parts)
    x = np.concatenate(known)
    samples = [_balanced_sample(low, seed + repeat) for repeat in range(_REPEATS)]
    return np.column_stack([fitted(setting.classifier, x[rows], low[rows], seed)(new) for rows in samples])


def _balanced_sample(low: Mask, seed: int) -> Indices:
    """The largest random sample of which half is low."""
    random = np.random.default_rng(seed)
    classes = [np.flatnonzero(low), np.flatnonzero(~low)]
    size = min(map(len, classes))
    return np.sort(np.concatenate([random.choice(members, size, replace=False) for members in classes]))


def _mean_of(metric: Metric) -> Metric:
    """A metric's mean over the columns of the predictions."""

    def mean(runs: Predictions) -> float:
        return float(np.mean([metric(runs._replace(predicted=column)) for column in runs.predicted.T]))

    return mean
