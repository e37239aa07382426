"""Rows that several test modules look at, and predictors that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
from made_up_corpora import three

from lightning_nndyn.evaluation import Row, RunDataset, compare
from lightning_nndyn.evaluation.benchmark import false_stop_rates, judged_runs, methods, scores
from lightning_nndyn.evaluation.benchmark.false_stop_rates import split_rows
from lightning_nndyn.predictor import Predictor, forest


@pytest.fixture(scope="session")
def rows(study: RunDataset) -> list[Row]:
    """A comparison of four methods."""
    with few_trees():  # before the fixture below, as it is the session's
        return list(compare(study, methods=["graph-v2", "losses", "last-accuracy", "loss-sum"], repeats=1))


@contextmanager
def few_trees() -> Iterator[pytest.MonkeyPatch]:
    """Learners of methods grow a fifth of their trees; intervals rest on a third of the draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "_TREES", 20)
        patch.setattr(methods, "_SELECTION_TREES", 8)
        patch.setattr(scores, "_RESAMPLES", 100)
        yield patch


_fit_without = judged_runs.fit_without


@cache
def _fitted(name: str, test: tuple[int, ...], seed: int) -> Any:
    runs = next(one for one in three() if one.name == name)
    return _fit_without(runs, np.array(test), seed)


_fit = RunDataset.fit
_known: dict[Any, tuple[RunDataset, Predictor]] = {}


def _fitted_once(runs: RunDataset, predictor: Predictor) -> Predictor:
    """The predictor that was fitted to the same runs before; those are kept, as the key holds their ids."""
    settings = predictor.low_share, predictor.max_epoch, predictor._seed
    key = runs.name, *map(id, runs.records), *runs.trainings, *settings
    if key not in _known:
        _known[key] = runs, _fit(runs, predictor)
    return _known[key][1]


@pytest.fixture(scope="module", autouse=True)
def small_forests() -> Iterator[None]:
    """Tests here do not depend on how good forests are, and judge the same held-out runs more than once.

    Not for the session: tests of other folders follow in the same process, and need forests as they ship.
    """
    with few_trees() as patch:
        patch.setattr(forest, "TREES", 8)
        patch.setattr(false_stop_rates, "_DRAWS", 2)
        patch.setattr(RunDataset, "fit", _fitted_once)
        for module in (judged_runs, false_stop_rates):
            shared = lambda runs, test, seed: _fitted(runs.name, tuple(test.tolist()), seed)  # noqa: E731
            patch.setattr(module, "fit_without", shared)
        yield


@cache
def _splits() -> list[Row]:
    return list(split_rows(three()[0], seed=0))


@pytest.fixture(scope="module")
def splits(small_forests: None) -> list[Row]:
    """Rates of a made-up corpus."""
    return _splits()
