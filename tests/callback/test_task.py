"""What the callback says and does for each kind of task: accuracy is spoken of only where there is one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import torch.nn.functional as F
from callback_runs import listening, trainer, watcher
from digits_runs import loader
from torch import Tensor, nn

from lightning_nndyn import GraphDynamicsCallback
from lightning_nndyn.callback.task import RunTask
from lightning_nndyn.errors import NNDynWarning

Batch = tuple[Tensor, Tensor]


def mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*[part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())][:-1])


class Classifier(L.LightningModule):
    """Of digits, with whatever learning rate, unit of its accuracy and loss function."""

    name, unit, outputs = "val_acc", 1.0, 10

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.lr, self.net = lr, mlp(64, 32, 32, self.outputs)

    def forward(self, batch: Batch) -> Tensor:
        return self.net(batch[0].flatten(1))

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self(batch), batch[1])

    def score(self, batch: Batch) -> Tensor:
        return (self(batch).argmax(1) == batch[1]).float().mean()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log(self.name, self.unit * self.score(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.5)

    def train_dataloader(self) -> Any:
        return loader()

    val_dataloader = train_dataloader


class Regression(Classifier):
    name, outputs = "val_mae", 8

    def loss(self, batch: Batch) -> Tensor:
        return F.mse_loss(self(batch), batch[0].flatten(1)[:, :8])

    def score(self, batch: Batch) -> Tensor:
        return F.l1_loss(self(batch), batch[0].flatten(1)[:, :8])


class SelfSupervised(Classifier):
    """Contrastive, with as many outputs as examples in a batch."""

    name, outputs = "val_alignment", 32

    def loss(self, batch: Batch) -> Tensor:
        noisy = batch[0] + 0.1 * torch.randn_like(batch[0])
        one, other = (F.normalize(self((x, batch[1]))) for x in (batch[0], noisy))
        return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))


class Reinforcement(Classifier):
    name = "val_reward"

    def loss(self, batch: Batch) -> Tensor:
        policy = torch.distributions.Categorical(logits=self(batch))
        action = policy.sample()
        return -(policy.log_prob(action) * ((action == batch[1]).float() - 0.1)).mean()


class Gan(Classifier):
    name = "val_fid"

    def __init__(self) -> None:
        super().__init__()
        self.net, self.judge, self.automatic_optimization = mlp(16, 64, 64), mlp(64, 64, 1), False

    def score(self, batch: Batch) -> Tensor:
        return self.judge(batch[0].flatten(1)).mean()

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        made, label, real = self.net(torch.randn(len(batch[1]), 16)), torch.ones(len(batch[1]), 1), batch[0]
        judged = F.binary_cross_entropy_with_logits
        losses = (
            lambda: judged(self.judge(made), label),
            lambda: judged(self.judge(real.flatten(1)), label) + judged(self.judge(made.detach()), 0 * label),
        )
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters()) for part in (self.net, self.judge)]


def run(
    model: Callable[[], Any], caplog: Any = None, epochs: int = 2, **settings: Any
) -> tuple[Any, list[str]]:
    """The callback of a run with `universal`, and the lines that it has printed."""
    callback = GraphDynamicsCallback(**{"strict": True, "record": False, **settings})
    torch.manual_seed(3)
    if caplog is None:
        trainer(callback, max_epochs=epochs).fit(model())
        return callback, []
    caplog.set_level(logging.INFO)
    with listening(caplog):
        trainer(callback, max_epochs=epochs).fit(model())
    said = [record.getMessage() for record in caplog.records]
    return callback, [text for text in said if text.startswith("GraphDynamicsCallback: ")]


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (Regression, "its loss: mse_loss"),
        (SelfSupervised, "its loss: cross_entropy"),
        (Reinforcement, ""),
        (Gan, ""),
    ],
)
@pytest.mark.parametrize("monitored", [True, False])
def test_where_there_is_no_accuracy_none_is_spoken_of(
    model: Any, known: str, monitored: bool, caplog: Any, tmp_path: Path
) -> None:
    monitor, mode = (model.name, "max") if monitored else (None, None)
    callback, said = run(model, caplog, monitor=monitor, mode=mode, record=tmp_path)
    assert callback.verdicts == [] and not callback.decision.stop
    assert "accuracy" not in callback.decision.reason.replace("is no accuracy", "")
    assert len(said) == 1 and "stopped only if it diverges" in said[0]
    assert ("is no accuracy" if monitored else "nothing shows that the task is a classification") in said[0]
    assert monitored or known in said[0]
    (file,) = tmp_path.glob("nndyn-*.json")
    stored = json.loads(file.read_text())
    assert stored["mode"] == mode and len(stored["history"]) == 7
    if monitored:
        assert stored["unit"] == "own" and stored["accuracies"] == stored["metrics"][model.name]


def test_a_classification_is_known_by_its_loss_or_by_what_it_logs(caplog: Any) -> None:
    callback, (line,) = run(Classifier, caplog, epochs=1)
    assert len(callback.verdicts) == 5 and "universal judges it by weights for 5 epochs; may stop" in line

    class Focal(Classifier):
        def loss(self, batch: Batch) -> Tensor:
            right = self(batch).softmax(1).gather(1, batch[1][:, None])
            return -((1 - right) * right.log()).mean()

    assert [verdict.epoch for verdict in run(Focal)[0].verdicts] == [2.0]  # once val_acc is logged


def test_runs_that_diverge_are_stopped_whatever_the_task() -> None:
    callback, _ = run(lambda: Regression(1e25), monitor="val_mae")
    assert callback.decision.stop and callback.decision.reason.startswith("training has diverged")
    assert callback.verdicts == []


class Percent(Classifier):
    unit = 100.0


def test_percent_is_noticed_and_used_as_a_fraction(caplog: Any) -> None:
    fractions, _ = run(Classifier, epochs=3, monitor="val_acc")
    percent, said = run(Percent, caplog, epochs=3, monitor="val_acc")
    found, wanted = percent.session.record, fractions.session.record
    assert found.accuracies == pytest.approx(wanted.accuracies, abs=1e-5) and found.unit == "percent"
    assert [one.p_low for one in percent.verdicts] == pytest.approx(
        [one.p_low for one in fractions.verdicts], abs=1e-3
    )
    assert said[-1] == "GraphDynamicsCallback: val_acc is in percent, and read as a fraction"


def test_no_prediction_is_worse_than_what_was_seen() -> None:
    class Good(Classifier):
        def score(self, batch: Batch) -> Tensor:
            return torch.tensor(0.982)

    callback, _ = run(Good, monitor="val_acc", epochs=3)
    late = [verdict for verdict in callback.verdicts if verdict.epoch >= 1]
    assert len(late) == 3 and all(one.predicted_accuracy >= 0.982 - 1e-6 for one in late)


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        ({}, 5),
        ({"action": "observe"}, 10),
        ({"min_epochs": 7}, 7),
    ],
)
def test_a_run_that_gets_nowhere_in_half_of_its_plan(settings: dict[str, Any], end: int) -> None:
    action = settings.get("action", "stop")
    callback = GraphDynamicsCallback(
        monitor="val_mae", action=action, record=False, verbose=False, strict=True
    )
    facts = {name: value for name, value in settings.items() if name != "action"}
    fit = trainer(callback, **{"max_epochs": 10, **facts})
    fit.fit(Regression(lr=1e-9))
    assert callback.decision.stop and fit.current_epoch == end
    assert "val_mae has not improved" in callback.decision.reason


def test_a_classification_at_chance_level(caplog: Any) -> None:
    settings = {"monitor": "val_acc", "max_false_stop_rate": 0.001}  # too low for the predictor to stop it
    callback, said = run(lambda: Classifier(1e-8), caplog, epochs=16, **settings)
    assert callback.decision.stop and callback.decision.epoch == 8.0
    assert "then by val_acc; is stopped only if it diverges, or if val_acc gets nowhere by epoch 8" in said[0]
    assert "at chance level" in said[-1] or "has not improved" in said[-1]


def test_metrics_whose_better_values_nobody_knows_are_asked_for_once() -> None:
    class Score(Classifier):
        name = "score"

    callback = GraphDynamicsCallback(monitor="score", record=False, verbose=False)
    with pytest.warns(NNDynWarning, match="mode='max' or mode='min'") as found:
        trainer(callback).fit(Score())
    assert len([one for one in found if one.category is NNDynWarning]) == 1
    assert callback.session.record.accuracies == []
    assert run(Score, monitor="score", mode="max")[0].session.record.unit == "own"


def test_modes_that_cannot_be() -> None:
    for wrong in ({"mode": "up", "monitor": "val_acc"}, {"mode": "max"}):
        with pytest.raises(ValueError, match="mode="):
            GraphDynamicsCallback(**wrong)  # type: ignore[arg-type]


def test_own_predictors_are_taken_for_what_is_monitored() -> None:
    def task(monitor: str | None, **settings: Any) -> RunTask:
        return RunTask(watcher(monitor=monitor, **settings)._settings())

    for monitor in (None, "score", "val_iou"):
        assert task(monitor).has_accuracy
    assert not task("val_loss").has_accuracy and not task("score", mode="min").has_accuracy


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "optimizers", "known"),
    [
        ("cross_entropy", (32, 10), 10, 1, True),
        ("nll_loss", (32, 10), 10, 0, True),  # the model steps by itself
        ("cross_entropy", (32, 10), 10, 2, False),  # a part of something else
        ("cross_entropy", (32, 10), 12, 1, False),
        ("cross_entropy", (10, 10), 10, 1, False),  # examples with examples
        ("cross_entropy", (32, 10, 7), 10, 1, False),
        ("mse_loss", (32, 10), 10, 1, False),
        ("binary_cross_entropy", (32,), 1, 1, True),
        ("binary_cross_entropy", (32, 5), 5, 1, False),
    ],
)
def test_losses_of_classifications(
    name: str, shape: tuple[int, ...], outputs: int, optimizers: int, known: bool
) -> None:
    task = RunTask(GraphDynamicsCallback("universal")._settings())
    assert not task.is_classification
    task.see_losses([("l1_loss", (3,)), (name, shape)], outputs, optimizers)
    assert task.is_classification is task.has_accuracy is known
    task.see_losses([], outputs, optimizers)  # of another batch
    assert task.is_classification is known


def test_the_direction_of_a_sweep_is_the_mode_of_its_metric() -> None:
    optuna = pytest.importorskip("optuna")

    def callback(direction: str, **settings: Any) -> GraphDynamicsCallback:
        trial = optuna.create_study(direction=direction).ask()
        return GraphDynamicsCallback(monitor="score", trial=trial, **settings)

    metric = callback("minimize").session.decisions.task.metric
    assert metric is not None and metric.mode == "min"
    assert callback("maximize", mode="max").mode == "max"
    with pytest.raises(ValueError, match="the trial's sweep is to minimize"):
        callback("minimize", mode="max")
