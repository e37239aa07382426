"""What fails inside the callback warns once, and training goes on."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from callback_runs import Digits, Scripted, hooks, trainer, watcher
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nndyn import (
    Verdict,
)
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.record_file import RecordWriter
from lightning_nndyn.callback.session import RunSession
from lightning_nndyn.errors import NNDynError, NNDynWarning
from lightning_nndyn.graph.tracing import recorder


class Factors(Digits):
    """Multiplies entry by entry: there is no layer in it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.ParameterList([torch.randn(10, 64)])

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits = (batch[0].flatten(1).unsqueeze(1) * self.net[0]).mean(-1)
        loss = F.cross_entropy(logits, batch[1])
        self.losses.append(loss.item())
        return loss


class BadLogger(Logger):
    name, version = "bad", 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("nndyn/") for name in metrics):
            raise OSError("no space left on device")


class Moody(Scripted):
    def predict(self, history: Any, **_: Any) -> Verdict:
        if history[-1].epoch == 1.0:
            raise ZeroDivisionError("who would have thought")
        return super().predict(history)


class Unruly(Digits):
    """Takes a step of its own that Lightning does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.zero_grad()
        self.loss(batch).backward()
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter -= 0.01 * parameter.grad


FAILURES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], str]] = {
    "a model that cannot be traced": (Factors, {}, {}, "TracingError.*layers="),
    "no such predictor": (Digits, {"given": "./missing.skops"}, {}, "ArtefactError.*missing"),
    "no such layer": (Digits, {"layers": ["net.0", "net.99"]}, {}, "TracingError.*net.99"),
    "a logger that raises": (Digits, {}, {"logger": BadLogger()}, "OSError: no space left"),
    "a predictor that raises": (Digits, {"given": "moody"}, {}, "ZeroDivisionError"),
    "unseen steps": (Unruly, {}, {}, "NNDynError.*self.manual_backward"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_warns_once_and_training_goes_on(case: str) -> None:
    kind, arguments, settings, message = FAILURES[case]
    if arguments.get("given") == "moody":
        arguments = {"given": Moody({})}
    plain, watched = kind(), kind()
    trainer(**settings).fit(plain)
    callback = watcher(**{"strict": False, "action": "observe", **arguments})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run = trainer(callback, **settings)
        run.fit(watched)
    ours = [str(warning.message) for warning in found if warning.category is NNDynWarning]
    assert len(ours) == 1 and "training goes on without it" in ours[0]
    assert re.search(message, ours[0], re.DOTALL), ours[0]
    assert run.current_epoch == 3 and plain.losses == watched.losses
    assert hooks(watched) == 0


def test_an_error_of_the_tracer_is_not_the_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(operation: Any, *_: Any) -> Any:
        if operation.name == "relu":
            raise KeyError("a case that nobody has thought of")
        return propagate(operation, *_)

    propagate = recorder.propagate
    plain, watched = Digits(), Digits()
    trainer().fit(plain)
    monkeypatch.setattr(recorder, "propagate", broken)
    with pytest.warns(NNDynWarning, match="nobody has thought of"):
        trainer(watcher(None, strict=False)).fit(watched)
    assert plain.losses == watched.losses


def test_an_error_of_the_training_step_is_not_ours() -> None:
    class Wrong(Digits):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return self.net(batch[0]) @ batch[0]

    with pytest.raises(RuntimeError, match=r"expanded size|must match|shapes cannot be multiplied"):
        trainer(watcher(None, strict=False)).fit(Wrong())


@pytest.mark.parametrize("case", FAILURES)
def test_strict_raises_instead(case: str) -> None:
    kind, arguments, settings, _ = FAILURES[case]
    if arguments.get("given") == "moody":
        arguments = {"given": Moody({})}
    model = kind()
    with pytest.raises((NNDynError, OSError, ZeroDivisionError)):
        trainer(watcher(**{"action": "observe", **arguments}), **settings).fit(model)
    assert hooks(model) == 0


HOOKS = [
    "open", "check_processes", "start_training", "start_epoch", "start_batch", "end_forward", "start_step",
    "end_batch", "end_validation", "end_epoch", "end_training",
]  # fmt: skip
PARTS = [
    (RunSession, name) for name in (*HOOKS, "_add_state", "_open_record", "_record_late", "_end_run")
] + [(LossMeter, "_fold"), (LossMeter, "add"), (LoggedMetrics, "record"), (RecordWriter, "write")]


@pytest.mark.parametrize(("part", "name"), PARTS, ids=[f"{part.__name__}.{name}" for part, name in PARTS])
def test_whatever_fails_in_a_hook_ends_there(
    part: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("who would have thought")

    plain, watched = Digits(validate=True), Digits(validate=True)
    trainer(max_epochs=1).fit(plain)
    monkeypatch.setattr(part, name, broken)
    callback = watcher(strict=False, action="observe", record=tmp_path)
    saver = ModelCheckpoint(tmp_path, save_top_k=-1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run = trainer(callback, saver, max_epochs=1, enable_checkpointing=True)
        run.fit(watched)
    (ours,) = [str(warning.message) for warning in found if warning.category is NNDynWarning]
    assert "ZeroDivisionError" in ours and "training goes on without it" in ours
    assert run.current_epoch == 1 and plain.losses == watched.losses and hooks(watched) == 0
    with pytest.raises(ZeroDivisionError):
        trainer(
            watcher(action="observe", record=tmp_path),
            ModelCheckpoint(tmp_path),
            max_epochs=1,
            enable_checkpointing=True,
        ).fit(Digits(validate=True))
