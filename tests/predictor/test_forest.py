"""The forests that ship, against scikit-learn's, and a predictor of forests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from synthetic_runs import RUNS, runs

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.predictor.forest import Forest, fit_forest
from lightning_nndyn.predictor.low_accuracy import relative_accuracies


@cache
def fitted() -> Predictor:
    histories, accuracies, curves = runs()
    return Predictor(low_threshold=0.5).fit(histories, accuracies, curves=curves, corpus="made up")


def test_forest_predicts_what_scikit_learn_does() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 9)).astype(np.float32)
    x[:, 3] = rng.integers(0, 3, size=120)  # ties at thresholds
    y = np.stack([x[:, 0] > 0, x[:, 1] + x[:, 3]], axis=1).astype(np.float64)
    grown = ExtraTreesRegressor(25, min_samples_leaf=2, max_features=0.4, random_state=5).fit(x, y)
    forest = fit_forest(x, y, trees=25, seed=5)
    new = np.concatenate([x, rng.normal(size=(300, 9)).astype(np.float32)])
    np.testing.assert_allclose(forest(new), grown.predict(new), atol=1e-6)
    np.testing.assert_allclose(forest.importances, grown.feature_importances_, atol=1e-6)
    again = Forest.from_arrays(forest.to_arrays())
    np.testing.assert_array_equal(again(new), forest(new))


def test_a_forest_that_an_older_release_saved_predicts_what_it_did() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    forest = fit_forest(x, x[:, :2] ** 2, trees=5, seed=1)
    arrays = forest.to_arrays()
    right, node = arrays.pop("right"), np.arange(len(forest.right), dtype=np.int32)
    both = np.stack([node + 1, node + right], axis=1)
    children = np.where((forest.feature == -1)[:, None], 0, both)  # it kept 0 for the children of a leaf
    older = Forest.from_arrays({**arrays, "children": children.astype(np.int32)})
    np.testing.assert_array_equal(older.right, forest.right)
    np.testing.assert_array_equal(older(x), forest(x))


def test_curves_help_where_they_are_given() -> None:
    scores = {(score["time"], score["kind"]): score["mae"] for score in fitted().card["scores"]}
    assert fitted().reads_curves and fitted().reads_layers
    assert scores[3.0, "fused"] < 0.7 * scores[3.0, "weights"]


def test_a_verdict_says_what_it_was_given() -> None:
    histories, _, curves = runs(seed=1)
    verdicts: list[Verdict] = [fitted().predict(histories[0], curve=curve) for curve in (None, curves[0])]
    assert [verdict.kind for verdict in verdicts] == ["weights", "fused"]
    assert all(0 <= (verdict.relative_accuracy or 0) <= 1 for verdict in verdicts)
    short = replace(curves[0], accuracies=curves[0].accuracies[:1])
    assert fitted().predict(histories[0], curve=short).epoch == 1.0
    blank = Predictor(low_threshold=0.5, max_epoch=0.5).fit(*runs()[:2])
    with pytest.raises(PredictorError, match="fitted without curves"):
        blank.predict(histories[0], curve=curves[0])


def test_a_share_of_the_best_takes_the_place_of_a_threshold() -> None:
    histories, accuracies, curves = runs()
    worse = [accuracy / 3 for accuracy in accuracies]  # the same runs, on data where less can be reached
    names = ["a"] * RUNS + ["b"] * RUNS
    both = Predictor(low_share=0.5, max_epoch=1).fit(
        histories * 2, accuracies + worse, curves=curves * 2, populations=names, groups=[*range(RUNS)] * 2
    )
    shares = relative_accuracies(np.array(accuracies + worse), np.array(names), np.full(2 * RUNS, 0.1))
    assert both.card["low"] == (shares < 0.5).sum() > 0
    assert str(both.low_rule) == "below 50% of the best" and both.low_threshold is None
    for wrong in ({}, {"low_threshold": 0.5, "low_share": 0.5}):
        with pytest.raises(PredictorError, match="low_threshold, an accuracy, or low_share"):
            Predictor(**wrong)
    with pytest.raises(PredictorError, match="low_share=50"):
        Predictor(low_share=50)


def test_refit_is_the_same_to_the_bit_and_so_is_what_was_saved(tmp_path: Any) -> None:
    histories, accuracies, curves = runs(count=50)
    one, two = (
        Predictor(low_threshold=0.5, max_epoch=1).fit(histories, accuracies, curves=curves) for _ in range(2)
    )
    assert one.card == two.card
    files = []
    for number, predictor in enumerate((one, two)):
        predictor.save(tmp_path / str(number))
        files.append((tmp_path / f"{number}.skops").read_bytes())
    assert files[0] == files[1]
    loaded = Predictor.load(tmp_path / "0")
    for curve in (None, curves[3]):
        assert loaded.predict(histories[3], curve=curve) == one.predict(histories[3], curve=curve)
