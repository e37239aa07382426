"""Regression, as scikit-learn cross-validates it."""

import numpy as np
import pytest
from paper_material import fold_numbers, values
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.paper.features import (
    snapshot_pairs,
)
from lightning_nndyn.evaluation.paper.published_numbers import (
    PAIRS,
    TABLE_3,
    TABLE_4,
    printed_regression,
)
from lightning_nndyn.evaluation.paper.regression import REGRESSIONS, Regression, regression

pytestmark = pytest.mark.needs("pyarrow")


def test_regression_is_what_scikit_learn_cross_validates(study: RunDataset) -> None:
    one = Regression("degree", (5, 7))
    found = values(regression(study, [one], seed=0))
    x = snapshot_pairs(study, np.arange(80), (5, 7), "degree")
    model = make_pipeline(StandardScaler(), LinearRegression())
    predicted = np.clip(cross_val_predict(model, x, study.accuracies, cv=fold_numbers(study)), 0, 1)
    error = mean_absolute_error(study.accuracies, predicted)
    assert found["all", one.name, 7.0, "mae"] == pytest.approx(error, abs=1e-5)
    assert found["all", one.name, 7.0, "r2"] == pytest.approx(r2_score(study.accuracies, predicted), abs=1e-5)


def test_pairs_are_those_of_both_tables() -> None:
    assert PAIRS == ((0, 2), (0, 3), (1, 3), (3, 5), (5, 7), (7, 9))
    assert {one.pair for one in REGRESSIONS.values()} == set(PAIRS) and len(REGRESSIONS) == 12
    assert printed_regression(("lenet5", "cifar10")) == ("4", TABLE_4["lenet5", "cifar10"])
    assert TABLE_4["lenet5", "cifar10"][5, 7] == (12.49, 0.75)
    assert printed_regression(("resnet50", "imagenet100")) == ("3", TABLE_3["resnet50", "imagenet100"])
    assert printed_regression(("lenet5", "digits")) is None and printed_regression(None) is None
