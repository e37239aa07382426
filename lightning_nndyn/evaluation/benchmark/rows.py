"""Rows of numbers, the form in which all results of an evaluation are published."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_nndyn._files import read_json
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.scores import Score

BANDS = ("all", "trainable")
"""Sets of runs that are scored together: all of a corpus, or those that `RunDataset.trainable` names."""

_DIGITS = 5


@dataclass(frozen=True)
class Row:
    """One number of the results.

    Attributes:
        corpus: where the runs come from.
        band: "all", or "trainable" for the runs that did not diverge and learned something; "without X" for
            runs on X, "from NAME" for runs of another corpus than the training runs.
        method: the method that predicts; of feature curves the runs that are averaged: "mean-of-high", ...
        t: decision time, in epochs.
        metric: "mae" (a fraction), "r2", "spearman", "accuracy" (of low or not), "auc", "importance of X" (a
            share of runs), or of feature curves a statistic's name.
        value: the number; None where it is not defined.
        low: lower end of its 95 % interval.
        high: upper end.
        runs: number of runs that it rests on.
    """

    corpus: str
    band: str
    method: str
    t: float
    metric: str
    value: float | None
    low: float | None
    high: float | None
    runs: int

    @classmethod
    def from_score(
        cls, corpus: str, band: str, method: str, t: float, metric: str, score: Score, runs: int
    ) -> Row:
        """A row with a score; numbers that are not defined become None, as JSON has no NaN."""
        value, low, high = (None if math.isnan(number) else round(number, _DIGITS) for number in score)
        return cls(corpus, band, method, t, metric, value, low, high, runs)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def write_rows(rows: Sequence[Row], file: Path) -> None:
    """Write all rows as a JSON list, one row per line.

    Raises:
        CorpusError: the file cannot be written.
    """
    lines = ",\n".join(json.dumps(row.to_dict()) for row in rows)
    write_atomically(file, f"[\n{lines}\n]\n".encode())


def read_rows(file: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    return [Row(**row) for row in read_json(file)]
