"""Each run is judged by a predictor that never saw it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_up_corpora import made_up
from replay_runs import run

from lightning_nndyn.evaluation.benchmark.judged_runs import held_out_folds
from lightning_nndyn.evaluation.replay import held_out_predictors
from lightning_nndyn.evaluation.replay.held_out_predictors import (
    held_out_policies,
    judge_fold,
    judge_unknown,
    unknown_policies,
)
from lightning_nndyn.evaluation.replay.policies import (
    name_of,
)
from lightning_nndyn.evaluation.replay.result import replay
from lightning_nndyn.predictor import forest


def test_each_run_is_judged_by_a_predictor_that_never_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "TREES", 8)
    collection = made_up("one", 0, count=60)
    seen: list[set[str]] = []
    fit = type(collection).fit
    monkeypatch.setattr(
        type(collection),
        "fit",
        lambda self, predictor: (seen.append(set(self.configurations)), fit(self, predictor))[1],
    )
    folds = [judge_fold(collection, number) for number in range(2)]
    held = held_out_folds(collection, 0)[:2]
    for fold, known, test in zip(folds, seen, held, strict=True):
        assert set(fold["scores"]["fused"]["0.25"]) == {str(place) for place in test}
        assert known == set(collection.configurations) - {collection.configurations[place] for place in test}
    policies = {name_of(policy): policy for policy in held_out_policies(json.loads(json.dumps(folds)))}
    runs = [run(place, [float(collection.accuracies[place])] * 5) for place in np.concatenate(held)]
    careful, bold = (
        replay(policies[f"weights and curve, false stops up to {rate} %"], [runs]) for rate in (5, 30)
    )
    assert careful.good_stopped <= 0.15 and careful.epochs_share >= bold.epochs_share
    ranked = replay(policies["weights and curve after 1/4, then the best 30 %"], [runs])
    assert ranked.epochs_share == pytest.approx((7 + 17 * 0.25 / 5) / 24, abs=1e-4)
    assert ranked.regret < 0.1


def test_a_corpus_is_judged_by_a_predictor_that_knows_all_others_and_not_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forest, "TREES", 8)
    corpora = [made_up(name, seed, count=40) for seed, name in enumerate(("one", "two"))]
    seen: list[set[str]] = []
    fit = type(corpora[0]).fit
    monkeypatch.setattr(
        type(corpora[0]),
        "fit",
        lambda self, predictor: (seen.append(set(self.configurations)), fit(self, predictor))[1],
    )
    said = judge_unknown(corpora, 1)
    assert seen == [set(corpora[0].configurations)]
    races = {name_of(policy): policy for policy in unknown_policies(json.loads(json.dumps(said)))}
    runs = [run(place, [float(end)] * 5) for place, end in enumerate(corpora[1].accuracies)]
    found = replay(races["race by universal, keeping 10 %"], [runs])
    # 0.1 to the power of 1/4 is 0.56, to that of 1/2 is 0.32.
    assert found.epochs_share == pytest.approx((40 / 16 + 22 / 4 + 13 + 4 * 5) / 200)


def test_a_run_of_which_nothing_was_said_goes_on() -> None:
    silent: Any = SimpleNamespace(verdicts=[])
    assert held_out_predictors._score(silent, 0.25) == float("inf")
