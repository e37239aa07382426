"""Fits the model of standings to random cohorts of recorded sweeps."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_nndyn._files import write_atomically
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep
from lightning_nndyn.signature.snapshot import Array
from lightning_nndyn.sweep import SweepRun
from lightning_nndyn.sweep.cohort import INPUTS, cohort_table, normal_scores
from lightning_nndyn.sweep.standing import LOG_STD_RANGE, StandingModel

MEMBERS = 4
"""Networks of the committee."""

_UNITS, _STEPS, _BATCH, _RATE, _DECAY = 24, 600, 48, 4e-3, 0.1
_DROPPED_UNITS, _DROPPED_INPUTS = 0.2, 0.15  # an input is dropped for a whole cohort: a sweep may lack it
_SMALLEST, _LARGEST = 4, 40  # runs in a cohort
_LATEST = 16.0  # epochs: later, the metric's own order is the best there is
_DRAWS, _GRID_DRAWS = (
    8,
    20,
)  # cohorts that are drawn at each time of a sweep, and of a grid's hundreds of runs
_GRID_WEIGHT = 0.3  # a grid of the paper is not what people sweep


@dataclass(frozen=True)
class _Cohorts:
    """Cohorts, filled up to the same number of runs.

    Attributes:
        tables: shape [cohorts, runs, inputs].
        targets: normal scores of the final values, shape [cohorts, runs].
        present: which runs there are, shape [cohorts, runs].
        weights: how often a cohort is drawn, relative to others; shape [cohorts].
    """

    tables: Tensor
    targets: Tensor
    present: Tensor
    weights: Array


def fit_standing_model(
    sweeps: Sequence[RecordedSweep], *, seed: int = 0, leave_out: Sequence[str] = ()
) -> StandingModel:
    """Fit a committee to recorded sweeps. The same arguments give the same model.

    Args:
        sweeps: of as many families and data sets as possible.
        seed: of draws and initial weights.
        leave_out: inputs, of `INPUTS`, that the model ignores: to measure what they are worth.
    """
    cohorts = _filled_up([cohort for sweep in sweeps for cohort in _drawn_cohorts(sweep, seed)])
    ignored = [INPUTS.index(name) for name in leave_out]
    cohorts.tables[..., ignored] = 0
    members = [_train_member(cohorts, seed=seed + number) for number in range(MEMBERS)]
    parts = [[part.detach().numpy().astype(np.float64) for part in member.arrays()] for member in members]
    model = StandingModel(*(np.stack(part) for part in zip(*parts, strict=True)))
    model.linear[:, ignored] = 0
    model.first[:, ignored] = 0
    return model


def save_with_card(model: StandingModel, sweeps: Sequence[RecordedSweep], path: Path) -> None:
    """Write PATH.npz, and PATH.json: what the model was fitted to.

    Args:
        model: fitted.
        sweeps: to which.
        path: without ending; a missing folder is created.
    """
    array_file = path.with_name(f"{path.name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(array_file)
    content = array_file.read_bytes()
    card = {
        "corpora": dict(sorted(Counter(sweep.corpus for sweep in sweeps).items())),
        "families": sorted({sweep.family for sweep in sweeps}),
        "datasets": sorted({sweep.dataset for sweep in sweeps}),
        "runs": sum(len(sweep.runs) for sweep in sweeps),
        "inputs": INPUTS,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(path.with_name(f"{path.name}.json"), (json.dumps(card, indent=1) + "\n").encode())


# -- cohorts -------------------------------------------------------------------------------------------------


class _Cohort(NamedTuple):
    table: NDArray[np.float32]
    targets: NDArray[np.float32]
    weight: float


@lru_cache(maxsize=1000)
def _drawn_cohorts(sweep: RecordedSweep, seed: int) -> list[_Cohort]:
    """Random cohorts of a sweep, which do not depend on the other sweeps: many fits share most of them."""
    rng = np.random.default_rng([seed, zlib.crc32(sweep.name.encode())])
    weight = _GRID_WEIGHT if sweep.is_grid else 1.0
    cohorts = []
    for time in times_of(sweep.runs):
        for runs in _cohorts_at(sweep, time, rng):
            values = np.array([[run.value] for run in runs], dtype=np.float64)
            targets = normal_scores(values)[:, 0].astype(np.float32)
            cohorts.append(_Cohort(cohort_table(runs, time).astype(np.float32), targets, weight))
    return cohorts


def _filled_up(cohorts: Sequence[_Cohort]) -> _Cohorts:
    shape = len(cohorts), _LARGEST
    tables, targets = np.zeros((*shape, len(INPUTS)), np.float32), np.zeros(shape, np.float32)
    present = np.zeros(shape, np.bool_)
    for index, cohort in enumerate(cohorts):
        size = len(cohort.table)
        tables[index, :size], targets[index, :size], present[index, :size] = (
            cohort.table,
            cohort.targets,
            True,
        )
    weights = np.array([cohort.weight for cohort in cohorts])
    return _Cohorts(torch.from_numpy(tables), torch.from_numpy(targets), torch.from_numpy(present), weights)


def times_of(runs: Sequence[SweepRun]) -> list[float]:
    """The times at which a third of the runs were read."""
    counts = Counter(reading.time for run in runs for reading in run.readings)
    return sorted(
        time for time, n in counts.items() if n >= max(_SMALLEST, len(runs) / 3) and time <= _LATEST
    )


def _cohorts_at(sweep: RecordedSweep, time: float, rng: np.random.Generator) -> Iterator[list[SweepRun]]:
    runs = [run for run in sweep.runs if run.at(time) is not None]
    values = np.array([run.value for run in runs], dtype=np.float64)
    rates = np.log10([float(run.params["learning_rate"]) for run in runs])
    for _ in range(_GRID_DRAWS if sweep.is_grid else _DRAWS):
        pool = _narrowed(values, rates, rng) if sweep.is_grid else np.arange(len(runs))
        size = min(len(pool), int(rng.integers(_SMALLEST, _LARGEST + 1)))
        yield [runs[index] for index in rng.permutation(pool)[:size]]


def _narrowed(values: Array, rates: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some of a grid's runs, as a narrower search space has them: the better ones, or similar rates."""
    kind = rng.random()
    if kind < 1 / 3:
        return np.argsort(-values)[: max(15, int(len(values) * rng.uniform(0.3, 0.7)))]
    if kind < 2 / 3:
        low = rng.uniform(rates.min(), rates.max() - 1)
        inside = np.flatnonzero((rates >= low) & (rates <= low + rng.uniform(1, 2.5)))
        if len(inside) >= _SMALLEST:
            return inside
    return np.arange(len(values))


# -- training ------------------------------------------------------------------------------------------------


class _Member(nn.Module):
    """`StandingModel` with one member, to be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(len(INPUTS), 1, bias=False)
        self.first, self.second = nn.Linear(len(INPUTS), _UNITS), nn.Linear(_UNITS, _UNITS)
        self.last = nn.Linear(_UNITS, 2)
        self.drop = nn.Dropout(_DROPPED_UNITS)
        nn.init.zeros_(self.last.weight)

    def forward(self, tables: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.drop(torch.relu(self.first(tables)))
        hidden = self.drop(torch.relu(self.second(hidden)))
        out = self.last(hidden)
        return out[..., 0] + self.linear(tables)[..., 0], out[..., 1].clamp(*LOG_STD_RANGE)

    def arrays(self) -> list[Tensor]:
        """The arrays of `StandingModel`, in its order."""
        layers = [(layer.weight.T, layer.bias) for layer in (self.first, self.second, self.last)]
        return [self.linear.weight[0], *(array for layer in layers for array in layer)]


def _train_member(cohorts: _Cohorts, seed: int) -> _Member:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        member = _Member()
        optimizer = torch.optim.AdamW(member.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
        shares = cohorts.weights / cohorts.weights.sum()
        for _ in range(_STEPS):
            batch = torch.from_numpy(rng.choice(len(shares), _BATCH, p=shares))
            kept = torch.rand(_BATCH, 1, len(INPUTS), generator=generator) > _DROPPED_INPUTS
            means, log_stds = member(cohorts.tables[batch] * kept)
            errors = (cohorts.targets[batch] - means) / log_stds.exp()
            loss = (errors**2 / 2 + log_stds)[cohorts.present[batch]].mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(member.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return member.eval()
