"""One callback object takes part in one fit at a time, on all processes of it or on none."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import Digits, hooks, outcome, times, trainer, watcher
from digits_runs import predictor
from processes import PATIENCE, needs_gloo, results, run_script

from lightning_nndyn.callback.record_file import read_record
from lightning_nndyn.errors import NNDynError, NNDynWarning

REFUSED = "takes part in the fit of another Trainer"


class Inner(L.Callback):
    """Fits another model with the same callback in one hook of the outer fit."""

    def __init__(self, shared: Any, hook: str, work: Any = None) -> None:
        self.shared, self.model, self.work = shared, Digits(seed=1), work or self.fit
        setattr(self, hook, self.act)
        self.done = False

    def act(self, *_: Any) -> None:
        if not self.done:
            self.done = True
            self.work()

    def fit(self) -> None:
        trainer(self.shared, max_epochs=1).fit(self.model)


def alone() -> Any:
    callback, model = watcher(action="observe"), Digits()
    trainer(callback, max_epochs=2).fit(model)
    return outcome(callback), model.losses


HOOKS = [
    "on_train_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_train_batch_end",
    "on_train_epoch_end",
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_a_fit_inside_a_hook_is_refused_and_the_outer_one_is_judged(hook: str, first: bool) -> None:
    shared, model = watcher(action="observe", strict=False), Digits()
    inner = Inner(shared, hook)
    with pytest.warns(NNDynWarning, match=REFUSED) as found:
        trainer(*([inner, shared] if first else [shared, inner]), max_epochs=2).fit(model)
    assert len([w for w in found if w.category is NNDynWarning]) == 1
    assert (outcome(shared), model.losses) == alone() and inner.model.losses
    assert hooks(model) == hooks(inner.model) == 0


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_epoch_end"])
def test_validation_by_another_trainer_inside_a_hook_harms_nothing(hook: str) -> None:
    shared, model = watcher(action="observe"), Digits()
    other = Digits(validate=True)
    inner = Inner(shared, hook, lambda: trainer(shared).validate(other, verbose=False))
    trainer(shared, inner, max_epochs=2).fit(model)
    assert (outcome(shared), model.losses) == alone()


def test_strict_raises_in_the_inner_fit_and_the_outer_one_may_go_on() -> None:
    shared = watcher(action="observe")

    def refused() -> None:
        with pytest.raises(NNDynError, match=REFUSED):
            trainer(shared, max_epochs=1).fit(Digits(seed=1))

    trainer(shared, Inner(shared, "on_train_batch_end", refused), max_epochs=2).fit(Digits())
    assert outcome(shared) == alone()[0]


def test_an_inner_fit_that_fails_or_is_resumed_leaves_the_outer_record_alone(tmp_path: Path) -> None:
    class Wrong(Digits):
        def training_step(self, *_: Any) -> None:
            raise ZeroDivisionError

    shared = watcher(action="observe", strict=False, record=tmp_path)
    earlier = trainer(watcher(action="observe"), max_epochs=1)
    earlier.fit(Digits(seed=2))
    earlier.save_checkpoint(tmp_path / "earlier.ckpt")

    def work() -> None:
        with pytest.raises(ZeroDivisionError):
            trainer(shared).fit(Wrong())
        inner = trainer(shared, max_epochs=2)
        inner.fit(Digits(seed=2), ckpt_path=tmp_path / "earlier.ckpt")
        inner.save_checkpoint(tmp_path / "inner.ckpt")

    with pytest.warns(NNDynWarning, match=REFUSED):
        trainer(shared, Inner(shared, "on_train_batch_end", work), max_epochs=2).fit(Digits())
    assert outcome(shared) == alone()[0]
    (file,) = tmp_path.glob("nndyn-*.json")
    assert read_record(file)["status"] == "finished"
    assert not torch.load(tmp_path / "inner.ckpt", weights_only=True)["callbacks"]


def test_two_threads_with_one_object_have_one_history_and_each_trains_to_its_end() -> None:
    shared = watcher(action="observe", strict=False)
    barrier = threading.Barrier(2)

    class Together(Digits):
        def on_train_start(self) -> None:
            barrier.wait(PATIENCE)

    models = [Together(), Together()]
    with pytest.warns(NNDynWarning, match=REFUSED):
        threads = [threading.Thread(target=trainer(shared, max_epochs=2).fit, args=(m,)) for m in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (outcome(shared), models[0].losses) == alone() == (outcome(shared), models[1].losses)


def test_fits_one_after_the_other_and_copies_of_one_that_is_open_take_part() -> None:
    shared, copies = watcher(action="observe"), []

    class Copies(L.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            copies.append(copy.deepcopy(shared))
            trainer(copies[-1], max_epochs=2).fit(Digits())

    trainer(shared, Copies(), max_epochs=1).fit(Digits())
    assert times(shared)[-1] == 1.0 and outcome(copies[0]) == alone()[0]
    trainer(shared, max_epochs=2).fit(Digits())
    assert outcome(shared) == alone()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("participants")
    predictor()  # the two processes read it, and need not import what fits it
    run_script("participants_script.py", folder, copies=2)
    return folder


@needs_gloo
@pytest.mark.parametrize(
    ("name", "has"),
    [("on the first", [1, 0]), ("on the second", [0, 1]), ("other times", [1, 1]), ("one of two", [1, 0])],
)
def test_where_processes_are_without_it_the_others_train_on_without_it_too(
    folder: Path, name: str, has: list[int]
) -> None:
    found, plain = results(folder, name), results(folder, "nobody")
    for result, mine, without in zip(found, has, plain, strict=True):
        assert result["error"] is None and result["weights"] == without["weights"]
        said = [message for message in result["warnings"] if "gives up" in message]
        assert len(said) == mine and all("on every process" in message for message in said)


@needs_gloo
def test_where_all_have_it_again_all_read(folder: Path) -> None:
    for result in results(folder, "on both"):
        assert result["error"] is None and result["times"][-1] == 2.0 and not result["warnings"]


@needs_gloo
def test_strict_says_it_by_an_error(folder: Path) -> None:
    (first,) = results(folder, "strict", processes=1)
    assert "NNDynError" in first["error"] and "on every process" in first["error"]
