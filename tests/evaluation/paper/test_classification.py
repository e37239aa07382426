"""Classification, as scikit-learn cross-validates it."""

import math

import numpy as np
import pytest
from paper_material import fold_numbers, statistics, values, with_statistics
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.paper.classification import classification, fitted
from lightning_nndyn.evaluation.paper.features import (
    SETTINGS,
    Setting,
    signatures,
)
from lightning_nndyn.evaluation.paper.regression import Regression, regression

pytestmark = pytest.mark.needs("pyarrow")


def test_classification_is_what_scikit_learn_cross_validates(study: RunDataset) -> None:
    rows = list(classification(study, [Setting("svm", "eigenvector")], times=[7.0], seed=0))
    x = signatures(study, np.arange(80), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "eigenvector", "plain")
    model = make_pipeline(StandardScaler(), SVC())
    decided = cross_val_predict(model, x, study.low, cv=fold_numbers(study), method="decision_function")
    found = values(rows)
    name = "graph-paper-svm-eigenvector-plain"
    assert found["all", name, 7.0, "accuracy"] == pytest.approx(((decided > 0) == study.low).mean(), abs=1e-5)
    assert found["all", name, 7.0, "auc"] == pytest.approx(roc_auc_score(study.low, decided), abs=1e-5)
    own = study.trainable
    right = ((decided > 0) == study.low)[own].mean()
    assert found["trainable", name, 7.0, "accuracy"] == pytest.approx(right, abs=1e-5)
    assert found["all", "majority", 7.0, "accuracy"] == pytest.approx(study.low.mean())
    assert all(row.low <= row.value <= row.high for row in rows)


def test_where_all_are_of_one_class_all_others_are_called_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3))
    for low in (True, False):
        decided = fitted("svm", x, np.full(6, low), 0)(x)
        assert ((decided > 0) == low).all()


def test_runs_that_explode_stay_in_and_break_nothing(study: RunDataset) -> None:
    """Single-precision weights end at 3e38; skewness and kurtosis stay small."""
    size = np.array([1e38, 1e38, 1e38, 9.0, 99.0] * 2)
    exploding = with_statistics(
        study,
        lambda place, epoch: (
            size if place % 9 == 0 and epoch >= 1 else statistics(study.records[place], epoch)
        ),
    )
    settings = [SETTINGS["graph-paper-svm"], SETTINGS["graph-paper-mlp"]]
    rows = list(classification(exploding, settings, times=[3.0], seed=0))
    rows += regression(exploding, [Regression("degree", (1, 3))], seed=0)
    own = [row for row in rows if row.band == "all"]
    assert len(own) == 7 and {row.runs for row in own} == {80}
    assert all(math.isfinite(row.value) for row in own)
    assert values(own)["all", "graph-paper-regression-degree-1-3", 3.0, "mae"] < 1
