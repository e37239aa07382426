"""Losses are averaged on their device, and the averages do not depend on when somebody asks."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_nndyn.callback.losses import LossMeter


def means(values: list[float], lately: int) -> list[float]:
    return [sum(values) / len(values), sum(values[-lately:]) / len(values[-lately:])]


@pytest.mark.parametrize("batches", [400, 2000])
def test_what_is_summed_up_in_between_does_not_show(batches: int) -> None:
    """However many losses are put aside when somebody asks, or a checkpoint is saved."""
    often, once, losses = LossMeter(batches), LossMeter(batches), torch.rand(333)
    for count, loss in enumerate(losses, start=1):
        often.add(loss / 4, parts=4)
        once.add(loss / 4, parts=4)
        if count % 7 == 0:
            state = often.state()
            often.restore(state, torch.device("cpu"))
    found = often.read(torch.device("cpu"))
    assert torch.equal(found, once.read(torch.device("cpu")))
    assert found.tolist() == pytest.approx(means(losses.tolist(), batches // 16), rel=1e-6)


@pytest.mark.parametrize("batches", [3, 32, 100, math.inf])
def test_the_meter_gives_plain_means(batches: float) -> None:
    meter = LossMeter(batches)
    lately = 16 if math.isinf(batches) else math.ceil(batches / 16)
    for _ in range(2):
        losses = torch.rand(50).tolist()
        meter.begin_epoch()
        assert meter.read(torch.device("cpu")).isnan().all()
        for count, loss in enumerate(losses, start=1):
            meter.add(torch.tensor(loss))
            assert meter.read(torch.device("cpu")).tolist() == pytest.approx(means(losses[:count], lately))


def test_the_meter_takes_what_training_steps_return_and_passes_over_the_rest() -> None:
    meter, two = LossMeter(16), torch.tensor(2.0, dtype=torch.float16)
    others = [None, {}, {"loss": None}, "text", torch.zeros(3), {"logits": torch.zeros(1)}, 7.0]
    for outputs in [{"loss": two, "logits": torch.zeros(3)}, two, two.view(1, 1), *others]:
        meter.add(outputs)
    assert meter.read(torch.device("cpu")).tolist() == [2.0, 2.0]
    assert meter.state()["count"] == 3


def test_the_meter_keeps_its_own_copy_without_gradient() -> None:
    meter, static = LossMeter(32), torch.tensor(1.0, requires_grad=True)
    meter.add(static * 1)
    buffer = torch.tensor(3.0)
    meter.add(buffer)
    buffer.fill_(100.0)  # the next step's loss, at the same place
    read = meter.read(torch.device("cpu"))
    assert read.tolist() == [2.0, 2.0] and not read.requires_grad


def test_adding_a_loss_waits_for_nothing() -> None:
    """A tensor on the meta device has no value: whoever asks for it gets an error."""
    meter = LossMeter(32)
    for _ in range(400):
        meter.add({"loss": torch.zeros((), device="meta")}, parts=4)
    with pytest.raises((NotImplementedError, RuntimeError)):
        meter.read(torch.device("cpu"))


def test_the_meter_goes_on_from_its_state() -> None:
    first, second, losses = LossMeter(64), LossMeter(64), torch.rand(20)
    for loss in losses[:11]:
        first.add(loss)
    second.restore(first.state(), torch.device("cpu"))
    for loss in losses[11:]:
        first.add(loss)
        second.add(loss)
    assert torch.equal(first.read(torch.device("cpu")), second.read(torch.device("cpu")))
    second.restore(LossMeter(64).state(), torch.device("cpu"))
    assert second.read(torch.device("cpu")).isnan().all()
