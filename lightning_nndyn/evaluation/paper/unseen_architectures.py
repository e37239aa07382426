"""The paper's App. A.4: fitted to runs of some networks, asked about another on the same data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.evaluation.benchmark.compare import LEAST_RUNS, Row
from lightning_nndyn.evaluation.benchmark.scores import Outcome, accuracy, auc, scored
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.evaluation.paper.classification import decisions, fitted, majority_row
from lightning_nndyn.evaluation.paper.features import Setting, epochs_read, signatures
from lightning_nndyn.evaluation.paper.published_numbers import subject_of

_REPEATS = 5  # the paper's: each time another balanced sample of the training runs
_PREFIX = "from "


def unseen(
    studies: Sequence[Study], settings: Sequence[Setting], *, times: Sequence[float], seed: int, jobs: int
) -> Iterator[Row]:
    """Accuracy and area under the ROC on all runs of a corpus, by classifiers fitted to other networks' runs.

    Corpora of one network and one data set are paired, each with each other network on its data set, and with
    all of these together. As in the paper: labels by one threshold, here that of the tested corpus; training
    sets are random, half low, and the mean of five is given. A row's band is "from NAME", of the training
    runs. Without two such corpora there are no rows.
    """
    pairs = list(pairings(studies))
    tasks = [(sources, study, settings, time, seed) for sources, study in pairs for time in times]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for rows in parallel(joblib.delayed(_score)(*task) for task in tasks):
        yield from rows


def is_unseen(row: Row) -> bool:
    """Whether a row is of a network that no training run had."""
    return row.band.startswith(_PREFIX)


def pairings(studies: Sequence[Study]) -> Iterator[tuple[list[Study], Study]]:
    """Training corpora and the tested one: another network, the same data set."""
    for study in studies:
        subject = subject_of(study)
        others = [other for other in studies if _elsewhere(subject_of(other), subject)]
        yield from (([other], study) for other in others)
        if len(others) > 1:
            yield others, study


def _elsewhere(other: tuple[str, str] | None, subject: tuple[str, str] | None) -> bool:
    return bool(other and subject and other[0] != subject[0] and other[1] == subject[1])


def _score(
    sources: Sequence[Study], study: Study, settings: Sequence[Setting], time: float, seed: int
) -> list[Row]:
    test, trains = study.at(time), [source.at(time) for source in sources]
    if min(len(test), sum(map(len, trains))) < LEAST_RUNS:
        return []
    band = _PREFIX + "+".join(source.name for source in sources)
    rows = [majority_row(study, test, band, time, seed)]
    for setting in settings:
        decided = _decided(sources, trains, study, test, setting, time, seed)
        if decided is None:
            return []
        runs = decisions(study, test, decided)
        for name, metric in (("accuracy", accuracy), ("auc", auc)):
            score = scored(_mean_of(metric), runs, study.groups[test], seed)
            rows.append(Row.of(study.name, band, setting.name, time, name, score, len(test)))
    return rows


def _decided(
    sources: Sequence[Study],
    trains: Sequence[NDArray[np.int64]],
    study: Study,
    test: NDArray[np.int64],
    setting: Setting,
    time: float,
    seed: int,
) -> Array | None:
    """Decision values [n, repeats]; None where the training runs are all of one class."""
    parts = [*zip(sources, trains, strict=True), (study, test)]
    epochs = epochs_read(list(chain(*([one.records[place] for place in at] for one, at in parts))), time)
    *x, new = [signatures(one, at, epochs, setting.features, setting.form) for one, at in parts]
    accuracies = np.concatenate([one.accuracies[at] for one, at in zip(sources, trains, strict=True)])
    low, known = accuracies < study.thresholds[0], np.concatenate(x)
    if low.all() or not low.any():
        return None
    samples = [_half_low(low, seed + repeat) for repeat in range(_REPEATS)]
    return np.column_stack(
        [fitted(setting.classifier, known[rows], low[rows], seed)(new) for rows in samples]
    )


def _half_low(low: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """A random sample, as large as can be, half of it low."""
    random = np.random.default_rng(seed)
    classes = [np.flatnonzero(low), np.flatnonzero(~low)]
    size = min(map(len, classes))
    return np.sort(np.concatenate([random.choice(members, size, replace=False) for members in classes]))


def _mean_of(metric: Callable[[Outcome], float]) -> Callable[[Outcome], float]:
    """A metric's mean over the columns of the predictions."""

    def mean(runs: Outcome) -> float:
        return float(np.mean([metric(runs._replace(predicted=column)) for column in runs.predicted.T]))

    return mean
