"""Verdicts are asked for once and become decisions, blocked while the Trainer may not stop, then final."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from callback_runs import Scripted
from digits_runs import GOOD, predictor, run_of

from lightning_nndyn import GraphDynamicsCallback, Predictor
from lightning_nndyn.callback.decision import RunDecider, predictor_name
from lightning_nndyn.callback.decision_maker import DecisionMaker, unless_blocked
from lightning_nndyn.callback.guard import Guard
from lightning_nndyn.callback.messages import Messages
from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.predictor import Verdict, load_predictor
from lightning_nndyn.predictor.policy import Decision, Policy


def record(snapshots: int = 2, **facts: Any) -> Record:
    """That of a good run, as far as so many snapshots."""
    history, curve = run_of(GOOD, seed=3, epochs=1)
    kept = history[:snapshots]
    losses = {snapshot.epoch: curve.losses[snapshot.epoch] for snapshot in kept if snapshot.epoch}
    return Record(history=kept, losses=losses, classes=10, **facts)


def maker(p_low: dict[float, float]) -> DecisionMaker:
    return DecisionMaker.load(Scripted(p_low), 0.05, 0.5)


@pytest.mark.slow
def test_the_inputs_are_chosen_at_the_first_verdict_and_kept() -> None:
    reads_curves = DecisionMaker.load(predictor(curves=True), 0.05, 0.5)
    weights_alone = DecisionMaker.load(predictor(), 0.05, 0.5)
    fused = record()
    assert reads_curves.choose_inputs(fused, monitored=True) == "" and fused.kind == "fused"
    for decisions, monitored in ((reads_curves, False), (weights_alone, True)):
        found = record()
        assert decisions.choose_inputs(found, monitored) == "" and found.kind == "weights"
        assert reads_curves.choose_inputs(found, True) == "" and found.kind == "weights"
    no_loss = record()
    no_loss.losses[no_loss.time] = (math.nan, math.nan)
    assert "no finite loss" in reads_curves.choose_inputs(no_loss, monitored=True)
    assert no_loss.kind == "weights"


def test_a_decision_to_stop_waits_while_it_is_blocked_and_is_final_then() -> None:
    decisions, found = maker({0.0625: 1.0}), record()
    decisions.predict(found)
    decisions.decide(found, 0, "min_epochs=2 is not reached")
    assert not found.decision.stop and found.decision.reason.startswith("min_epochs=2 is not reached; other")
    decisions.decide(found, 0, "")
    assert found.decision.stop
    found.verdicts.clear()
    decisions.decide(found, 1, "")
    assert found.decision.stop


def test_without_a_verdict_there_is_an_error_once_an_epoch_has_passed() -> None:
    decisions, found = DecisionMaker.load(predictor(), 0.05, 0.5), record(1)
    decisions.predict(found)
    decisions.decide(found, 0, "")
    assert found.verdicts == [] and decisions.refusal is not None
    with pytest.raises(PredictorError):
        decisions.decide(found, 1, "")


def test_a_predictor_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(PredictorError, match="not fitted"):
        DecisionMaker.load(Predictor(low_threshold=0.3), 0.05, None)


def test_only_decisions_to_stop_can_be_blocked() -> None:
    stop, go_on = Decision(True, "too low", 1.0), Decision(False, "well", 1.0)
    assert unless_blocked(stop, "") is stop and unless_blocked(go_on, "not yet") is go_on
    assert unless_blocked(stop, "not yet") == Decision(False, "not yet; otherwise: too low", 1.0)


def decider(p_low: dict[float, float], **arguments: Any) -> RunDecider:
    callback = GraphDynamicsCallback(Scripted(p_low), threshold=0.5, **arguments)
    settings = callback._settings()
    found = RunDecider(settings, None, Messages(False), Guard(True, lambda: None))
    found.load_predictor()
    return found


def alone(**facts: Any) -> Any:
    """A Trainer of one process."""
    strategy = SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop, broadcast=lambda one: one)
    facts = {"min_epochs": None, "min_steps": None, "global_step": 3, "should_stop": False, **facts}
    return SimpleNamespace(strategy=strategy, world_size=1, is_global_zero=True, **facts)


def test_a_verdict_is_asked_for_once_a_snapshot() -> None:
    found, decisions = record(3), decider({})
    decisions.predict(found, 0)
    decisions.predict(found, 0)
    assert [verdict.epoch for verdict in found.verdicts] == [found.time]
    assert not decisions.verdict_due(found)


def test_a_resumed_run_asks_for_the_verdict_that_was_due() -> None:
    waiting, decisions = record(3), decider({})
    decisions.resume(waiting)
    assert decisions.verdict_due(waiting)
    decisions.predict(waiting, 0)
    resumed = decider({})
    resumed.resume(waiting)
    assert not resumed.verdict_due(waiting)
    resumed.resume(replace(record(1)))
    assert not resumed.verdict_due(record(1))


@pytest.mark.parametrize(
    ("arguments", "exempt", "stops"),
    [({}, "", True), ({"action": "observe"}, "", False), ({}, "lets this run finish, as an audit", False)],
)
def test_the_trainer_is_told_to_stop_unless_it_is_observed_or_exempt(
    arguments: dict[str, Any], exempt: str, stops: bool
) -> None:
    run, found, decisions = alone(), record(exempt=exempt), decider({0.0625: 1.0}, **arguments)
    decisions.predict(found, 0)
    decisions.decide(run, found, epochs=0, trainer_epochs=0)
    assert found.decision.stop and decisions.will_stop(found) is stops
    decisions.stop_if_decided(run, found, 0)
    assert run.should_stop is stops


def test_the_trainer_is_not_told_to_stop_before_it_may() -> None:
    run, found, decisions = alone(min_epochs=2), record(), decider({0.0625: 1.0})
    decisions.predict(found, 0)
    for epochs in (1, 2):
        decisions.decide(run, found, epochs=epochs, trainer_epochs=epochs)
        decisions.stop_if_decided(run, found, epochs)
        assert run.should_stop is (epochs == 2)


def test_a_run_that_is_judged_no_more_says_why_and_keeps_a_stop() -> None:
    found, decisions = record(3), decider({})
    decisions.withdraw(found, "")
    assert decisions.maker is not None and found.decision.epoch == 0.0
    with pytest.warns(NNDynWarning, match="its layers are gone"):
        decisions.withdraw(found, "its layers are gone")
    assert found.decision == Decision(False, "its layers are gone", 0.125) and decisions.maker is None
    unread, stopped = Record(), record(decision=Decision(True, "too low", 0.0625))
    decisions.withdraw(unread, "its layers are gone")
    decisions.withdraw(stopped, "its layers are gone")
    assert unread.decision.epoch == 0.0 and stopped.decision == Decision(True, "too low", 0.0625)


@pytest.mark.parametrize(("last", "stop"), [("finite", False), ("not finite", True)])
def test_a_run_without_an_accuracy_is_stopped_once_its_weights_are_no_numbers(last: str, stop: bool) -> None:
    found, decisions = record(3), decider({}, monitor="val_loss")
    if last == "not finite":
        found.history[-1] = replace(found.history[-1], statistics=(math.nan,) * 10)
    decisions.decide(alone(), found, epochs=0, trainer_epochs=0)
    assert found.decision.stop is stop and found.decision.epoch == 0.125 and found.verdicts == []


def test_a_run_is_compared_with_earlier_ones_once_at_each_rung() -> None:
    class Earlier:
        rule, folder = SimpleNamespace(fewest=5), "logs"

        def __init__(self) -> None:
            self.times: list[float] = []

        def decide(self, record: Record) -> tuple[Decision, int]:
            self.times.append(record.time)
            return Decision(len(self.times) == 2, "few are worse", record.time), 9

    run, decisions = alone(), decider({})
    decisions.earlier = earlier = Earlier()  # type: ignore[assignment]
    for snapshots in (2, 3, 3, 4, 4):
        found = record(snapshots)
        decisions.decide(run, found, epochs=0, trainer_epochs=0)
        assert found.decision.stop is (snapshots == 4)
    assert earlier.times == [0.125, 0.25]


@pytest.mark.parametrize(
    ("seen", "stop"), [([], True), ([0.29], True), ([0.31], False), ([math.nan, 0.31, 0.2], False)]
)
def test_a_run_that_was_seen_to_be_good_is_not_stopped_for_its_risk(seen: list[float], stop: bool) -> None:
    decisions = DecisionMaker(predictor(), Policy({"weights": [tuple(range(100))]}))
    assert decisions.predictor.low_threshold == 0.3
    risky = Verdict(0.1, 1.0, 1.0, True, risk=1e3)
    for verdict, stops in ((risky, stop), (replace(risky, diverged=True), True)):
        found = record(accuracies=seen, verdicts=[verdict])
        decisions.decide(found, 1, "")
        assert found.decision.stop is stops
        assert stops or found.decision.reason == "goes on: 31.0% was seen already"


@pytest.mark.slow
def test_a_predictor_is_called_the_same_in_every_process_and_once_it_was_saved(tmp_path: Path) -> None:
    predictor().save(tmp_path / "saved")
    assert predictor_name(load_predictor(tmp_path / "saved.skops")) == predictor_name(predictor())
    assert predictor_name(None) is None and predictor_name("universal") == "universal"
    name = predictor_name(predictor())
    assert name is not None and name.startswith("24 runs on digits ") and name == predictor_name(predictor())
    assert name != predictor_name(predictor(curves=True))
