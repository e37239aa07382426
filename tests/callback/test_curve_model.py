"""Runs that no predictor knows are judged by their curve; those that one knows are predicted to their end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from callback_runs import listening, trainer
from digits_runs import loader
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nndyn as nd
from lightning_nndyn.predictor.verdict import CURVE

Batch = tuple[Tensor, Tensor]


class RowReader(L.LightningModule):
    """An LSTM over the rows of digits, trained by RMSprop: no predictor knows either."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr, self.cells, self.head = lr, nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.cells(images.reshape(len(images), 8, 8))[0][:, -1])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.RMSprop(self.parameters(), self.lr)

    def train_dataloader(self) -> Any:
        return loader()

    val_dataloader = train_dataloader


class Perceptron(RowReader):
    """Known to `universal`."""

    def __init__(self, lr: float) -> None:
        super().__init__(lr)
        self.cells = self.head = None
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


def fitted(model: L.LightningModule, epochs: int, **settings: Any) -> tuple[Any, Any]:
    callback = nd.GraphDynamicsCallback(**{"monitor": "val_acc", "strict": True, "record": False, **settings})
    run = trainer(callback, max_epochs=epochs)
    run.fit(model)
    return callback, run


def test_an_unknown_run_that_is_stuck_is_stopped_before_half_of_its_plan(caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    with listening(caplog):
        callback, run = fitted(RowReader(1e-7), 20)
    texts = [record.getMessage() for record in caplog.records]
    said = [text for text in texts if text.startswith("GraphDynamicsCallback: ")]
    assert "universal does not know such runs (it is trained by rmsprop" in said[0]
    assert "val_acc" in said[0] and "alone judges it" in said[0] and "may stop it from epoch 5 on" in said[0]
    assert 5 <= run.current_epoch < 10 and callback.verdicts[-1].kind == CURVE
    assert "stops this run: predicted final accuracy" in said[-1]
    assert len(said) == 2


def test_an_unknown_run_that_learns_is_predicted_to_its_end() -> None:
    callback, run = fitted(RowReader(3e-3), 12)
    curve = [verdict for verdict in callback.verdicts if verdict.kind == CURVE]
    assert run.current_epoch == 12 and not callback.decision.stop
    assert [verdict.epoch for verdict in curve] == list(range(3, 13))
    best = max(callback.session.record.accuracies)
    assert curve[-2].predicted_accuracy == pytest.approx(best, abs=0.1)


def test_nothing_is_stopped_where_one_only_observes() -> None:
    callback, run = fitted(RowReader(1e-7), 12, action="observe")
    assert run.current_epoch == 12 and callback.decision.stop and callback.decision.epoch < 6


def test_a_run_that_the_predictor_knows_is_predicted_by_its_curve_and_judged_by_the_predictor() -> None:
    callback, run = fitted(Perceptron(0.05), 10)
    kinds = [verdict.kind for verdict in callback.verdicts]
    assert run.current_epoch == 10 and kinds[-1] == CURVE
    known = [verdict for verdict in callback.verdicts if verdict.kind != CURVE]
    assert known[-1].epoch == 5 and callback.decision.epoch == 5


def test_a_predictor_of_ones_own_and_weights_alone_are_not_joined_by_the_curve(tmp_path: Path) -> None:
    callback, _ = fitted(RowReader(1e-7), 8, monitor=None)
    assert all(verdict.kind != CURVE for verdict in callback.verdicts)
    nd.load_predictor("lenet5-digits").save(tmp_path / "own")
    callback, _ = fitted(RowReader(1e-7), 8, predictor=str(tmp_path / "own"))
    assert all(verdict.kind != CURVE for verdict in callback.verdicts)
