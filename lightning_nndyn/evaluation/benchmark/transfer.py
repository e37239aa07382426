"""What a predictor makes of runs unlike all that it was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import joblib
import numpy as np
from numpy.typing import NDArray

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation.benchmark.compare import METHODS, Method, Row, by_formula, table
from lightning_nndyn.evaluation.benchmark.learners import Learner
from lightning_nndyn.evaluation.benchmark.material import classes_of
from lightning_nndyn.evaluation.benchmark.method_features import INPUTS, readable
from lightning_nndyn.evaluation.benchmark.scores import Outcome, scored, spearman
from lightning_nndyn.evaluation.benchmark.study import Array, Study
from lightning_nndyn.predictor.low_accuracy import relative_accuracies as shares_of_best

TIMES = (1 / 16, 1 / 4, 1.0, 2.0)
"""Times of decision, in epochs."""

TRAITS: dict[str, Callable[[RunRecord], str]] = {
    "data set": lambda record: str(record.config["dataset"]),
    "optimizer": lambda record: str(record.config["optimizer"]),
    "network": lambda record: str(record.config["network_options"].get("kind", record.config["network"])),
}
"""What is held out: each value of a trait in turn."""

_LEAST_RUNS = 20  # of either side
_LEAST_ON_A_DATASET = 5


def transfer(
    study: Study,
    *,
    methods: Sequence[str] | None = None,
    times: Sequence[float] = TIMES,
    seed: int = 0,
    jobs: int = 1,
) -> Iterator[Row]:
    """Rank correlations on runs with a data set, optimizer or kind of network that no training run had.

    Learned methods predict a run's share of the best accuracy that the corpus has on its data set (guessing
    is 0, the best run 1), and runs are ranked among those on the same data set: what an accuracy is worth
    elsewhere, nobody knows. A row's band is "without VALUE". Where a trait has one value, it has no rows.

    Args:
        study: the runs.
        methods: names from `METHODS`; None for all but those that read layers by their place.
        times: of decision.
        seed: of learners and intervals.
        jobs: processes.
    """
    chosen = [name for name in METHODS if name != "weight-stats"] if methods is None else methods
    tasks = [
        (study, METHODS[method], time, value, held_out, seed)
        for value, held_out in _splits(study)
        for time in times
        for method in chosen
    ]
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
    for row in parallel(joblib.delayed(_score)(*task) for task in tasks):
        if row is not None:
            yield row


def relative_accuracies(study: Study) -> Array:
    """Of each run the share of what can be reached on its data set: 0 for guessing, 1 for the best run."""
    guesses = np.array([1 / classes_of(record) for record in study.records])
    return shares_of_best(study.accuracies, study.datasets, guesses)


def _splits(study: Study) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for trait in TRAITS.values():
        values = np.array([trait(record) for record in study.records])
        if len(np.unique(values)) > 1:
            for value in np.unique(values):
                yield str(value), values == value


def _score(
    study: Study, method: Method, time: float, value: str, held_out: NDArray[np.bool_], seed: int
) -> Row | None:
    places = study.at(time)
    test, train = places[held_out[places]], places[~held_out[places]]
    if min(len(test), len(train)) < _LEAST_RUNS:
        return None
    predicted = _predictions(study, method, time, train, test, seed)
    if np.isnan(predicted).any():  # it has nothing to go by yet, or no more
        return None
    datasets = study.datasets[test]
    test, predicted, datasets = _comparable(test, predicted, datasets)
    truth, ranks = (_ranks(values, datasets) for values in (study.accuracies[test], predicted))
    runs = Outcome(truth, ranks, study.low[test], study.thresholds[test])
    score = scored(spearman, runs, study.groups[test], seed)
    return Row.of(study.name, f"without {value}", method.name, time, "spearman", score, len(test))


def _predictions(
    study: Study,
    method: Method,
    time: float,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int,
) -> Array:
    if method.kind != "learned":
        return by_formula(study, method, time, test)
    records = [study.records[place] for place in (*train, *test)]
    if not readable(method.name, records, time):
        return np.full(len(test), np.nan)
    x = table([INPUTS[method.name](record, time) for record in records])
    learner = Learner(seed).fit(x[: len(train)], relative_accuracies(study)[train])
    return learner.predict(x[len(train) :])


def _comparable(
    test: NDArray[np.int64], predicted: Array, datasets: NDArray[np.str_]
) -> tuple[NDArray[np.int64], Array, NDArray[np.str_]]:
    """The runs that have enough others on their data set to be ranked among."""
    names, counts = np.unique(datasets, return_counts=True)
    kept = np.isin(datasets, names[counts >= _LEAST_ON_A_DATASET])
    return test[kept], predicted[kept], datasets[kept]


def _ranks(values: Array, datasets: NDArray[np.str_]) -> Array:
    """Ranks within each data set, from 0 to 1."""
    from scipy.stats import rankdata

    ranks = np.empty(len(values))
    for dataset in np.unique(datasets):
        own = datasets == dataset
        ranks[own] = (rankdata(values[own]) - 0.5) / own.sum()
    return ranks
