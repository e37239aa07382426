"""A run goes on where it is among the best of those that were read at the same time."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.sweep import ChanceRule, CohortRule, Reading, Standing, SweepPredictor, SweepRun


def run(*values: float, times: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0), **settings: Any) -> SweepRun:
    readings = [Reading(time, (), (value, value, 0.0)) for time, value in zip(times, values, strict=False)]
    return SweepRun({}, readings, **{"planned_epochs": 16.0, **settings})


OTHERS = [run(0.1 * i, stopped=True) for i in range(10)]


def test_the_third_run_is_the_first_to_be_compared() -> None:
    assert not CohortRule(0.05).decide(run(0.0), OTHERS[5:6]).stop
    decision = CohortRule(0.05).decide(run(0.0), OTHERS[5:7])
    assert decision.stop and decision.epoch == 1.0 and decision.reason.startswith("rank 3 of 3 runs")


@pytest.mark.parametrize(("value", "rank"), [(2.0, 1), (0.85, 2), (0.05, 10), (-1.0, 11)])
def test_a_rank_counts_the_runs_that_stand_higher(value: float, rank: int) -> None:
    standing = Standing.of(run(value), OTHERS)
    assert standing is not None and standing.rank == rank and standing.num_compared == 11
    limit = CohortRule(0.1).limit(1 / 16, 11)
    assert CohortRule(0.1).decide(run(value), OTHERS).stop == (rank > limit)


def test_fewer_go_on_the_later_it_is() -> None:
    limits = [CohortRule(0.05).limit(progress, 100) for progress in (0.001, 0.01, 0.1, 0.5, 1.0, 2.0)]
    assert limits == sorted(limits, reverse=True) and limits[0] > 70 and limits[-2:] == [5, 5]
    assert CohortRule(0.05).limit(1.0, 3) == 1


def test_a_run_that_stopped_earlier_counts_as_worse() -> None:
    half = [run(0.5, 0.1 * i) for i in range(4)]
    few, many = Standing.of(run(0.5, 0.25), half), Standing.of(run(0.5, 0.25), [*half, *OTHERS])
    assert few is not None and many is not None and few.rank == many.rank
    assert (few.num_begun, many.num_begun) == (5, 15)
    assert few.chance_among_best(0.25) < many.chance_among_best(0.25)


def test_one_decision_a_rung() -> None:
    times = (1.0, 2.0, 3.0, 4.0)
    others = [run(*[0.1 * i] * 4, times=times) for i in range(5)]
    decided = [Standing.of(run(*[0.2] * n, times=times), others) is not None for n in (1, 2, 3, 4)]
    assert decided == [True, True, False, True]


def test_the_length_of_finished_runs_stands_for_a_plan_that_is_not_known() -> None:
    unknown, planned = run(0.05, planned_epochs=None), run(0.05, planned_epochs=8.0)
    assert not CohortRule().decide(unknown, OTHERS).stop
    finished = [*OTHERS, run(*[0.5] * 4, value=0.5)]
    assert CohortRule().decide(unknown, finished) == CohortRule().decide(planned, finished)
    assert CohortRule().decide(unknown, finished).stop


def test_a_chance_stops_the_hopeless_alone() -> None:
    rule = ChanceRule(max_chance=0.05)
    others = [run(0.5 + 0.01 * i, 0.6, 0.7 + 0.01 * i) for i in range(30)]
    last, first = rule.decide(run(0.1, 0.1, 0.1), others), rule.decide(run(0.9, 0.9, 0.9), others)
    assert last.stop and not first.stop and "to end among the best 25%" in last.reason
    assert not rule.decide(run(0.1, 0.1, 0.1), others[:3]).stop  # of so few nothing is known


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_is_between_0_and_1(keep: float) -> None:
    with pytest.raises(PredictorError, match="keep="):
        SweepPredictor(keep=keep)


def test_a_sweeps_predictor_decides_by_it_from_the_start() -> None:
    predictor = SweepPredictor(keep=0.05).unfitted(0.5)
    assert predictor.keep == 0.05 and predictor.decides and not SweepPredictor().decides
    assert not predictor.fit([]).decide(run(0.0)).stop
    decision = predictor.fit(OTHERS).decide(run(0.0))
    assert decision.stop and decision.epoch == 1.0 and not predictor.ready
    assert not predictor.decide(run(1.0)).stop
    # What every process has from its tuner is not sent along.
    assert not pickle.loads(pickle.dumps(predictor)).decide(run(0.0)).stop
