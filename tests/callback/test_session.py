"""The session of a run: its phases, and what passes from one to the next."""

from __future__ import annotations

import pickle
from typing import Any

import lightning.pytorch as L
import pytest
from callback_runs import Digits, Scripted, curve_reader, times, trainer, watcher
from digits_runs import DOOMED

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.phases import Phase, ReaderPhase
from lightning_nndyn.errors import NNDynWarning


class Phases(L.Callback):
    """Notes the phases of a callback's session and of its reader, as each of them changes."""

    def __init__(self, callback: GraphDynamicsCallback) -> None:
        self.callback = callback
        self.seen: list[Phase] = []
        self.read: list[ReaderPhase] = []

    def look(self, *_: Any, **__: Any) -> None:
        session = self.callback.session
        if self.seen[-1:] != [session.phase]:
            self.seen.append(session.phase)
        if self.read[-1:] != [session.reader.phase]:
            self.read.append(session.reader.phase)

    setup = on_train_start = on_train_batch_start = on_before_backward = on_train_batch_end = look
    on_train_epoch_end = on_train_end = on_fit_end = teardown = look


def phases_of(callback: GraphDynamicsCallback, **settings: Any) -> Phases:
    phases = Phases(callback)
    trainer(callback, phases, max_epochs=1, **settings).fit(Digits())
    return phases


def test_a_session_goes_from_idle_through_training_to_its_end() -> None:
    callback = watcher(None)
    assert callback.session.phase is Phase.IDLE and not callback.session.active
    phases = phases_of(callback)
    assert phases.seen == [Phase.OPEN, Phase.TRAINING, Phase.ENDED]
    assert phases.read == [
        ReaderPhase.WAITING,
        ReaderPhase.TRACING,
        ReaderPhase.READING,
        ReaderPhase.CLOSED,
    ]
    assert not hasattr(callback.session, "trainer")


def test_a_failure_disables_it_for_the_rest_of_the_fit_and_the_next_fit_begins_anew() -> None:
    class Moody(Scripted):
        def predict(self, history: Any, **_: Any) -> Any:
            raise ZeroDivisionError

    callback = watcher(Moody({}), strict=False)
    with pytest.warns(NNDynWarning, match="gives up"):
        phases = phases_of(callback)
    assert phases.seen == [Phase.OPEN, Phase.TRAINING, Phase.DISABLED]
    assert phases.read[-1] is ReaderPhase.CLOSED and times(callback) == [0.0, 0.0625]
    callback.predictor = None
    assert phases_of(callback).seen[-1] is Phase.ENDED and times(callback)[-1] == 1.0


def test_a_predictor_that_cannot_be_loaded_fails_before_training() -> None:
    with pytest.warns(NNDynWarning, match="gives up"):
        phases = phases_of(watcher("./missing.skops", strict=False))
    assert phases.seen[0] is Phase.FAILED and phases.seen[-1] is not Phase.TRAINING
    assert set(phases.read) == {ReaderPhase.CLOSED}


def test_an_exception_ends_it() -> None:
    class Wrong(Digits):
        def training_step(self, *_: Any) -> None:
            raise RuntimeError("out of order")

    callback = watcher(None)
    with pytest.raises(RuntimeError, match="out of order"):
        trainer(callback).fit(Wrong())
    assert callback.session.phase is Phase.ENDED


def test_the_next_fit_of_a_trainer_goes_on_with_the_record_and_another_trainer_begins_one() -> None:
    callback = curve_reader()
    run, model = trainer(callback, max_epochs=1), Digits(validate=True)
    run.fit(model)
    first = callback.session
    run.fit_loop.max_epochs = 2
    run.fit(model)
    assert callback.session is not first and callback.session.record is first.record
    trainer(callback, max_epochs=1).fit(Digits(validate=True))
    assert callback.session.record is not first.record and times(callback)[-1] == 1.0


def test_arguments_that_change_between_fits_count_from_the_next_fit_on() -> None:
    callback = watcher(action="observe")
    assert trainer(callback, max_epochs=1).fit(Digits(DOOMED)) is None and callback.decision.stop
    callback.action = "stop"
    run = trainer(callback, max_epochs=1)
    run.fit(Digits(DOOMED))
    assert run.global_step == 2


def test_copies_hold_no_trainer() -> None:
    class Copying(L.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            self.state = callback.session.__getstate__()

    callback, copying = watcher(None), Copying()
    trainer(callback, copying, max_epochs=1).fit(Digits())
    assert "trainer" not in copying.state and copying.state["_owner"] is None
    sent = pickle.loads(pickle.dumps(callback))
    assert sent.history == callback.history and sent.session.phase is Phase.ENDED


def test_a_callback_that_takes_part_in_no_fit_has_a_state() -> None:
    callback, other = watcher(None), watcher(None)
    other.load_state_dict(callback.state_dict())
    assert other.history == [] and not other.session.active
