"""The paper's models: their features against the paper, their estimators, and `PaperPredictor`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import START, TIMES, corpus, history, paper, snapshot

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import PaperPredictor, Predictor, load_predictor
from lightning_nndyn.predictor.history import index_by_epoch
from lightning_nndyn.predictor.paper_models import Features, PaperFamily, decision_values, fit_classifier
from lightning_nndyn.signature.relative import MOVEMENT_FLOOR, SIGNED_UNIT
from lightning_nndyn.signature.snapshot import STATISTICS, Snapshot
from lightning_nndyn.signature.temporal import temporal


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


@pytest.mark.parametrize("form", ["plain", "linear", "exponential"])
@pytest.mark.parametrize("features", ["degree", "eigenvector", "both"])
def test_raw_features_are_the_papers(form: Any, features: Any) -> None:
    """All snapshots one after the other, epoch 0 first, in the temporal form asked for."""
    snapshots = run()
    chosen = [i for i, name in enumerate(STATISTICS) if features in ("both", name.split("_")[0])]
    table = np.array([snapshot.statistics for snapshot in snapshots])[:, chosen]
    read = Features(features, form, "raw")
    np.testing.assert_allclose(
        read.all_snapshots(index_by_epoch(snapshots), TIMES), temporal(table, form).ravel(), rtol=1e-12
    )
    np.testing.assert_allclose(
        read.two_snapshots(index_by_epoch(snapshots), TIMES), temporal(table, form)[-2:].ravel(), rtol=1e-12
    )


def test_relative_features_are_movements() -> None:
    """Ten times the movement adds log(10) to its sizes, whatever the statistic's size; its sign is kept."""
    slow, fast, back = (
        Features().rows(index_by_epoch([snapshot(0, START), snapshot(1, START + factor * START)]), [1.0])
        for factor in (1e-3, 1e-2, -1e-2)
    )
    assert slow.shape == (1, 30)
    large = START > 1  # below 1 the arcsinh of the statistic itself is linear, and movement is absolute
    for part in (1, 2):
        gain = (fast - slow)[0, 10 * part : 10 * part + 10]
        np.testing.assert_allclose(gain[large], np.log(10), rtol=0.05)
    assert (fast[0, :10][large] > 0).all()
    assert (back[0, :10][large] < 0).all()


def test_relative_features_tell_the_last_step_from_the_whole_way() -> None:
    there_and_back = index_by_epoch([snapshot(0, START), snapshot(1, 2 * START), snapshot(2, START)])
    signed, whole, last = Features().rows(there_and_back, [1.0, 2.0])[1].reshape(3, 10)
    np.testing.assert_array_equal(signed, 0.0)
    np.testing.assert_allclose(whole, np.log(MOVEMENT_FLOOR))
    assert (last > whole + 5).all()


def test_relative_features_stay_bounded_while_a_run_diverges() -> None:
    exploding = index_by_epoch([snapshot(0, START), snapshot(1, START * 1e30)])
    largest = np.abs(Features().rows(exploding, [1.0])).max()
    assert largest < max(np.arcsinh(100 / SIGNED_UNIT), -np.log(MOVEMENT_FLOOR))


def test_each_prefix_of_all_times_and_of_the_epoch_ends_is_read() -> None:
    assert set(PaperFamily("svm", "svr", Features(), 0).series([0.25, 1.0, 2.0, 0.5])) == {
        (0.25,),
        (0.25, 0.5),
        (0.25, 0.5, 1.0),
        (0.25, 0.5, 1.0, 2.0),
        (1.0,),
        (1.0, 2.0),
    }


def test_mlp_decision_values_are_the_logits_of_its_probabilities() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    model = fit_classifier("mlp", x, x[:, 0] + rng.normal(size=60) > 0, seed=0)
    p = model.predict_proba(x)[:, 1]
    np.testing.assert_allclose(decision_values(model, x), np.log(p / (1 - p)), atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"classifier": "mlp", "max_epoch": 0.5},
        {"features": "degree", "regressor": "linear", "scale": "raw"},
        {"features": "eigenvector", "form": "exponential"},
        {"form": "linear", "regressor": "linear"},
    ],
)
def test_every_setting_tells_good_from_low(settings: Any) -> None:
    histories, accuracies = corpus(80, noise=0.2)
    predictor = paper(low_threshold=0.5, **settings).fit(histories, accuracies)
    fast, slow = predictor.predict(run(0.08)), predictor.predict(run(2e-5))
    assert fast.p_low < 0.5 < slow.p_low
    assert 0 <= slow.predicted_accuracy < fast.predicted_accuracy <= 1


@pytest.mark.parametrize("classifier", ["svm", "mlp"])
def test_refit_is_the_same_to_the_bit(classifier: Any) -> None:
    one, two = (
        paper(low_threshold=0.5, classifier=classifier, max_epoch=0.5).fit(*corpus(40)) for _ in range(2)
    )
    assert one.card == two.card
    assert one.predict(run()) == two.predict(run())


@pytest.mark.parametrize(
    "wrong",
    [{"features": "pagerank"}, {"classifier": "tree"}, {"regressor": "x"}, {"form": "x"}, {"scale": "x"}],
)
def test_unknown_choice_is_refused(wrong: Any) -> None:
    with pytest.raises(PredictorError, match=next(iter(wrong))):
        paper(low_threshold=0.5, **wrong)


# -- the arguments that Predictor had


@pytest.mark.parametrize("wrong", [{"classifier": "svm"}, {"regressor": "linear"}])
def test_a_forest_does_both_or_neither(wrong: Any) -> None:
    with (
        pytest.warns(DeprecationWarning, match="PaperPredictor"),
        pytest.raises(PredictorError, match="one forest does both"),
    ):
        Predictor(low_threshold=0.5, **wrong)


def test_predictor_takes_the_papers_arguments_for_one_more_release(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="classifier, regressor have moved to .*PaperPredictor"):
        old = Predictor(low_threshold=0.5, classifier="svm", regressor="svr", max_epoch=0.5)
    new = PaperPredictor(low_threshold=0.5, regressor="svr", features="both", scale="relative", max_epoch=0.5)
    assert type(old) is PaperPredictor
    assert old.fit(*corpus(40)).predict(run()) == new.fit(*corpus(40)).predict(run())
    assert old.card == new.card
    old.save(tmp_path / "old")
    loaded = load_predictor(tmp_path / "old")
    assert type(loaded) is PaperPredictor and loaded.predict(run()) == old.predict(run())


def test_a_forest_may_still_be_asked_for_by_name() -> None:
    with pytest.warns(DeprecationWarning):
        forest = Predictor(low_threshold=0.5, classifier="forest", regressor="forest", features="both")
    assert type(forest) is Predictor and forest.reads_layers
    with pytest.raises(TypeError, match="unexpected keyword argument 'clasifier'"):
        Predictor(low_threshold=0.5, clasifier="svm")
    with pytest.warns(DeprecationWarning), pytest.raises(PredictorError, match="features='pagerank'"):
        Predictor(low_threshold=0.5, features="pagerank")


def test_the_defaults_are_the_papers() -> None:
    card = PaperPredictor(low_threshold=0.5, max_epoch=1).fit(*corpus(40)).card
    settings = {name: card[name] for name in ("classifier", "regressor", "features", "form", "scale")}
    assert settings == {
        "classifier": "svm",
        "regressor": "linear",
        "features": "degree",
        "form": "plain",
        "scale": "raw",
    }
