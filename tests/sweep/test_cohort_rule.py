"""A run goes on where it is among the best of those that were read at the same time."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.sweep import CohortRule, Reading, SweepPredictor, SweepRun


def run(*values: float, times: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0), **settings: Any) -> SweepRun:
    readings = [Reading(time, (), (value, value, 0.0)) for time, value in zip(times, values, strict=False)]
    return SweepRun({}, readings, **{"planned_epochs": 16.0, **settings})


OTHERS = [run(0.1 * i, stopped=True) for i in range(10)]


def test_the_third_run_is_the_first_to_be_compared() -> None:
    rule = CohortRule(0.05)
    assert rule.standing(run(0.0), OTHERS[5:6]) is None
    standing = rule.standing(run(0.0), OTHERS[5:7])
    assert standing is not None and (standing.rank, standing.num_compared) == (3, 3) and standing.stop


@pytest.mark.parametrize(("value", "rank"), [(2.0, 1), (0.85, 2), (0.05, 10), (-1.0, 11)])
def test_a_rank_counts_the_runs_that_stand_higher(value: float, rank: int) -> None:
    standing = CohortRule(0.1).standing(run(value), OTHERS)
    assert standing is not None and standing.rank == rank
    assert standing.stop == (rank > standing.limit)
    assert standing.decision.stop == standing.stop and f"rank {rank} of 11 runs" in standing.decision.reason


def test_fewer_go_on_the_later_it_is() -> None:
    others = [run(*[0.1 * i] * 4) for i in range(20)]
    limits = [CohortRule(0.05).standing(run(*[1.0] * n), others) for n in (1, 2, 3, 4)]
    found = [standing.limit for standing in limits if standing is not None]
    assert found == sorted(found, reverse=True) and len(set(found)) == 4 and found[-1] >= 1


def test_a_run_that_stopped_earlier_counts_as_worse() -> None:
    rule, half = CohortRule(0.05), [run(0.5, 0.1 * i) for i in range(4)]
    few = rule.standing(run(0.5, 0.25), half)
    many = rule.standing(run(0.5, 0.25), [*half, *OTHERS])
    assert few is not None and many is not None and few.rank == many.rank and few.limit < many.limit


def test_one_decision_a_rung() -> None:
    times = (1.0, 2.0, 3.0, 4.0)
    others = [run(*[0.1 * i] * 4, times=times) for i in range(5)]
    decided = [CohortRule().standing(run(*[0.2] * n, times=times), others) is not None for n in (1, 2, 3, 4)]
    assert decided == [True, True, False, True]


def test_the_length_of_finished_runs_stands_for_a_plan_that_is_not_known() -> None:
    unknown = run(0.5, planned_epochs=None)
    assert CohortRule().standing(unknown, OTHERS) is None
    finished = run(*[0.5] * 4, value=0.5)
    standing = CohortRule().standing(unknown, [*OTHERS, finished])
    planned = CohortRule().standing(run(0.5, planned_epochs=8.0), [*OTHERS, finished])
    assert standing is not None and standing == planned


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
