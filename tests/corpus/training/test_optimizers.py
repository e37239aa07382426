"""Optimizers of runs."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_nndyn.corpus import get_preset
from lightning_nndyn.corpus.run_config import OPTIMIZERS
from lightning_nndyn.corpus.training.optimizers import Lion, make_optimizer


def test_lion_steps_as_its_paper_says() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5))
    ours, momentum = weight.detach().clone(), torch.zeros(5)
    optimizer = Lion(iter([weight]), 0.01, (0.9, 0.99), 0.1)
    for _ in range(20):
        gradient = torch.randn(5)
        weight.grad = gradient.clone()
        optimizer.step()
        direction = torch.sign(0.9 * momentum + 0.1 * gradient)
        momentum = 0.99 * momentum + 0.01 * gradient
        ours = ours - 0.01 * (direction + 0.1 * ours)
        assert torch.allclose(weight.detach(), ours, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 1), torch.randn(64, 4)
    targets = inputs.sum(1, keepdim=True)
    config = replace(
        get_preset("sweeps").config(0), optimizer=name, learning_rate=0.01, momentum=0.9, weight_decay=0.0
    )
    optimizer = make_optimizer(config, model.parameters())
    losses = []
    for _ in range(100):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
