"""Recorded runs as predictors judge them: verdicts at all times, and what became of the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.evaluation.benchmark.compare import folds
from lightning_nndyn.evaluation.dataset import Indices, RunDataset
from lightning_nndyn.evaluation.fit_corpora import new_predictor
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.predictor.policy import Policy

METHODS = {"weights": "graph-v2", "fused": "fused"}
"""Names of the methods in rows, by the kind of models that the predictors use."""

UNIVERSAL = "universal"
"""Name of the union of all corpora."""

RATE = 0.05
"""False-stop rate that all policies are calibrated for, the callback's default."""


class JudgedRun(NamedTuple):
    """A run with a predictor's verdicts.

    Attributes:
        verdicts: earliest first.
        relative: share of the best accuracy of the population.
        low: whether the run ended low by the predictor's rule.
        stopped: whether the predictor's policy stops it.
    """

    verdicts: Sequence[Verdict]
    relative: float
    low: bool
    stopped: bool


def held_out_folds(runs: RunDataset, seed: int) -> list[Indices]:
    """Five sets of runs, by their indices; all runs of a configuration are in one of them."""
    # Numbered in the order of their text, unlike `RunDataset.groups`: published rows rest on these folds.
    return folds(np.unique(runs.configurations, return_inverse=True)[1], seed)


def fit_without(runs: RunDataset, test: Indices, seed: int) -> Predictor:
    """A predictor of the kind that is shipped, fitted to all runs but those at `test`."""
    train = np.setdiff1d(np.arange(len(runs.records)), test)
    return runs.take(train).fit(new_predictor(runs, seed=seed))


def judge(predictor: Predictor, runs: RunDataset, kind: str) -> list[JudgedRun]:
    """Ask a predictor for a verdict on each run at each time that it knows.

    Args:
        predictor: fitted to other runs.
        runs: to judge.
        kind: "weights", or "fused" for models that read the learning curve as well.
    """
    policy = Policy.from_predictor(predictor, max_false_stop_rate=RATE)
    share, threshold = predictor.low_share, predictor.low_threshold
    low = runs.relative < share if share is not None else runs.accuracies < (threshold or 0)
    judged = []
    for index in range(len(runs.records)):
        verdicts = _verdicts(predictor, runs, index, kind)
        stopped = policy.decide(verdicts).stop
        judged.append(JudgedRun(verdicts, float(runs.relative[index]), bool(low[index]), stopped))
    return judged


def _verdicts(predictor: Predictor, runs: RunDataset, index: int, kind: str) -> list[Verdict]:
    history, training = runs.histories[index], runs.trainings[index]
    curve = runs.curves[index] if kind == "fused" else None
    verdicts: list[Verdict] = []
    for end in range(2, len(history) + 1):
        if history[end - 1].epoch > predictor.times[-1]:
            break
        try:
            verdict = predictor.predict(history[:end], curve=curve, training=training)
        except PredictorError:  # the predictor has no model for this time
            continue
        if verdict.diverged or not verdicts or verdict.epoch > verdicts[-1].epoch:
            verdicts.append(verdict)
        if verdict.diverged:
            break
    return verdicts
