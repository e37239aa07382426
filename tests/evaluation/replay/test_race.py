"""Successive halving of all runs at once, by hand."""

from __future__ import annotations

from replay_runs import FAST, FOUR, SLOW, run

from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.result import replay


def test_a_race_by_accuracy_halves_the_runs_ever_later() -> None:
    """A quarter is kept: two of four after one epoch, one of them after two, and that one after four."""
    rungs = ((1.0, 1 / 2), (2.0, 1.0))
    assert Race(0.25, rungs).epochs(FOUR) == [1, 4, 1, 2]
    assert Race(0.01).epochs(FOUR) == [1, 4, 1, 1]  # one at least
    assert Race(0.25, rungs).cost(4.0) == 4.0


def test_a_race_by_predictions_ranks_by_these_alone_until_an_accuracy_is_seen() -> None:
    places = [one.index for one in FOUR]
    early = dict(zip(places, (0.7, 0.6, 0.1, 0.9), strict=True))
    late = dict(zip(places, (0.9, 0.1, 0.1, 0.8), strict=True))
    race = Race(0.25, ((0.25, 1 / 2), (1.0, 1.0)), {0.25: early, 1.0: late}, anew=True)
    # After one epoch the two left are a draw: one is seen to be better, the other said to be. Order decides.
    assert race.epochs(FOUR) == [4, 0.25, 0.25, 1]
    assert Race(0.25, race.rungs, {0.25: early, 1.0: {**late, SLOW.index: 0.7}}).epochs(FOUR)[3] == 4
    # Each lap begins anew: 0.25 for all, 1 for two, and all epochs for one.
    assert sum(map(race.cost, race.epochs(FOUR))) == 4 * 0.25 + 2 * 1 + 4
    assert replay(race, [FOUR]).epochs_share == 7 / 16


def test_what_has_diverged_comes_last_in_a_race() -> None:
    broken = run(9, [0.9], epochs=0.25)
    said = {0.25: {9: 0.9, FAST.index: 0.1}, 1.0: {9: 0.9, FAST.index: 0.1}}
    assert Race(0.5, ((0.25, 1.0), (1.0, 1.0)), said).epochs([broken, FAST]) == [0.25, 4]
