"""Verdicts: what they rest on, and those on diverged runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from synthetic_runs import START, TIMES, corpus, diverged, history, paper, snapshot

from lightning_nndyn.predictor import Predictor
from lightning_nndyn.signature.snapshot import Snapshot


def run(speed: float = 1e-3, seed: int = 1, **changes: Any) -> list[Snapshot]:
    return history(np.random.default_rng(seed), speed, **changes)


def epochs(history: list[Snapshot], *times: float) -> list[Snapshot]:
    return [snapshot for snapshot in history if snapshot.epoch in times]


@cache
def fitted() -> Predictor:
    return paper(low_threshold=0.5).fit(*corpus(80), corpus="made up")


def test_verdict_rests_on_the_latest_known_time() -> None:
    whole = run()
    for count, time in enumerate(TIMES, start=2):
        assert fitted().predict(whole[:count]).epoch == time


def test_snapshots_at_unknown_times_change_nothing() -> None:
    whole = run()
    extra = sorted([*whole, snapshot(0.3, START), snapshot(4.0, START)], key=lambda s: s.epoch)
    assert fitted().predict(extra) == fitted().predict(whole)


def test_history_of_epoch_ends_has_models_of_its_own() -> None:
    whole = run()
    ends = fitted().predict(epochs(whole, 0, 1, 2))
    assert ends.epoch == 2
    # Not the model that reads fractions as well, with something made up in their place.
    assert ends != fitted().predict(epochs(whole, 0, 0.25, 0.5, 1, 2))


def test_missing_fraction_falls_back() -> None:
    whole = run()
    assert fitted().predict(epochs(whole, 0, 0.25)).epoch == 0.25
    assert fitted().predict(epochs(whole, 0, 0.25, 1)) == fitted().predict(epochs(whole, 0, 1))
    assert fitted().predict(epochs(whole, 0, 0.25, 2)).epoch == 0.25


def test_diverged_run_is_low_for_sure() -> None:
    histories, accuracies = corpus(60)
    dead = [run(dies=0.5, seed=i) for i in range(3)]
    predictor = paper(low_threshold=0.5).fit([*histories, *dead], [*accuracies, 0.07, 0.1, 0.3])
    verdict = predictor.predict(run(dies=2.0)[:5])
    assert (verdict.p_low, verdict.predicted_accuracy, verdict.diverged) == (1.0, 0.1, True)
    assert verdict.epoch == 2.0
    assert verdict.in_domain
    assert "since epoch 2" in verdict.note


def test_diverged_runs_have_no_part_in_the_models_from_then_on() -> None:
    histories, accuracies = corpus(60)
    dead = [run(seed=i, dies=0.25) for i in range(5)]
    without = paper(low_threshold=0.5).fit(histories, accuracies)
    along = paper(low_threshold=0.5).fit([*histories, *dead], [*accuracies, *[0.1] * 5])
    assert along.predict(run()).predicted_accuracy == without.predict(run()).predicted_accuracy
    assert [score["runs"] for score in along.card["scores"]] == [60] * len(along.card["scores"])
    assert along.card["diverged"] == 5


def test_divergence_is_seen_at_unknown_times_and_before_training() -> None:
    assert fitted().predict([run()[0], diverged(0.01)]).epoch == 0.01
    assert fitted().predict([diverged(0.0)]).p_low == 1.0
