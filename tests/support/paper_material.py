"""What several tests of the paper's experiments compare with."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from paths import PRETRAINED
from sklearn.model_selection import PredefinedSplit

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.benchmark.compare import folds

CORPUS = PRETRAINED / "lenet5-digits.parquet"


CHOSEN = [
    "graph-paper-svm", "graph-paper-regression-degree-1-3", "graph-paper-svm-both-plain",
    "mean-of-high", "mean-of-low",
]  # fmt: skip


def with_statistics(study: RunDataset, made: Callable[[int, float], Any]) -> RunDataset:
    """The same runs with other statistics, by run and epoch."""

    def changed(place: int, record: RunRecord) -> RunRecord:
        snapshots = [
            replace(one, statistics=tuple(map(float, made(place, one.epoch)))) for one in record.snapshots
        ]
        return replace(record, snapshots=snapshots)

    return replace(study, records=tuple(changed(*one) for one in enumerate(study.records)))


def statistics(record: RunRecord, epoch: float) -> np.ndarray:
    return np.array(next(one.statistics for one in record.snapshots if one.epoch == epoch))


def fold_numbers(study: RunDataset) -> PredefinedSplit:
    numbers = np.empty(len(study.records), int)
    for number, test in enumerate(folds(study.groups, 0)):
        numbers[test] = number
    return PredefinedSplit(numbers)


def values(rows: Any) -> dict[tuple[str, str, float, str], float]:
    return {(row.band, row.method, row.t, row.metric): row.value for row in rows}
