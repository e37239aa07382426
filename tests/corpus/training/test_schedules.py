"""Learning rates over a training."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_nndyn.corpus import get_preset
from lightning_nndyn.corpus.training.schedules import SCHEDULES, learning_rate_factor, schedule_factor
from lightning_nndyn.errors import CorpusError


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("constant", 0.99, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.5, 0.5),
        ("step", 0.49, 1.0),
        ("step", 0.5, 0.1),
        ("step", 0.75, 0.01),
        ("warmup_cosine", 0.0, 0.1),
        ("warmup_cosine", 0.1, 1.0),
        ("warmup_cosine", 0.55, 0.5),
    ],
)
def test_a_schedule_is_a_function_of_progress(schedule: str, progress: float, factor: float) -> None:
    assert math.isclose(schedule_factor(schedule, progress), factor)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_stay_within_zero_and_one(schedule: str) -> None:
    factors = [schedule_factor(schedule, step / 1000) for step in range(1000)]
    assert min(factors) > 0 and max(factors) <= 1
    assert factors[100:] == sorted(factors[100:], reverse=True)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(CorpusError, match="'linear'"):
        schedule_factor("linear", 0.0)


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=1001, cycle_momentum=False)
    config = replace(get_preset("sweeps").config(0), schedule="one_cycle", warmup=0.0)
    for step in range(1000):
        assert learning_rate_factor(config, step / 1000) == pytest.approx(
            scheduler.get_last_lr()[0], abs=5e-3
        )
        optimizer.step()
        scheduler.step()


def test_warm_up_comes_before_the_schedule() -> None:
    config = replace(get_preset("sweeps").config(0), schedule="cosine", warmup=0.2)
    factors = [learning_rate_factor(config, progress) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert factors == pytest.approx([0.01, 0.505, 1.0, 0.5, 0.0])
    assert learning_rate_factor(replace(config, warmup=0.0), 0.5) == pytest.approx(0.5)
