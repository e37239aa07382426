"""Metrics are those of SciPy and scikit-learn, with intervals."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from lightning_nndyn.evaluation.benchmark.scores import (
    Predictions,
    accuracy,
    auc,
    bootstrapped,
    mae,
    r2,
    spearman,
)


def test_scores_are_those_of_scipy_and_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, predicted = random.random(50), random.random(50).round(1)
    runs = Predictions(truth, predicted, truth < 0.4, np.full(50, 0.4))
    assert mae(runs) == pytest.approx(mean_absolute_error(truth, predicted))
    assert r2(runs) == pytest.approx(r2_score(truth, predicted))
    assert spearman(runs) == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert auc(runs) == pytest.approx(roc_auc_score(truth < 0.4, -predicted))
    assert accuracy(runs) == pytest.approx(((predicted < 0.4) == (truth < 0.4)).mean())


def test_scores_where_nothing_varies() -> None:
    same, two = np.full(4, 0.5), np.array([0.1, 0.2, 0.3, 0.4])
    assert spearman(Predictions(two, same, two < 0.25, same)) == 0
    assert math.isnan(spearman(Predictions(same, two, two < 0.25, same)))
    assert math.isnan(auc(Predictions(two, two, two < 0, same)))


def test_an_interval_holds_the_value_and_narrows_with_runs() -> None:
    random = np.random.default_rng(1)
    widths = []
    for count in (20, 320):
        truth = random.random(count)
        runs = Predictions(truth, truth + random.normal(0, 0.1, count), truth < 0.4, np.full(count, 0.4))
        score = bootstrapped(mae, runs, np.arange(count), 0)
        assert score.low < score.value < score.high
        widths.append(score.high - score.low)
    assert widths[1] < widths[0] / 2
