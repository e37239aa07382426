"""Runs that no predictor can be fitted to are refused, with the way out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic_runs import RUNS, corpus, paper, runs

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.signature.snapshot import Snapshot


def having(run: list[Snapshot], **facts: Any) -> list[Snapshot]:
    return [replace(snapshot, **facts) for snapshot in run]


def test_too_few_runs_of_a_class_is_refused_with_counts() -> None:
    histories, accuracies = corpus(40)
    low = [i for i, accuracy in enumerate(accuracies) if accuracy < 0.5]
    kept = [i for i in range(40) if i not in low[4:]]
    with pytest.raises(PredictorError, match=r"4 low and \d+ good runs in the corpus.*at least 5 of each"):
        paper(low_threshold=0.5).fit([histories[i] for i in kept], [accuracies[i] for i in kept])


def test_percentages_are_refused() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="divide percentages by 100"):
        paper(low_threshold=0.5).fit(histories, [100 * a for a in accuracies])


def test_accuracy_that_is_nan_is_refused() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="got nan"):
        paper(low_threshold=0.5).fit(histories, [float("nan"), *accuracies[1:]])


def test_lengths_must_agree() -> None:
    histories, accuracies = corpus(20)
    with pytest.raises(PredictorError, match="20 histories and 19 accuracies"):
        paper(low_threshold=0.5).fit(histories, accuracies[1:])
    with pytest.raises(PredictorError, match="20 histories and 3 groups"):
        paper(low_threshold=0.5).fit(histories, accuracies, groups=[1, 2, 3])
    with pytest.raises(PredictorError, match="needs 5 groups or more, got 2"):
        paper(low_threshold=0.5).fit(histories, accuracies, groups=[1, 2] * 10)


def test_curves_must_be_as_many_as_runs() -> None:
    histories, accuracies, curves = runs()
    with pytest.raises(PredictorError, match=f"{RUNS} histories and 2 curves"):
        Predictor(low_threshold=0.5).fit(histories, accuracies, curves=curves[:2])
    with pytest.raises(PredictorError, match=f"{RUNS} histories and 1 populations"):
        Predictor(low_threshold=0.5).fit(histories, accuracies, populations=["a"])


def test_mixed_topologies_are_refused_and_named() -> None:
    histories, accuracies = corpus(20)
    mixed = [having(run, topology="dataflow") if i % 2 else run for i, run in enumerate(histories)]
    with pytest.raises(
        PredictorError,
        match=r"'chain' \(run 0, run 2, run 4 and 7 more\) and 'dataflow' \(run 1, run 3, run 5 and 7 more\)",
    ):
        paper(low_threshold=0.5).fit(mixed, accuracies)
    with pytest.raises(PredictorError, match=r"'dataflow' \(run 19\)"):
        paper(low_threshold=0.5).fit([*histories[:-1], mixed[-1]], accuracies)
