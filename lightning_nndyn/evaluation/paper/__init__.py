"""The experiments of the paper's section 4 and appendix A, repeated on recorded runs.

In go the statistics of recorded runs; out come rows of numbers, which stand beside
those that the paper prints (`published_numbers`). One module for each experiment: `classification` (section
4.1), `regression` (section 4.2), `feature_analysis` (App. A.3) and `unseen_architectures` (App. A.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.paper.classification import classification
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, curves, importance
from lightning_nndyn.evaluation.paper.features import SETTINGS, Setting
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, regression
from lightning_nndyn.evaluation.paper.unseen_architectures import unseen

_Choice = TypeVar("_Choice")

PAPER_METHODS: tuple[str, ...] = (*SETTINGS, *REGRESSIONS, *ANALYSED, *CURVES)
"""Methods of the rows of the paper's experiments."""

MAIN: dict[str, Setting] = {name: SETTINGS[name] for name in ("graph-paper-svm", "graph-paper-mlp")}
"""The paper's main settings: degree centrality, plain form."""


def paper_rows(
    runs: RunDataset, *, methods: Sequence[str] | None, times: Sequence[float], seed: int
) -> Iterator[Row]:
    """Classification, regression, importance of features and feature curves, within one corpus.

    Args:
        runs: of one corpus; their raw material is not read.
        methods: names; those that are not in `PAPER_METHODS` are ignored. None for all.
        times: decision times, in epochs.
        seed: of folds, classifiers, shuffles and intervals.
    """
    if settings := _chosen(SETTINGS, methods):
        yield from classification(runs, settings, times=times, seed=seed)
    yield from regression(runs, _chosen(REGRESSIONS, methods), seed=seed)
    yield from importance(runs, _chosen(ANALYSED, methods), seed=seed)
    named = [name for name in CURVES if methods is None or name in methods]
    yield from curves(runs, named, times=times, seed=seed)


def unseen_rows(
    corpora: Sequence[RunDataset], *, methods: Sequence[str] | None, times: Sequence[float], seed: int
) -> Iterator[Row]:
    """Classification of runs of networks that no training run had, by the main settings; see `paper_rows`."""
    if settings := _chosen(MAIN, methods):
        yield from unseen(corpora, settings, times=times, seed=seed)


def _chosen(named: Mapping[str, _Choice], methods: Sequence[str] | None) -> list[_Choice]:
    return [one for name, one in named.items() if methods is None or name in methods]
