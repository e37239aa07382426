"""What a stopping rule spends and misses, by hand."""

from __future__ import annotations

import pytest
from replay_runs import BAD, FAST, FOUR, LATE, SLOW

from lightning_nndyn.evaluation.replay.policies import (
    Decided,
    NoStopping,
)
from lightning_nndyn.evaluation.replay.result import ReplayResult, replay


def test_who_never_stops_spends_all_and_misses_nothing() -> None:
    assert replay(NoStopping(), [FOUR]) == ReplayResult(1, 0, 0, 0, 1)


def test_a_best_run_that_was_stopped_costs_what_it_had_not_shown_yet() -> None:
    """The late one is stopped after two epochs with 0.2 seen of its 0.9; the next best ends at 0.7."""
    found = replay(Decided({LATE.index: 2.0}, "by hand", ""), [FOUR])
    assert found.epochs_share == 14 / 16 and found.regret == pytest.approx(0.2)
    assert found.good_stopped == pytest.approx(1 / 3, abs=1e-5) and found.best_kept == 0


def test_what_a_stopped_run_has_shown_counts() -> None:
    found = replay(Decided({SLOW.index: 3.0, FAST.index: 1.0}, "by hand", ""), [[SLOW, FAST, BAD]])
    assert found.regret == pytest.approx(0.7 - 0.6)


def test_stops_within_the_first_epoch_cost_their_share_of_it_and_show_nothing() -> None:
    found = replay(Decided({one.index: 1 / 16 for one in FOUR}, "by hand", ""), [FOUR])
    assert found.epochs_share == pytest.approx(1 / 64, abs=1e-5)
    assert found.regret == pytest.approx(0.9)


def test_numbers_are_means_over_sweeps_and_shares_of_all_good_runs() -> None:
    late = Decided({LATE.index: 2.0}, "by hand", "")
    found = replay(late, [FOUR, [SLOW, FAST]])
    assert found.epochs_share == (14 / 16 + 1) / 2 and found.regret == pytest.approx(0.1)
    assert found.good_stopped == 1 / 5 and found.best_kept == 0.5
    assert replay(late, [[BAD, BAD]]).good_stopped is None
