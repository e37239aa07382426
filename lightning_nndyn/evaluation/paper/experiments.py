"""All that the paper tabulates and draws, measured on corpora: names, and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from lightning_nndyn.evaluation.benchmark.compare import Row
from lightning_nndyn.evaluation.benchmark.study import Study
from lightning_nndyn.evaluation.paper.classification import classification
from lightning_nndyn.evaluation.paper.feature_analysis import ANALYSED, CURVES, curves, importance
from lightning_nndyn.evaluation.paper.features import SETTINGS, Setting
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, regression
from lightning_nndyn.evaluation.paper.unseen_architectures import unseen

_Choice = TypeVar("_Choice")

PAPER_METHODS: tuple[str, ...] = (*SETTINGS, *REGRESSIONS, *ANALYSED, *CURVES)
"""Methods of the rows that stand beside the paper's tables and figures."""

MAIN: dict[str, Setting] = {name: SETTINGS[name] for name in ("graph-paper-svm", "graph-paper-mlp")}
"""The paper's main settings: degree, plain."""


def paper_rows(
    study: Study, *, methods: Sequence[str] | None, times: Sequence[float], seed: int, jobs: int
) -> Iterator[Row]:
    """Classification, regression, importance of features and their curves, within one corpus.

    Args:
        study: the runs; their raw material is not read.
        methods: names, those that are not in `PAPER_METHODS` mean nothing here; None for all.
        times: of decision.
        seed: of folds, classifiers, shuffles and intervals.
        jobs: processes.
    """
    settings = _chosen(SETTINGS, methods)
    if settings:
        yield from classification(study, settings, times=times, seed=seed, jobs=jobs)
    yield from regression(study, _chosen(REGRESSIONS, methods), seed=seed, jobs=jobs)
    yield from importance(study, _chosen(ANALYSED, methods), seed=seed, jobs=jobs)
    named = [name for name in CURVES if methods is None or name in methods]
    yield from curves(study, named, times=times, seed=seed)


def unseen_rows(
    studies: Sequence[Study], *, methods: Sequence[str] | None, times: Sequence[float], seed: int, jobs: int
) -> Iterator[Row]:
    """Classification of runs of networks that no training run had, by the main settings."""
    settings = _chosen(MAIN, methods)
    if settings:
        yield from unseen(studies, settings, times=times, seed=seed, jobs=jobs)


def _chosen(named: Mapping[str, _Choice], methods: Sequence[str] | None) -> list[_Choice]:
    return [one for name, one in named.items() if methods is None or name in methods]
