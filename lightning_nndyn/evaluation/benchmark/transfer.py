"""Predictions for runs whose data set, optimizer or kind of network no training run had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.compare import (
    METHODS,
    MIN_RUNS,
    Method,
    formula_values,
    method_features,
)
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.rows import Row
from lightning_nndyn.evaluation.benchmark.scores import Predictions, bootstrapped, spearman
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.signature.snapshot import Array, Mask

TIMES = (1 / 16, 1 / 4, 1.0, 2.0)
"""Decision times, in epochs."""

TRAITS: dict[str, Callable[[RunRecord], str]] = {
    "data set": lambda record: str(record.config["dataset"]),
    "optimizer": lambda record: str(record.config["optimizer"]),
    "network": lambda record: str(record.config["network_options"].get("kind", record.config["network"])),
}
"""Each value of a trait is held out in turn."""

_MIN_RUNS_ON_A_DATASET = 5


@renamed_arguments(study="runs")
def transfer(
    runs: RunDataset,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Row]:
    """Score rank correlations on runs with a data set, optimizer or kind of network that was held out.

    Learned methods predict a run's share of the best accuracy on its data set in the corpus (0 for guessing,
    1 for the best run), because the best accuracy on an unknown data set is unknown. Runs are ranked among
    those on the same data set. A row's band is "without VALUE". A trait with one value has no rows.

    Args:
        runs: of one corpus.
        methods: names from `METHODS`; None for all whose features do not depend on the architecture.
        times: decision times.
        seed: of learners and intervals.
        jobs: number of processes.
    """
    chosen = [name for name in METHODS if name != "weight-stats"] if methods is None else methods
    tasks = [
        (runs, METHODS[method], time, value, held_out, seed)
        for value, held_out in _splits(runs)
        for time in times
        for method in chosen
    ]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for row in parallel(joblib.delayed(_row)(*task) for task in tasks):
        if row is not None:
            yield row


def _splits(runs: RunDataset) -> Iterator[tuple[str, Mask]]:
    for trait in TRAITS.values():
        values = np.array([trait(record) for record in runs.records])
        if len(np.unique(values)) > 1:
            for value in np.unique(values):
                yield str(value), values == value


def _row(runs: RunDataset, method: Method, time: float, value: str, held_out: Mask, seed: int) -> Row | None:
    indices = runs.at(time)
    test, train = indices[held_out[indices]], indices[~held_out[indices]]
    if min(len(test), len(train)) < MIN_RUNS:
        return None
    predicted = _predictions(runs, method, time, train, test, seed)
    if predicted is None or np.isnan(predicted).any():
        return None
    comparable = _has_company(runs.datasets[test])
    test, predicted = test[comparable], predicted[comparable]
    truth, ranks = (_ranks(values, runs.datasets[test]) for values in (runs.accuracies[test], predicted))
    predictions = Predictions(truth, ranks, runs.low[test], runs.thresholds[test])
    score = bootstrapped(spearman, predictions, runs.groups[test], seed)
    return Row.from_score(runs.name, f"without {value}", method.name, time, "spearman", score, len(test))


def _predictions(
    runs: RunDataset, method: Method, time: float, train: Indices, test: Indices, seed: int
) -> Array | None:
    """For the test runs, shape [n]; None where a learned method cannot predict."""
    if method.kind != "learned":
        return formula_values(runs, method, time, test)
    x = method_features(runs, method, time, np.concatenate([train, test]))
    if x is None:
        return None
    learner = Learner(seed).fit(x[: len(train)], runs.relative[train])
    return learner.predict(x[len(train) :])


def _has_company(datasets: NDArray[np.str_]) -> Mask:
    """Which runs have enough others on their data set to be ranked among them; shape [n]."""
    names, counts = np.unique(datasets, return_counts=True)
    return np.isin(datasets, names[counts >= _MIN_RUNS_ON_A_DATASET])


def _ranks(values: Array, datasets: NDArray[np.str_]) -> Array:
    """Ranks within each data set, from 0 to 1; shape [n]."""
    from scipy.stats import rankdata

    ranks = np.empty(len(values))
    for dataset in np.unique(datasets):
        members = datasets == dataset
        ranks[members] = (rankdata(values[members]) - 0.5) / members.sum()
    return ranks
