"""What signatures of the unrolled graph tell (Figs 4c, 4d, 11a; App. A.2), beside those of the rolled one.

All graphs are read at the same epochs, of the same runs, and judged on the same folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lightning_nndyn.evaluation.benchmark.compare import (
    MIN_RUNS,
    cross_validated,
    method_features,
    scored_by_band,
)
from lightning_nndyn.evaluation.benchmark.methods import learned_predictions
from lightning_nndyn.evaluation.benchmark.scores import Predictions, Row, spearman
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.paper.classification import METRICS, as_predictions, fitted, majority_rows
from lightning_nndyn.evaluation.paper.unrolled_readings import FILE, NEGATIVE, POSITIVE
from lightning_nndyn.evaluation.result_file import KnownRow, read_rows, write_rows
from lightning_nndyn.predictor.paper_models import Classifier
from lightning_nndyn.signature.snapshot import STATISTICS, Array

RESULTS = "unrolled.parquet"

GRAPHS: dict[str, tuple[str, ...]] = {
    "rolled": ("rolled",),
    "unrolled": (POSITIVE, NEGATIVE),
    POSITIVE: (POSITIVE,),
    NEGATIVE: (NEGATIVE,),
}
"""Names of graphs, each with those whose statistics are concatenated."""

CENTRALITIES = ("degree", "eigenvector")
CLASSIFIERS: tuple[Classifier, ...] = ("svm", "mlp")

TIMES = (1, 5, 10, 15)
"""Epochs after which runs are classified, those of App. A.2."""

_RANK_TIMES = (1, 5)
_VERSION_2 = "graph-v2"

Table = Mapping[tuple[int, str, int], Array]
"""The ten statistics of a run's graph at an epoch, by run, graph and epoch."""


def classify_unrolled(
    corpora: Sequence[Path | str], output: Path | str, *, seed: int = 0, ranks: bool = True
) -> list[Row]:
    """Reads `unrolled-readings.parquet` in a folder, and writes `unrolled.parquet` beside it.

    Args:
        corpora: those that the runs are from.
        output: the folder.
        seed: of folds, learners and intervals.
        ranks: whether to fit learners of the final accuracy as well, which takes most of the time.
    """
    output = Path(output)
    readings, _ = read_rows(output / FILE)
    rows: list[Row] = []
    for corpus in corpora:
        own = [row for row in readings if row["corpus"] == Path(corpus).stem]
        numbers = {row["run"] for row in own}
        if len(numbers) < MIN_RUNS:
            continue
        everything = RunDataset.load(corpus)
        runs = everything.take(np.array([record.index in numbers for record in everything.records]))
        statistics = statistics_of(runs, own)
        rows += classification_rows(runs, statistics, seed)
        rows += rank_rows(runs, statistics, seed) if ranks else ()
    if rows:
        write_rows(output / RESULTS, [asdict(row) for row in rows])
    return rows


def statistics_of(runs: RunDataset, readings: Sequence[KnownRow]) -> Table:
    """The statistics of all three graphs: the rolled one's from the records."""
    table = {
        (row["run"], row["graph"], row["epoch"]): np.array([row[name] for name in STATISTICS])
        for row in readings
    }
    for record in runs.records:
        for snapshot in record.snapshots:
            if snapshot.epoch == int(snapshot.epoch):
                table[record.index, "rolled", int(snapshot.epoch)] = np.array(snapshot.statistics)
    return table


def classification_rows(runs: RunDataset, table: Table, seed: int) -> Iterator[Row]:
    """Accuracy and AUC of each graph, centrality and classifier at each time, and the majority's."""
    for time in TIMES:
        indices = readable_runs(runs, table, time)
        if len(indices) < MIN_RUNS:
            continue
        for band in ("all", "trainable"):
            members = indices if band == "all" else indices[runs.trainable[indices]]
            if len(members) >= MIN_RUNS:
                yield from majority_rows(runs, members, band, time, seed)
        for graph in GRAPHS:
            for centrality in CENTRALITIES:
                x = features(runs, table, indices, graph, centrality, time)
                for kind in CLASSIFIERS:
                    name = f"{graph}-{centrality}-{kind}"
                    yield from _classified(runs, indices, x, kind, name, time, seed)


def _classified(
    runs: RunDataset, indices: Indices, x: Array, kind: Classifier, name: str, time: float, seed: int
) -> Iterator[Row]:
    low = runs.low[indices]

    def decide(train: Indices, test: Indices) -> Array:
        return fitted(kind, x[train], low[train], seed)(x[test])

    decisions = cross_validated(runs.groups[indices], seed, decide)
    predictions = as_predictions(runs, indices, decisions)
    yield from scored_by_band(runs, indices, name, time, predictions, METRICS, seed)


def rank_rows(runs: RunDataset, table: Table, seed: int) -> Iterator[Row]:
    """Spearman's correlation with the final accuracy, learned from each graph's statistics or version 2."""
    for time in _RANK_TIMES:
        indices = readable_runs(runs, table, time)
        if len(indices) < MIN_RUNS:
            continue
        for name in (*GRAPHS, _VERSION_2):
            x = rank_features(runs, table, indices, name, time)
            if x is None:
                continue
            predictions = Predictions.for_runs(runs, indices, _predicted(runs, indices, x, seed))
            yield from scored_by_band(runs, indices, name, time, predictions, {"spearman": spearman}, seed)


def rank_features(runs: RunDataset, table: Table, indices: Indices, name: str, time: int) -> Array | None:
    """Both centralities of a graph, or the features of the signature's version 2."""
    if name == _VERSION_2:
        return method_features(runs, name, float(time), indices)
    return np.hstack([features(runs, table, indices, name, centrality, time) for centrality in CENTRALITIES])


def _predicted(runs: RunDataset, indices: Indices, x: Array, seed: int) -> Array:
    y = runs.accuracies[indices]

    def predict(train: Indices, test: Indices) -> Array:
        return learned_predictions(x[train], y[train], x[test], seed)

    return cross_validated(runs.groups[indices], seed, predict)


def readable_runs(runs: RunDataset, table: Table, time: int) -> Indices:
    """Indices of the runs with finite statistics of all graphs at all epochs up to a time."""
    names = ("rolled", POSITIVE, NEGATIVE)
    usable = [
        index
        for index, record in enumerate(runs.records)
        if all(
            np.isfinite(table.get((record.index, name, epoch), np.nan)).all()
            for name in names
            for epoch in range(time + 1)
        )
    ]
    return np.array(usable, dtype=np.int64)


def features(
    runs: RunDataset, table: Table, indices: Indices, graph: str, centrality: str, time: int
) -> Array:
    """The paper's S_t: five statistics of each epoch's graph, one after the other; shape [n, d]."""
    columns = [place for place, name in enumerate(STATISTICS) if name.startswith(centrality)]
    return np.array(
        [
            np.concatenate(
                [
                    table[runs.records[index].index, part, epoch][columns]
                    for part in GRAPHS[graph]
                    for epoch in range(time + 1)
                ]
            )
            for index in indices
        ]
    )
