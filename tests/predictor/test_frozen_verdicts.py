"""Predictions do not change with the code: shipped predictors, and models that an older version saved."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

import frozen_verdicts as frozen
import numpy as np
import pytest
from synthetic_runs import history

from lightning_nndyn.errors import NNDynWarning
from lightning_nndyn.predictor import list_predictors, load_predictor

AFTER_A_REFIT = "were the predictors fitted anew? Then run: python tests/support/frozen_verdicts.py"
saved_verdicts = cache(frozen.frozen_verdicts)


def assert_same(verdict: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for the last bits, which another processor rounds in another way."""
    for name, value in expected.items():
        close = pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
        assert verdict[name] == close, f"{name}: {AFTER_A_REFIT}"


@pytest.mark.parametrize("name", list_predictors())
def test_shipped_predictors_predict_what_they_did(name: str) -> None:
    verdicts, expected = frozen.verdicts_of(name), saved_verdicts()[name]
    assert verdicts.keys() == expected.keys()
    for one, verdict in verdicts.items():
        assert_same(verdict, expected[one])


def test_frozen_verdicts_tell_runs_apart() -> None:
    """The test above can fail: the runs are low and good, known, unknown and diverged."""
    assert saved_verdicts().keys() == set(list_predictors())
    verdicts = [verdict for by_run in saved_verdicts().values() for verdict in by_run.values()]
    for field, least in (("in_domain", 2), ("diverged", 2), ("kind", 2), ("p_low", 400)):
        assert len({verdict[field] for verdict in verdicts}) >= least


@pytest.mark.parametrize("name", ["paper-svm", "paper-mlp-linear"])
def test_the_papers_models_that_an_older_version_saved_predict_what_they_did(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NNDynWarning)  # another scikit-learn is installed
        predictor = load_predictor(frozen.FOLDER / name)
    runs = [history(np.random.default_rng(1), speed) for speed in (1e-5, 1e-3, 1e-1)]
    expected = json.loads((frozen.FOLDER / "paper_verdicts.json").read_text())[name]
    same_version = predictor.card["versions"]["scikit-learn"] == metadata.version("scikit-learn")
    for run, before in zip(runs, expected, strict=True):
        verdict = asdict(predictor.predict(run[:2]))
        assert verdict["p_low"] == pytest.approx(before["p_low"], abs=0.01)
        if same_version:
            assert_same(verdict, before)
