"""Features, the learner that all methods share, and formulas of a run's own learning curve."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lightning_nndyn.corpus import RunRecord
from lightning_nndyn.evaluation import RunDataset
from lightning_nndyn.evaluation.benchmark.compare import padded
from lightning_nndyn.evaluation.benchmark.methods import (
    FEATURES,
    NormalScoresSVR,
    curves,
    extrapolate,
    graph_v2,
    last_accuracy,
    learned_predictions,
    loss_sum,
    losses,
    one_epoch,
    power_law,
)


@pytest.mark.parametrize("method", FEATURES)
@pytest.mark.parametrize("time", [1 / 16, 1.0, 2.0])
def test_inputs_read_no_later_than_they_may(records: list[RunRecord], method: str, time: float) -> None:
    """A record cut off at the time, as a live run is, gives the same row."""
    record = records[-4]
    until = sum(snapshot.epoch <= time for snapshot in record.snapshots)
    cut = replace(
        record,
        snapshots=record.snapshots[:until],
        losses=record.losses[:until],
        weights=record.weights[:until],
        curve={name: values[: int(time)] for name, values in record.curve.items()},
    )
    row = list(FEATURES[method](record, time))
    assert row == list(FEATURES[method](cut, time))
    assert np.isfinite(row).all()


def test_rows_of_a_method_have_one_length(study: RunDataset) -> None:
    for name, read in FEATURES.items():
        assert len({len(read(record, 1 / 4)) for record in study.records}) == 1, name
    assert len(losses(study.records[0], 1 / 16)) == len(losses(study.records[0], 3.0))
    assert len(curves(study.records[0], 1.0)) == len(curves(study.records[0], 3.0))


def test_a_power_law_is_continued_exactly() -> None:
    curve = [0.8 - 0.6 * epoch**-1.0 for epoch in range(1, 8)]
    assert extrapolate(curve, 50) == pytest.approx(0.8 - 0.6 / 50, abs=1e-6)
    assert extrapolate([0.5, 0.4, 0.3], 50) == 0.3  # falls: nothing to continue
    assert extrapolate([0.1, 0.1, 0.1], 50) == pytest.approx(0.1)


def test_formulas_read_no_later_than_they_may(records: list[RunRecord]) -> None:
    record = records[-4]
    curve = record.curve["test_accuracy"]
    assert math.isnan(last_accuracy(record, 0.5)) and math.isnan(power_law(record, 0.25))
    assert last_accuracy(record, 2.0) == curve[1] and one_epoch(record, 3.0) == curve[0]
    assert loss_sum(record, 0.25) == -record.losses[3][0]
    assert loss_sum(record, 2.0) == pytest.approx(-sum(record.curve["train_loss"][:2]))
    assert power_law(record, 2.0) == max(curve[:2])


def test_a_learner_learns_and_repeats_itself(study: RunDataset) -> None:
    x = padded([graph_v2(record, 1.0) for record in study.records])
    first, again = (learned_predictions(x[::2], study.accuracies[::2], x[1::2], 0) for _ in range(2))
    assert (first == again).all()
    error = np.abs(first - study.accuracies[1::2]).mean()
    assert error < 0.8 * np.abs(np.median(study.accuracies[::2]) - study.accuracies[1::2]).mean()


def test_normal_scores_are_those_of_scikit_learn_to_the_last_bit() -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer
    from sklearn.svm import SVR

    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)) * [1, 1e-8, 1e3, 0, 1]
    x[:, 4] = x[:, 4].round()  # some are equal
    new = np.concatenate([2 * random.normal(size=(30, 5)) * [1, 1e-8, 1e3, 1, 1], x[:5]])
    ours = NormalScoresSVR(40, seed=1).fit(x, x[:, 0])
    plain = QuantileTransformer(n_quantiles=40, output_distribution="normal", random_state=1)
    theirs = make_pipeline(plain, SVR(C=0.5, epsilon=0.02)).fit(x, x[:, 0])
    for rows in (x, new):
        np.testing.assert_array_equal(ours.scores(rows), plain.transform(rows))
        np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows))
