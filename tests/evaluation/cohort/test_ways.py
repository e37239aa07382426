"""Ways of stopping a recorded sweep: what is trained, in which order, and what that spends and misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from cohorts import made_up_sweep

from lightning_nndyn.evaluation.cohort import fit
from lightning_nndyn.evaluation.cohort.outcome import BUDGETS, Outcome
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.evaluation.cohort.ways import (
    OTHER_DEFAULTS,
    OUR_DEFAULT,
    Keep,
    Pruned,
    Raced,
    RandomSearch,
    one_by_one,
    ways_to_compare,
)
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.sweep import SweepReading, SweepRun
from lightning_nndyn.sweep.standing import StandingModel

ORDER = list(range(24))


@pytest.fixture(scope="module")
def model() -> StandingModel:
    return fit.fit_standing_model([made_up_sweep(seed) for seed in range(4)])


@pytest.fixture(scope="module")
def sweep() -> RecordedSweep:
    return made_up_sweep(1)


def best_of(sweep: RecordedSweep) -> int:
    return int(np.argmax([run.value or 0.0 for run in sweep.runs]))


def test_no_stopping_misses_nothing(sweep: RecordedSweep, model: StandingModel) -> None:
    found = Outcome.of(sweep, RandomSearch().laps(sweep, ORDER, model))
    assert (found.epochs, found.regret, found.lost) == (1, 0, 0)


def test_at_a_budget_only_what_was_trained_by_then_is_seen(
    sweep: RecordedSweep, model: StandingModel
) -> None:
    values = [run.value or 0.0 for run in sweep.runs]
    found = Outcome.of(sweep, RandomSearch().laps(sweep, ORDER, model))
    for budget, regret in zip(BUDGETS, found.regret_at, strict=True):
        whole, rest = divmod(budget * 24 * 8, 8)
        ended = values[: int(whole)]
        begun = [sweep.curves[int(whole)][0]] if rest >= 1 else []
        assert regret == pytest.approx(max(values) - max([0.0, *ended, *(one or 0.0 for one in begun)]))


def test_each_run_is_compared_with_those_before_it(sweep: RecordedSweep) -> None:
    best, seen = best_of(sweep), list[int]()

    def stops_the_best(run: SweepRun, ended: Sequence[SweepRun]) -> Decision:
        seen.append(len(ended))
        assert run.planned_epochs == 8
        assert all(one.stopped == (one.value is None) for one in ended)
        return Decision(len(ended) == best and run.readings[-1].time == 1, "", 1.0)

    laps = one_by_one(sweep, stops_the_best, ORDER)
    assert laps == [(index, 1.0 if index == best else 8.0) for index in ORDER]
    found = Outcome.of(sweep, laps)
    assert found.epochs == pytest.approx(1 - 7 / 8 / 24) and found.lost == pytest.approx(1 / 6)
    assert found.regret > 0 and sorted(set(seen)) == ORDER


def test_a_larger_share_costs_more_and_misses_less(sweep: RecordedSweep, model: StandingModel) -> None:
    found = [Outcome.of(sweep, Keep(keep).laps(sweep, ORDER, model)) for keep in (0.03, 0.3)]
    assert found[0].epochs < found[1].epochs < 1 and found[0].regret >= found[1].regret
    assert found[0].lost >= found[1].lost


def test_a_race_goes_on_from_its_rungs(sweep: RecordedSweep, model: StandingModel) -> None:
    at_rungs = replace(
        sweep,
        runs=[replace(run, readings=[SweepReading(1 / 16), *run.readings]) for run in sweep.runs],
    )
    laps = Raced(0.06).laps(at_rungs, ORDER, model)
    assert laps[:24] == [(index, 1 / 16) for index in ORDER]
    assert [end for _, end in laps[24:]][:18] == [0.25] * 12 + [1.0] * 6
    ended = [index for index, end in laps if end == 8]
    found = Outcome.of(at_rungs, laps)
    assert found.epochs == pytest.approx((24 / 16 + 12 * 3 / 16 + 6 * 3 / 4 + 7 * len(ended)) / 24 / 8)
    after_an_epoch = [index for index, end in laps if end == 1]
    assert ended == [max(after_an_epoch, key=lambda index: sweep.curves[index][0] or 0.0)]


def test_a_race_trains_a_paused_run_that_was_better_than_all_that_ended(model: StandingModel) -> None:
    sweep = made_up_sweep(2)
    low = [replace(run, value=0.01) for run in sweep.runs]  # whatever is promoted gets worse
    laps = Raced(0.06).laps(replace(sweep, runs=low), ORDER, model)
    assert laps[:24] == [(index, 1 / 16) for index in ORDER]  # nothing was read at the first rung
    ended = [index for index, end in laps if end == 8]
    assert ended == ORDER
    read = [replace(run, readings=[SweepReading(1 / 16), *run.readings]) for run in low]
    laps = Raced(0.06).laps(replace(sweep, runs=read), ORDER, model)
    ended = [index for index, end in laps if end == 8]
    assert sorted(ended) == sorted(index for index, end in laps if end == 1.0)


def test_pruners_are_those_of_optuna(sweep: RecordedSweep, model: StandingModel) -> None:
    found = Outcome.of(sweep, Pruned("MedianPruner", "median").laps(sweep, ORDER, model))
    assert found.epochs < 0.9 and found.regret < 0.2
    assert Pruned("MedianPruner", "median").laps(sweep, ORDER[::-1], model)[0][0] == 23


def test_both_sides_have_as_many_settings_and_their_defaults() -> None:
    ways = ways_to_compare()
    ours = [way for way in ways if isinstance(way, Keep | Raced)]
    others = [way for way in ways if isinstance(way, Pruned)]
    assert len(ours) == len(others) and all(way.is_ours for way in ours)
    assert not any(way.is_ours for way in others)
    names = [way.name for way in ways]
    assert len(set(names)) == len(names) and {OUR_DEFAULT, *OTHER_DEFAULTS} <= {*names}
