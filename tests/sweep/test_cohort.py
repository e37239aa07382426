"""A cohort's numbers are their ranks: no unit matters, nor the order of the runs, nor what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from cohorts import random_runs as runs
from scipy.stats import norm, rankdata

from lightning_nndyn.sweep import Reading, SweepRun
from lightning_nndyn.sweep.cohort import INPUTS, cohort_table, has_diverged, known_scores, normal_scores


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, INPUTS.index(name)]


@pytest.mark.parametrize("levels", [3, 1000])
def test_normal_scores_are_those_of_mean_ranks(levels: int) -> None:
    table = np.random.default_rng(0).integers(0, levels, (50, 7)).astype(float)
    expected = norm.ppf((rankdata(table, axis=0) - 0.5) / len(table))
    np.testing.assert_allclose(normal_scores(table), expected, atol=1e-12)


def test_what_is_not_known_stands_in_the_middle() -> None:
    scores = known_scores(np.array([[1.0], [np.nan], [3.0], [2.0]]))[:, 0]
    assert scores[1] == 0 and list(np.argsort(scores)) == [0, 1, 3, 2]
    assert not known_scores(np.full((3, 2), np.nan)).any()


def test_no_unit_matters() -> None:
    some = runs(12)
    scaled = [
        SweepRun(
            {"model/learning_rate": 100 * run.params["lr"], "model.optimizer": run.params["optimizer"]},
            [Reading(1.0, [np.exp(w) for w in one.weights], [3 * c + 7 for c in one.curve])],
        )
        for run in some
        for one in run.readings
    ]
    np.testing.assert_allclose(cohort_table(some, 1.0), cohort_table(scaled, 1.0))


def test_a_learning_rate_is_compared_with_those_of_the_same_optimizer() -> None:
    rates = [("sgd", 0.1), ("sgd", 1.0), ("adam", 1e-3), ("adam", 1e-2)]
    table = cohort_table([SweepRun({"opt": o, "lr": r}, [Reading(1.0)]) for o, r in rates], 1.0)
    same = column(table, "learning_rate:same_optimizer")
    assert same[0] == same[2] < 0 < same[1] == same[3]
    assert list(np.argsort(column(table, "learning_rate"))) == [2, 3, 0, 1]


@pytest.mark.parametrize(("length", "known"), [(0, ()), (2, (0, 1)), (3, (2, 3, 4)), (5, (0, 1, 2, 3, 4))])
def test_a_curve_of_losses_or_of_a_metric_fills_its_own_columns(length: int, known: tuple[int, ...]) -> None:
    some = [SweepRun({}, [Reading(1.0, (), tuple(np.arange(length) + i))]) for i in range(4)]
    first = INPUTS.index("loss:mean")
    filled = np.flatnonzero(cohort_table(some, 1.0)[:, first : first + 5].any(axis=0))
    assert tuple(filled) == known


def test_weights_count_as_long_as_recorded_sweeps_have_them() -> None:
    early, late = cohort_table(runs(8, 4.0), 4.0), cohort_table(runs(8, 5.0), 5.0)
    assert column(early, "has_weights").all() and not column(late, "has_weights").any()
    assert not column(late, "distance:mean:size:start").any()


def test_readings_of_another_graph_are_not_compared() -> None:
    some = [*runs(4), SweepRun({}, [Reading(1.0, (1.0, 2.0), (np.nan, 1.0))])]
    assert np.isfinite(cohort_table(some, 1.0)).all()
    assert column(cohort_table(some, 1.0), "distance:mean:size:start")[-1] == 0


def test_a_run_without_any_number_has_diverged_where_others_have_some() -> None:
    nothing = SweepRun({}, [Reading(1.0)])
    assert list(has_diverged([*runs(2), nothing], 1.0)) == [False, False, True]
    assert not has_diverged([nothing, nothing], 1.0).any()
