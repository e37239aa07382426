"""Sweeps replayed from recorded runs: made-up curves whose outcome is known by hand, and a real corpus."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_up_collection import made_up
from paths import CORPORA
from typer.testing import CliRunner

from lightning_nndyn.cli import app
from lightning_nndyn.evaluation.benchmark.false_stop_rates import held_out_folds
from lightning_nndyn.evaluation.benchmark.parts import Parts, fingerprint
from lightning_nndyn.evaluation.dataset import Collection
from lightning_nndyn.evaluation.replay import held_out_predictors, replay_sweeps
from lightning_nndyn.evaluation.replay.entrants import entrants
from lightning_nndyn.evaluation.replay.held_out_predictors import (
    Fold,
    held_out_policies,
    judge_fold,
    judge_unknown,
    unknown_policies,
)
from lightning_nndyn.evaluation.replay.hyperparameter_forest import Surrogate
from lightning_nndyn.evaluation.replay.outcome import Outcome, counted
from lightning_nndyn.evaluation.replay.policies import (
    BestShare,
    Decided,
    NoStopping,
    Patience,
    Pruner,
    name_of,
)
from lightning_nndyn.evaluation.replay.race import Race
from lightning_nndyn.evaluation.replay.sampled_sweeps import Run, sweeps
from lightning_nndyn.evaluation.replay.sweep_predictor import Learned, parameters
from lightning_nndyn.evaluation.replay.tables import Subject, equal_regret, reached
from lightning_nndyn.predictor import LearningCurve, forest

ALEXNET = CORPORA / "alexnet-cifar10.parquet"


def run(
    place: int,
    curve: Sequence[float],
    *,
    dataset: str = "digits",
    rate: float = 0.1,
    epochs: float | None = None,
) -> Run:
    config = {
        "dataset": dataset, "learning_rate": rate, "momentum": 0, "dropout": 0, "batch_size": 1,
        "crop_padding": 0, "flip": False, "network_options": {},
    }  # fmt: skip
    record: Any = SimpleNamespace(config=config, curve={"test_accuracy": list(curve)})
    best = max(curve)
    return Run(
        place,
        record,
        [],
        LearningCurve({}, list(curve)),
        epochs or len(curve),
        best,
        best >= 0.5,
        epochs is None,
    )


SLOW, FAST, BAD, LATE = (
    run(place, curve)
    for place, curve in enumerate(
        ([0.1, 0.3, 0.6, 0.7], [0.5, 0.6, 0.6, 0.6], [0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.9])
    )
)
FOUR = [SLOW, FAST, BAD, LATE]


def random_runs(count: int, epochs: int = 8, seed: int = 0) -> list[Run]:
    """Curves that rise to their ends, each at its own speed."""
    random = np.random.default_rng(seed)
    steps = np.arange(1, epochs + 1)
    return [
        run(
            place,
            (end * (1 - np.exp(-steps / speed)) + 0.02 * random.random(epochs)).round(9).tolist(),
            rate=float(end),
        )
        for place, (end, speed) in enumerate(
            zip(random.random(count), random.uniform(1, 5, count), strict=True)
        )
    ]


# -- the sweeps ----------------------------------------------------------------------------------------------


def test_sweeps_are_the_same_for_the_same_seed_and_each_draws_a_run_once() -> None:
    runs = random_runs(30)
    drawn = sweeps(runs, "all", 6, 20, seed=1)
    assert [[one.place for one in sweep] for sweep in drawn] == [
        [one.place for one in sweep] for sweep in sweeps(runs, "all", 6, 20, seed=1)
    ]
    assert {len({one.place for one in sweep}) for sweep in drawn} == {20}
    assert len({tuple(one.place for one in sweep) for sweep in drawn}) == 6


def test_a_sweep_has_one_data_set_and_small_ones_make_none() -> None:
    runs = [run(place, [0.5], dataset="ab"[place % 2]) for place in range(60)]
    runs += [run(60 + place, [0.5], dataset="c") for place in range(19)]
    drawn = sweeps(runs, "all", 4, 50, seed=0)
    assert [Counter(one.dataset for one in sweep) for sweep in drawn] == [{"a": 30}, {"b": 30}] * 2
    assert "sweeps of 30 out of all 60 runs (60 good), each on one of 2 data sets" in str(
        Subject.of("x", "all", runs, drawn)
    )


def test_the_trainable_band_is_the_record_s() -> None:
    runs = [run(place, [0.5], epochs=None if place % 3 else 0.25) for place in range(60)]
    assert {one.trainable for sweep in sweeps(runs, "trainable", 3, 50, 0) for one in sweep} == {True}
    assert sweeps(runs[:20], "trainable", 3, 50, 0) == []


# -- ways of stopping, by hand -------------------------------------------------------------------------------


def test_who_never_stops_spends_all_and_misses_nothing() -> None:
    found = counted(NoStopping(), [FOUR])
    assert (found["epochs_share"], found["regret"], found["good_stopped"], found["best_kept"]) == (1, 0, 0, 1)


def test_a_best_run_that_was_stopped_costs_what_it_had_not_shown_yet() -> None:
    """The late one is stopped after two epochs with 0.2 seen of its 0.9; the next best ends at 0.7."""
    found = counted(Decided({LATE.place: 2.0}, "by hand", ""), [FOUR])
    assert found["epochs_share"] == 14 / 16 and found["regret"] == pytest.approx(0.2)
    assert found["good_stopped"] == pytest.approx(1 / 3, abs=1e-5) and found["best_kept"] == 0


def test_what_a_stopped_run_has_shown_counts() -> None:
    found = counted(Decided({SLOW.place: 3.0, FAST.place: 1.0}, "by hand", ""), [[SLOW, FAST, BAD]])
    assert found["regret"] == pytest.approx(0.7 - 0.6)


def test_stops_within_the_first_epoch_cost_their_share_of_it_and_show_nothing() -> None:
    found = counted(Decided({one.place: 1 / 16 for one in FOUR}, "by hand", ""), [FOUR])
    assert found["epochs_share"] == pytest.approx(1 / 64, abs=1e-5)
    assert found["regret"] == pytest.approx(0.9)


def test_numbers_are_means_over_sweeps_and_shares_of_all_good_runs() -> None:
    late = Decided({LATE.place: 2.0}, "by hand", "")
    found = counted(late, [FOUR, [SLOW, FAST]])
    assert found["epochs_share"] == (14 / 16 + 1) / 2 and found["regret"] == pytest.approx(0.1)
    assert found["good_stopped"] == 1 / 5 and found["best_kept"] == 0.5
    assert counted(late, [[BAD, BAD]])["good_stopped"] is None


def test_a_diverged_run_costs_what_it_was_trained() -> None:
    broken = run(9, [0.1], epochs=0.25)
    assert NoStopping().epochs([broken]) == BestShare(1.0).epochs([broken]) == [0.25]
    assert Patience(1).epochs([broken]) == Pruner("median", "x").epochs([broken]) == [0.25]
    assert BestShare(0.5).epochs([broken, FAST]) == [0.25, 4]


def test_patience_waits_for_a_better_accuracy() -> None:
    assert Patience(2).epochs(FOUR) == [4, 4, 3, 3]
    assert Patience(1).epochs(FOUR) == [4, 3, 2, 2]


def test_after_one_epoch_the_best_go_on_and_the_others_have_cost_one() -> None:
    assert BestShare(0.25).epochs(FOUR) == [1, 4, 1, 1]
    assert BestShare(0.5).epochs(FOUR) == [1, 4, 1, 4]
    assert BestShare(0.01).epochs(FOUR) == [1, 4, 1, 1]  # one at least


def test_runs_may_be_ranked_by_what_was_predicted_earlier() -> None:
    said = {SLOW.place: 0.1, FAST.place: 0.2, BAD.place: 0.3, LATE.place: 0.4}
    assert BestShare(0.5, 0.25, said).epochs(FOUR) == [0.25, 0.25, 4, 4]


def test_a_race_by_accuracy_halves_the_runs_ever_later() -> None:
    """A quarter is kept: two of four after one epoch, one of them after two, and that one after four."""
    rungs = ((1.0, 1 / 2), (2.0, 1.0))
    assert Race(0.25, rungs).epochs(FOUR) == [1, 4, 1, 2]
    assert Race(0.01).epochs(FOUR) == [1, 4, 1, 1]  # one at least
    assert Race(0.25, rungs).spent(4.0) == 4.0


def test_a_race_by_predictions_ranks_by_these_alone_until_an_accuracy_is_seen() -> None:
    places = [one.place for one in FOUR]
    early = dict(zip(places, (0.7, 0.6, 0.1, 0.9), strict=True))
    late = dict(zip(places, (0.9, 0.1, 0.1, 0.8), strict=True))
    race = Race(0.25, ((0.25, 1 / 2), (1.0, 1.0)), {0.25: early, 1.0: late}, anew=True)
    # After one epoch the two left are a draw: one is seen to be better, the other said to be. Order decides.
    assert race.epochs(FOUR) == [4, 0.25, 0.25, 1]
    assert Race(0.25, race.rungs, {0.25: early, 1.0: {**late, SLOW.place: 0.7}}).epochs(FOUR)[3] == 4
    # Each lap begins anew: 0.25 for all, 1 for two, and all epochs for one.
    assert sum(map(race.spent, race.epochs(FOUR))) == 4 * 0.25 + 2 * 1 + 4
    assert counted(race, [FOUR])["epochs_share"] == 7 / 16


def test_what_has_diverged_comes_last_in_a_race() -> None:
    broken = run(9, [0.9], epochs=0.25)
    said = {0.25: {9: 0.9, FAST.place: 0.1}, 1.0: {9: 0.9, FAST.place: 0.1}}
    assert Race(0.5, ((0.25, 1.0), (1.0, 1.0)), said).epochs([broken, FAST]) == [0.25, 4]


def test_hyperparameters_choose_once_the_first_runs_have_finished() -> None:
    """The rate is the accuracy: after the first ten, what begins is nearly all among the best."""
    runs = random_runs(50)
    ends = Surrogate(0.2).epochs(runs)
    assert ends[:10] == [8.0] * 10 and set(ends) == {0.0, 8.0}
    begun = [one.accuracy for one, end in zip(runs[10:], ends[10:], strict=True) if end]
    left = [one.accuracy for one, end in zip(runs[10:], ends[10:], strict=True) if not end]
    assert 3 <= len(begun) <= 15 and min(begun) > np.median(left)
    assert counted(Surrogate(0.2), [runs])["regret"] < 0.05


# -- Optuna's ------------------------------------------------------------------------------------------------


@pytest.mark.needs("optuna")
@pytest.mark.parametrize("kept", [25, 75])
def test_percentiles_equal_optuna_driven_by_hand(kept: int) -> None:
    import optuna

    for order in (random_runs(30), random_runs(30)[::-1]):
        expected = by_hand(optuna.pruners.PercentilePruner(kept), order)
        policy = Pruner("percentile", "PercentilePruner", f"{kept} %", {"percentile": kept})
        assert policy.epochs(order) == expected
        assert 1 <= min(expected) < 8


def by_hand(pruner: Any, order: list[Run]) -> list[float]:
    """After how many epochs Optuna ends each run."""
    import optuna

    study, ends = optuna.create_study(direction="maximize", pruner=pruner), []
    for one in order:
        trial = study.ask()
        for epoch, value in enumerate(one.curve, start=1):
            trial.report(value, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, one.accuracy)
        ends.append(float(epoch))
    return ends


@pytest.mark.needs("optuna")
def test_each_order_has_its_own_brackets_and_always_the_same() -> None:
    policy, runs = Pruner("hyperband", "HyperbandPruner"), random_runs(40)
    assert policy.epochs(runs) == policy.epochs(runs)
    again = dict(zip([one.place for one in runs[::-1]], policy.epochs(runs[::-1]), strict=True))
    assert [again[one.place] for one in runs] != policy.epochs(runs)


@pytest.mark.needs("optuna")
def test_all_entrants_have_names_of_their_own_and_spend_no_more_than_there_is() -> None:
    names = [name_of(policy) for policy in entrants()]
    assert len(set(names)) == len(names) == len({repr(policy) for policy in entrants()})
    runs = random_runs(30)
    for policy in entrants():
        ends = policy.epochs(runs)
        assert len(ends) == 30 and all(0 <= end <= 8 for end in ends)


def told_by_its_movement(count: int) -> list[Run]:
    """Runs with snapshots that tell how they will end, and curves that say nothing before the fifth epoch."""
    collection = made_up("one", 0, count=count)
    return [
        replace(
            run(place, [0.1] * 4 + [float(accuracy)] * 4),
            history=collection.histories[place],
            logged=LearningCurve({}, [], 10),
        )
        for place, accuracy in enumerate(collection.accuracies)
    ]


def test_what_is_learned_in_the_sweep_trains_the_first_ten_and_keeps_the_best() -> None:
    runs = told_by_its_movement(50)
    ends = Learned(0.05).epochs(runs)
    full = [end == one.epochs for end, one in zip(ends, runs, strict=True)]
    assert all(full[:10]) and not all(full)
    best = max(range(50), key=lambda place: runs[place].accuracy)
    assert full[best]
    stopped = [one.accuracy for one, whole in zip(runs, full, strict=True) if not whole]
    assert np.mean(stopped) < np.mean([one.accuracy for one in runs])


def test_a_list_among_the_hyperparameters_counts_by_its_length_and_sum() -> None:
    config = {"learning_rate": 0.1, "seed": 3, "network_options": {"widths": [8, 16], "kernel": 3}}
    assert parameters(config) == {"learning_rate": 0.1, "widths:length": 2, "widths:sum": 24.0, "kernel": 3}


# -- ours ----------------------------------------------------------------------------------------------------


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
        counted(policies[f"weights and curve, false stops up to {rate} %"], [runs]) for rate in (5, 30)
    )
    assert careful["good_stopped"] <= 0.15 and careful["epochs_share"] >= bold["epochs_share"]
    ranked = counted(policies["weights and curve after 1/4, then the best 30 %"], [runs])
    assert ranked["epochs_share"] == pytest.approx((7 + 17 * 0.25 / 5) / 24, abs=1e-4)
    assert ranked["regret"] < 0.1


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
    found = counted(races["race by universal, keeping 10 %"], [runs])
    # 0.1 to the power of 1/4 is 0.56, to that of 1/2 is 0.32.
    assert found["epochs_share"] == pytest.approx((40 / 16 + 22 / 4 + 13 + 4 * 5) / 200)
    assert list(unknown_policies(None)) == []


def test_a_run_of_which_nothing_was_said_goes_on() -> None:
    silent: Any = SimpleNamespace(verdicts=[])
    assert held_out_predictors._score(silent, 0.25) == float("inf")


# -- parts ---------------------------------------------------------------------------------------------------


def test_a_finished_part_is_not_computed_again_unless_what_it_depends_on_changed(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, Any]:
        made.append("x")
        return {"value": len(made)}

    parts = Parts(tmp_path / "cache")
    assert [(parts.get("A part: 5 %", "this", make) or {})["value"] for _ in range(3)] == [1, 1, 1]
    assert (parts.get("A part: 5 %", "that", make) or {})["value"] == 2
    late = Parts(tmp_path / "cache", until=0.0)
    assert late.get("another", "this", make) is None and len(made) == 2
    assert (late.get("A part: 5 %", "this", make) or {})["value"] == 1


def test_a_changed_corpus_is_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    before = fingerprint(tmp_path)
    assert before == fingerprint(tmp_path)
    (tmp_path / "a").write_text("two")
    assert fingerprint(tmp_path) != before


# -- the command ---------------------------------------------------------------------------------------------


def small(*arguments: str, folder: Path) -> Any:
    fixed = [
        "--sweeps",
        "3",
        "--size",
        "12",
        "--output",
        str(folder / "out"),
        "--cache",
        str(folder / "cache"),
    ]
    return CliRunner().invoke(app, ["evaluate", "sweep", str(ALEXNET), *fixed, *arguments])


def oracle(collection: Collection, number: int, seed: int) -> Fold:
    """Knows how runs end."""
    test = held_out_folds(collection, seed)[number]
    ends = {str(place): float(collection.accuracies[place]) for place in test}
    low = {place: 0.25 for place, end in ends.items() if end < 0.25}
    return {
        "stops": {
            kind: {str(rate): low for rate in held_out_predictors.RATES} for kind in held_out_predictors.KINDS
        },
        "scores": {
            kind: {str(time): ends for time in held_out_predictors.TIMES}
            for kind in held_out_predictors.KINDS
        },
    }


@pytest.mark.needs("optuna", "pyarrow", "matplotlib")
def test_a_replay_that_was_cut_goes_on_to_rows_tables_and_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What takes its time has tests of its own.
    monkeypatch.setattr(replay_sweeps, "judge_fold", oracle)
    quick = [policy for policy in entrants() if not isinstance(policy, Surrogate)]
    monkeypatch.setattr(replay_sweeps, "entrants", lambda: quick)
    played: list[str] = []
    count = counted
    monkeypatch.setattr(
        replay_sweeps,
        "counted",
        lambda policy, drawn: (played.append(name_of(policy)), count(policy, drawn))[1],
    )
    late = small("--minutes", "0", folder=tmp_path)
    assert late.exit_code == 0 and "run the same command again" in late.output
    assert not played and not (tmp_path / "out").exists()

    def cut(policy: Any, drawn: Any) -> dict[str, Any]:
        if len(played) == 7:
            raise KeyboardInterrupt
        played.append(name_of(policy))
        return count(policy, drawn)

    with monkeypatch.context() as patch:
        patch.setattr(replay_sweeps, "counted", cut)
        assert small(folder=tmp_path).exit_code == 130
    result = small(folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert set(Counter(played).values()) == {2}  # in each of two bands once
    page = tmp_path / "out" / "replay.md"
    page.write_text(page.read_text().replace("<!-- begin", "# By hand\n\n<!-- begin"))
    written = (tmp_path / "out" / "replay.json").read_bytes()
    for lost in ("cache", "out/figures"):  # what is published is kept, too, as in a fresh clone
        shutil.rmtree(tmp_path / lost)
    assert small(folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {2}
    assert (tmp_path / "out" / "replay.json").read_bytes() == written
    assert small("--seed", "1", folder=tmp_path).exit_code == 0 and set(Counter(played).values()) == {4}
    assert (tmp_path / "out" / "replay.json").read_bytes() != written
    assert page.read_text().startswith("# By hand\n") and "| no stopping | 100.0 | 0.00 |" in page.read_text()
    assert (tmp_path / "out" / "figures" / "replay.png").stat().st_size > 20_000

    content = json.loads(written)
    assert (content["sweeps"], content["size"]) == (3, 12)
    keys = {"corpus", "band", "policy", "epochs_share", "regret", "good_stopped", "best_kept", "part"}
    assert all(set(row) == keys for row in content["rows"])
    assert (
        len(content["rows"])
        == 2 * len(set(played))
        == len({(r["band"], r["policy"]) for r in content["rows"]})
    )
    assert {row["band"] for row in content["rows"]} == {"all", "trainable"}
    assert all(0 < row["epochs_share"] <= 1 and 0 <= row["regret"] < 1 for row in content["rows"])
    knowing = [row for row in content["rows"] if row["policy"].startswith("weights")]
    assert all(row["regret"] == 0 and row["best_kept"] == 1 for row in knowing)
    assert all(row["good_stopped"] == 0 for row in knowing if "false stops" in row["policy"])


def test_the_fewest_epochs_at_equal_regret_are_found_on_either_side() -> None:
    def outcome(policy: str, epochs: float, regret: float, ours: bool) -> Outcome:
        return Outcome("c", "all", policy, epochs, regret, 0.0, 1.0, policy, ours, "", 0.0)

    outcomes = [
        outcome("all", 1.0, 0.0, False),
        outcome("other", 0.3, 0.004, False),
        outcome("worse", 0.4, 0.004, False),
        outcome("mine", 0.09, 0.004, True),
    ]
    lines = {
        line[2]: line[3:] for line in equal_regret(outcomes, [Subject("c", "all", 9, 9, (9, 9), 1)]).lines
    }
    words = reached(outcomes, [Subject("c", "all", 9, 9, (9, 9), 1)])
    assert words == "Ours spend a third or less in 3 of 3 comparisons: c in 3 of 3 (0.30 to 0.30)."
    assert lines["0.25"] == ["all", "100.0", "none", "", ""]
    assert lines["0.5"] == ["other", "30.0", "mine", "9.0", "0.30"]


def test_corpora_without_a_command_mean_predictions(tmp_path: Path) -> None:
    for words in (["evaluate"], ["evaluate", "predictions"]):
        refused = CliRunner().invoke(app, [*words, str(tmp_path / "nowhere"), "--output", str(tmp_path)])
        assert "is no corpus folder" in str(refused.exception)
    shown = " ".join(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "160"}).output.split())
    assert "nndyn evaluate sweep corpora/*.parquet" in shown and "nndyn evaluate predictions" in shown
