"""Sweeps that are drawn from recorded runs."""

from __future__ import annotations

from collections import Counter

from replay_runs import random_runs, run

from lightning_nndyn.evaluation.replay.sampled_sweeps import sampled_sweeps


def test_sweeps_are_the_same_for_the_same_seed_and_each_draws_a_run_once() -> None:
    runs = random_runs(30)
    drawn = sampled_sweeps(runs, "all", 6, 20, seed=1)
    assert [[one.index for one in sweep] for sweep in drawn] == [
        [one.index for one in sweep] for sweep in sampled_sweeps(runs, "all", 6, 20, seed=1)
    ]
    assert {len({one.index for one in sweep}) for sweep in drawn} == {20}
    assert len({tuple(one.index for one in sweep) for sweep in drawn}) == 6


def test_a_sweep_has_one_data_set_and_small_ones_make_none() -> None:
    runs = [run(place, [0.5], dataset="ab"[place % 2]) for place in range(60)]
    runs += [run(60 + place, [0.5], dataset="c") for place in range(19)]
    drawn = sampled_sweeps(runs, "all", 4, 50, seed=0)
    assert [Counter(one.dataset for one in sweep) for sweep in drawn] == [{"a": 30}, {"b": 30}] * 2


def test_the_trainable_band_is_the_record_s() -> None:
    runs = [run(place, [0.5], epochs=None if place % 3 else 0.25) for place in range(60)]
    assert {one.trainable for sweep in sampled_sweeps(runs, "trainable", 3, 50, 0) for one in sweep} == {True}
    assert sampled_sweeps(runs[:20], "trainable", 3, 50, 0) == []
