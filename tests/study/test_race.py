"""Races: how candidates are ranked, that runs end at their rungs, and that results are kept."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from callback_runs import Digits, trainer
from digits_runs import DOOMED, GOOD, predictor
from paths import SUPPORT
from race_runs import steps, train
from typer.testing import CliRunner
from warm_processes import run_warm

from lightning_nndyn.cli import app
from lightning_nndyn.errors import SweepError
from lightning_nndyn.study import Race, race
from lightning_nndyn.study.race_journal import RungResult
from lightning_nndyn.study.race_result import RaceResult, Rung
from lightning_nndyn.sweep import SweepRun, rank

SEEN = ((1.0, 0.5), (2.0, 0.2))
"""Rungs of a race by the accuracy alone."""
EARLY = ((0.25, 0.5), (1.0, 0.25))
"""Rungs of a race whose candidates are compared with each other."""


def rates(*values: float) -> list[dict[str, Any]]:
    return [{"rate": value} for value in values]


# -- ranks ---------------------------------------------------------------------------------------------------


def ranking(epochs: float, *results: RungResult) -> list[int]:
    """The candidates of a race with one rung, best first."""
    known = {(0, result.candidate): result for result in results}
    state = RaceResult([{}] * len(results), [Rung(epochs, 0.5)], known)
    return [result.candidate for result in state.ranking(0)]


def test_within_the_first_epoch_predictions_alone_rank() -> None:
    pairs = (0.3, 0.9), (0.5, 0.1), (0.4, 0.5), (0.5, 0.2)
    assert ranking(0.25, *(RungResult(index, 0, *pair) for index, pair in enumerate(pairs))) == [1, 3, 2, 0]


def test_from_one_epoch_on_two_ranks_count_alike() -> None:
    """Ranks of predicted: 1, 4, 2, 3; of measured: 4, 3, 2, 1; sums: 5, 7, 4, 4."""
    pairs = (0.3, 0.9), (0.9, 0.8), (0.5, 0.7), (0.6, 0.6)
    assert ranking(1.0, *(RungResult(index, 0, *pair) for index, pair in enumerate(pairs))) == [1, 0, 2, 3]


def test_without_a_prediction_comes_first_and_failed_comes_last() -> None:
    failed, unknown = RungResult(1, 0, 0.9, failure="has diverged"), RungResult(2, 0, None)
    assert ranking(0.25, RungResult(0, 0, 0.3), failed, unknown, RungResult(3, 0, 0.2)) == [2, 0, 3, 1]


def test_one_at_least_goes_on() -> None:
    races = [RaceResult([{}] * 50, [Rung(1, share)]) for share in (0.5, 0.25, 0.06, 0.001)]
    assert [state.keep_count(0) for state in races] == [25, 12, 3, 1]


@pytest.mark.parametrize(
    ("runs", "share", "kept"), [(48, 0.06, 3), (48, 0.05, 2), (7, 0.5, 4), (10, 0.26, 3)]
)
def test_a_share_of_the_candidates_is_rounded_and_not_cut(runs: int, share: float, kept: int) -> None:
    assert RaceResult([{}] * runs, [Rung(1, share)]).keep_count(0) == kept


def test_failed_candidates_do_not_go_on_even_where_there_is_room() -> None:
    results = {(0, one): RungResult(one, 0, 0.5, failure="failed" if one else "") for one in range(3)}
    found = RaceResult([{}, {}, {}], [Rung(0.25, 0.7), Rung(1, 0.5)], results)
    assert found.keep_count(0) == 2 and found.running(1) == [0] and found.running(2) == []
    assert found.best is None and found.params is None and found.value is None
    assert found.laps is found.results  # its name in earlier releases


def test_reasons_say_how_far_a_candidate_has_come() -> None:
    three = RungResult(0, 0, 0.5), RungResult(1, 0, 0.25, 0.1), RungResult(2, 0, failure="IOError: x")
    results = {(0, result.candidate): result for result in three}
    part = RaceResult([{}, {}, {}, {}], [Rung(0.25, 0.3)], results)
    assert [part.reason(one) for one in range(4)] == [
        "waits for the others after 0.25 epochs", "waits for the others after 0.25 epochs", "IOError: x",
        "not begun",
    ]  # fmt: skip
    more = {(0, 3): RungResult(3, 0, 0.1), (1, 0): RungResult(0, 1, value=0.7)}
    whole = RaceResult(part.candidates, part.rungs, {**results, **more})
    assert whole.reason(1) == "2nd of 4 after 0.25 epochs, predicted 0.250 and seen 0.100; 1 went on"
    assert whole.reason(0) == "trained to its end" and (whole.best, whole.value) == (0, 0.7)


# -- races ---------------------------------------------------------------------------------------------------


def test_runs_end_at_their_rungs_and_the_best_come_to_their_end(tmp_path: Path) -> None:
    steps.clear()
    counts: list[int] = []
    four = rates(1e-6, 1.0, 0.1, 1e-5)

    def raced() -> RaceResult:
        file = tmp_path / "new" / "race.jsonl"
        return race(
            train,
            four,
            file=file,
            predictor=None,
            rungs=SEEN,
            on_update=lambda state: counts.append(len(state.results)),
        )

    found = raced()
    assert [count for _, count in steps] == [4] * 4 + [8] * 2 + [16]  # four steps are an epoch
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    seen = [found.results[0, candidate].best_accuracy or 0.0 for candidate in range(4)]
    assert found.running(1) == sorted(sorted(range(4), key=lambda one: (-seen[one], one))[:2])
    assert found.best == 1 and found.params == {"rate": 1.0} and found.value == found.results[2, 1].value
    last = next(one for one in found.running(1) if one != 1)
    assert found.reason(last).startswith("2nd of 2 after 2 epochs, seen 0.")
    assert raced() == found and len(steps) == 7  # all is done: called again, it trains nothing


def test_a_killed_race_whose_candidates_are_compared_ranks_as_one_that_was_not(tmp_path: Path) -> None:
    code, said = run_warm(SUPPORT / "race_script.py", "race.jsonl", "compared", folder=tmp_path)
    assert code == 0, said
    killed, whole = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()[1:]]
        for name in ("race.jsonl", "whole.jsonl")
    )
    for line in killed + whole:
        del line["seconds"]
    assert killed == whole and len(killed) == 14
    assert sum("readings" in line for line in killed) == 13


def test_a_killed_race_goes_on_and_repeats_nothing_that_had_ended(tmp_path: Path) -> None:
    """With the shipped predictor on the network and data that it knows; rungs of 1/16, 1/4 and one epoch."""
    code, said = run_warm(SUPPORT / "race_script.py", "race.jsonl", folder=tmp_path)
    assert code == 0, said
    file = tmp_path / "race.jsonl"
    # Six, four, three and one at the three rungs and at the end, of which 2 and 5 had ended.
    assert "trained 7, best " in said
    lines = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert len({(line["number"], line["candidate"]) for line in lines}) == len(lines) == 14
    assert all(line["predicted"] is not None and not line["strange"] for line in lines)
    assert [line["seen"] is None for line in lines] == [True] * 10 + [False] * 4
    best = next(line for line in lines if line["number"] == 3)
    assert best["candidate"] in (0, 1) and best["value"] > 0.8  # learning rates of 0.3 and 0.1


def learning(*rates: float) -> list[dict[str, Any]]:
    return [{"rate": rate, "lr": rate} for rate in rates]


def test_by_default_candidates_are_ranked_with_each_other(tmp_path: Path) -> None:
    candidates = learning(1e-6, 1.0, 0.3, 1e-5, 1e-4, 1e-3)
    found = race(train, candidates, file=tmp_path / "r", rungs=EARLY)
    first = [found.results[0, candidate] for candidate in range(6)]
    assert [[one.time for one in result.readings] for result in first] == [[1 / 16, 1 / 8, 1 / 4]] * 6
    runs = [SweepRun(params, one.readings) for params, one in zip(candidates, first, strict=True)]
    scores = rank(runs)
    assert [one.candidate for one in found.ranking(0)] == sorted(range(6), key=lambda one: -scores[one])
    assert {1, 2} <= set(found.running(1)) and found.best in (1, 2)
    assert not found.results[2, found.best].readings  # a final value needs none
    assert race(train, candidates, file=tmp_path / "r", rungs=EARLY) == found


@pytest.mark.parametrize("monitor", ["val_acc", "val_loss", "not_logged"])
def test_any_metric_will_do_and_any_number_of_batches(tmp_path: Path, monitor: str) -> None:
    """The default rungs begin after a quarter of the first of four batches."""
    found = race(train, learning(1e-6, 0.3, 1e-5), file=tmp_path / "r", monitor=monitor)
    assert [one.time for one in found.results[0, 0].readings] == [1 / 16]
    assert found.best == 1
    curve = found.results[2, 1].readings[-1].curve
    assert len(curve) == (0 if monitor == "not_logged" else 5)
    assert monitor != "val_loss" or curve[2] < 0  # larger is better


def test_a_race_without_readings_goes_on_with_the_ranks_that_it_had(tmp_path: Path) -> None:
    """Rungs after whole epochs, by accuracy alone, are what earlier releases had without a predictor."""
    found = race(train, rates(1e-6, 1.0, 0.1), file=tmp_path / "r", rungs=SEEN)
    assert not any(result.readings for result in found.results.values())
    assert "readings" not in (tmp_path / "r").read_text()


def test_names_of_earlier_releases_work_and_warn(tmp_path: Path) -> None:
    counts: list[int] = []
    with pytest.warns(DeprecationWarning, match="'watch' is now called 'on_update'"):
        found = race(  # type: ignore[call-arg]
            lambda params, callback: train(params, callback), rates(0.1, 0.01), file=tmp_path / "r",
            predictor=None, rungs=((1, 0.5),), watch=lambda state: counts.append(len(state.laps)),
        )  # fmt: skip
    assert isinstance(found, Race) and counts == [1, 2, 3]


def test_a_candidate_that_fails_or_diverges_is_out_and_the_others_go_on(tmp_path: Path) -> None:
    def broken(params: dict[str, Any], callback: Any) -> float:
        if params["rate"] == 7:
            raise RuntimeError("no memory")
        return train(params, callback)

    found = race(broken, rates(7, 1e30, 0.1, 0.01), file=tmp_path / "r", predictor=None, rungs=((1, 0.9),))
    assert found.reason(0) == "RuntimeError: no memory"
    assert found.reason(1) == "has diverged: weights are not finite"
    assert found.running(1) == [2, 3] and found.best in (2, 3)


def test_a_race_whose_first_three_fail_ends(tmp_path: Path) -> None:
    def failing(params: dict[str, Any], callback: Any) -> float:
        raise RuntimeError("no memory")

    with pytest.raises(SweepError, match="all of the first 3 runs failed, the last with RuntimeError: no m"):
        race(failing, rates(1, 2, 3, 4), file=tmp_path / "r", predictor=None, rungs=SEEN)


def test_a_race_that_is_interrupted_stays_so(tmp_path: Path) -> None:
    def interrupted(params: dict[str, Any], callback: Any) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(interrupted, rates(1, 2), file=tmp_path / "r", predictor=None, rungs=SEEN)
    assert len((tmp_path / "r").read_text().splitlines()) == 1


def test_a_predictor_that_does_not_know_the_runs_is_refused(tmp_path: Path) -> None:
    steps.clear()
    for _ in range(2):  # and stays refused
        with pytest.raises(SweepError, match=r"does not know 2 of 2 runs .* would rank them at random"):
            race(
                train, rates(0.1, 0.01), file=tmp_path / "r", predictor="lenet5-digits", rungs=((0.25, 0.5),)
            )
    assert len(steps) == 2


def test_candidates_longer_than_all_that_the_predictor_knows_are_ranked(tmp_path: Path) -> None:
    def run(params: dict[str, Any], callback: Any) -> float:
        fit = trainer(callback, max_epochs=2)
        fit.fit(Digits(params["rate"], validate=True))
        return float(fit.callback_metrics["val_accuracy"])

    known = copy.deepcopy(predictor())
    known.card["domain"]["most_epochs"] = 1
    found = race(
        run,
        rates(DOOMED, GOOD),
        file=tmp_path / "r",
        predictor=known,
        monitor="val_accuracy",
        rungs=((0.25, 0.5),),
    )
    assert found.params == {"rate": GOOD} and not any(
        result.out_of_domain for result in found.results.values()
    )


def test_a_trainer_that_does_not_end_at_the_rung_is_refused(tmp_path: Path) -> None:
    def stubborn(params: dict[str, Any], callback: Any) -> float:
        return train(params, callback, min_epochs=3)

    with pytest.raises(SweepError, match=r"of 1 epoch went on to 3 epochs .*no min_epochs"):
        race(stubborn, rates(0.1, 0.01), file=tmp_path / "r", predictor=None, rungs=SEEN)


def test_a_train_that_forgets_the_callback_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="nothing was read of a run"):
        race(lambda params, callback: 0.5, rates(1, 2), file=tmp_path / "r", predictor=None, rungs=SEEN)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"candidates": rates(1)}, "candidates holds 1"),
        (
            {"candidates": [{"rate": {1}}, {}]},
            "kept as JSON, and Object of type set is",
        ),
        ({"rungs": ()}, "rungs="),
        ({"rungs": ((2, 0.5), (1, 0.2))}, "rising"),
        ({"rungs": ((1, 0.2), (2, 0.2))}, "falling"),
        ({"rungs": ((1, 1.0),)}, "between 0 and 1"),
        ({"rungs": ((0.3, 0.5),), "predictor": "lenet5-digits"}, "not read after 0.3 epochs, but at 0.0625"),
        ({"rungs": ((2, 0.5),), "callback": {"snapshots": [1, 4]}}, "not read after 2 epochs, but at 1, 4"),
        ({"callback": {"trial": 3}}, "callback holds trial=3: that is the race's own"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    known = {"candidates": rates(1, 2), "file": tmp_path / "r", "predictor": None, "rungs": SEEN}
    with pytest.raises(ValueError, match=message):
        race(train, **{**known, **changed})
    assert not (tmp_path / "r").exists()


# -- from a YAML file ----------------------------------------------------------------------------------------


def planned(folder: Path, **changed: Any) -> Any:
    plan = {
        "train": "script.py:train", "monitor": "val_acc", "trials": 4, "seed": 1, "storage": "race.jsonl",
        "space": {"rate": {"low": 1e-6, "high": 0.5, "log": True}},
        "race": {"rungs": [{"epochs": 1, "keep": 0.5}]}, **changed,
    }  # fmt: skip
    (folder / "script.py").write_text("from race_runs import train\n")
    (folder / "plan.yaml").write_text(json.dumps(plan))
    return CliRunner().invoke(app, ["sweep", str(folder / "plan.yaml")], env={"COLUMNS": "200"})


@pytest.mark.needs("optuna")
def test_a_sweep_s_yaml_file_may_ask_for_a_race(tmp_path: Path) -> None:
    done = planned(tmp_path)
    assert done.exit_code == 0, done.output
    assert "trained to its end" in done.output and "of 4 after 1 epoch, seen 0." in done.output
    lines = (tmp_path / "race.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 + 2
    again = planned(tmp_path)
    assert again.exit_code == 0 and (tmp_path / "race.jsonl").read_text().splitlines() == lines
    other = planned(tmp_path, seed=2)
    assert other.exit_code and "holds a race with other candidates" in str(other.exception)


@pytest.mark.needs("optuna")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"race": {"predictors": "lenet5-digits"}}, "has more than predictor and rungs"),
        ({"race": {"predictor": None, "rungs": [1]}}, "no list of epochs and keep"),
        ({"learner": {"good_share": 0.1}}, "learner: a race learns nothing"),
        ({"storage": "sqlite:///x.db"}, "a race is kept in a file"),
        ({"direction": "minimize"}, "direction: a race is for the highest accuracy"),
        ({"monitor": None}, "monitor: a race ranks by an accuracy"),
        ({"callback": {"action": "observe"}}, "plan.yaml: callback holds action='observe'"),
    ],
)
def test_what_does_not_go_with_a_race_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    refused = planned(tmp_path, **changed)
    assert isinstance(refused.exception, SweepError)
    with pytest.raises(SweepError, match=message):
        raise refused.exception
    assert not (tmp_path / "race.jsonl").exists()
