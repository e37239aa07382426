"""Predictions for runs whose data set, optimizer or kind of network no training run had."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.errors import renamed_arguments
from lightning_nndyn.evaluation.benchmark.compare import (
    METHODS,
    MIN_RUNS,
    formula_values,
    method_features,
    scored,
)
from lightning_nndyn.evaluation.benchmark.methods import FEATURES, learned_predictions
from lightning_nndyn.evaluation.benchmark.scores import Predictions, Row, spearman
from lightning_nndyn.evaluation.cache import in_processes
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
        (runs, method, time, value, held_out, seed)
        for value, held_out in _splits(runs)
        for time in times
        for method in chosen
    ]
    for rows in in_processes(_rows, tasks, jobs):
        yield from rows


def _splits(runs: RunDataset) -> Iterator[tuple[str, Mask]]:
    for trait in TRAITS.values():
        values = np.array([trait(record) for record in runs.records])
        if len(np.unique(values)) > 1:
            for value in np.unique(values):
                yield str(value), values == value


def _rows(runs: RunDataset, method: str, time: float, value: str, held_out: Mask, seed: int) -> list[Row]:
    indices = runs.at(time)
    test, train = indices[held_out[indices]], indices[~held_out[indices]]
    if min(len(test), len(train)) < MIN_RUNS:
        return []
    predicted = _predictions(runs, method, time, train, test, seed)
    if predicted is None or np.isnan(predicted).any():
        return []
    comparable = _has_company(runs.datasets[test])
    test, predicted = test[comparable], predicted[comparable]
    truth, ranks = (_ranks(values, runs.datasets[test]) for values in (runs.accuracies[test], predicted))
    predictions = Predictions(truth, ranks, runs.low[test], runs.thresholds[test])
    return list(
        scored(runs, test, f"without {value}", method, time, predictions, {"spearman": spearman}, seed)
    )


def _predictions(
    runs: RunDataset, method: str, time: float, train: Indices, test: Indices, seed: int
) -> Array | None:
    """For the test runs, shape [n]; None where a learned method cannot predict."""
    if method not in FEATURES:
        return formula_values(runs, method, time, test)
    x = method_features(runs, method, time, np.concatenate([train, test]))
    if x is None:
        return None
    return learned_predictions(x[: len(train)], runs.relative[train], x[len(train) :], seed)


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
