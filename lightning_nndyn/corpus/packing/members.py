"""The runs of a pack: from their start to their records."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple

import torch

from lightning_nndyn.corpus.packing.optimizers import learning_rates
from lightning_nndyn.corpus.packing.pictures import Pictures
from lightning_nndyn.corpus.packing.stack import Stack
from lightning_nndyn.corpus.run_config import RunConfig
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.corpus.training.data import ImageData
from lightning_nndyn.corpus.training.recorder import EpochRow, Run, empty_record
from lightning_nndyn.corpus.training.seeding import seeded
from lightning_nndyn.corpus.training.train import told


class Member:
    """One run of a pack."""

    def __init__(self, run: Run, generator: torch.Generator) -> None:
        self.run, self.generator = run, generator
        self.losses, self.hits = torch.empty(0), torch.empty(0, dtype=torch.long)
        """Of the epoch's batches so far."""
        self.test_loss = self.test_accuracy = math.nan
        self.record: RunRecord | None = None


class Lane(NamedTuple):
    """A stack and the runs in its rows, some of which may have ended."""

    stack: Stack
    members: list[Member]


class Pack:
    """Trains runs epoch by epoch: all their stacks take a step, then the next."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        data: ImageData,
        departures: Sequence[str],
        pool: Executor,
        deadline: float | None = None,
    ) -> None:
        self.deadline = math.inf if deadline is None else deadline
        self.configs, self.data, self.departures, self.pool = configs, data, departures, pool
        self.started = self.epoch_started = self.paced_from = time.perf_counter()
        self.batches = -(-len(data.train_labels) // configs[0].batch_size)
        self.steps = self.batches * configs[0].epochs
        self.lanes: list[Lane] = []

    def train(self, device: torch.device, mode: str) -> list[RunRecord]:
        """Train to the last epoch, or until all runs have ended; no records if time will not suffice."""
        started = [self._start(config) for config in self.configs]
        self.members = [member for member in started if isinstance(member, Member)]
        self._snapshot([0.0])
        pictures = Pictures(self.data, self.configs[0].crop_padding, device)
        try:
            for group in self._groups(mode):
                self._bring(group, pictures, mode)
            in_time = all(self._epoch(epoch) for epoch in range(1, self.configs[0].epochs + 1))
        finally:  # where memory has run out, what comes next needs it
            for lane in self.lanes:
                lane.stack.close()
        for member in self._living():
            self._end(member)
        return [] if not in_time else [one.record if isinstance(one, Member) else one for one in started]  # type: ignore[misc]

    def _start(self, config: RunConfig) -> Member | RunRecord:
        """As `train_run` starts: the run's random state draws its weights, and later its masks."""
        with seeded(config.seed):
            try:
                run = Run(config, self.data, self.batches)
            except Exception as error:
                return empty_record(config, self.data, self.departures, _told(error))
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
        return Member(run, generator)

    def _groups(self, mode: str) -> list[list[Member]]:
        living = self._living()
        if mode == "side-by-side":
            return [[member] for member in living]
        return [living] if living else []

    def _bring(self, members: list[Member], pictures: Pictures, mode: str) -> None:
        runs, generators = [one.run for one in members], [one.generator for one in members]
        try:
            stack = Stack(runs, generators, pictures, self.pool, products=mode == "stacked-bmm")
        except Exception as error:
            self._fail(members, error)
        else:
            self.lanes.append(Lane(stack, members))

    def _epoch(self, epoch: int) -> bool:
        """Train an epoch; False if those after it, at its pace, will not end in time."""
        self.epoch_started = time.perf_counter()
        times = self.members[0].run.snapshot_times(epoch) if self.members else {}
        self._on_stacks(lambda lane: lane.stack.begin_epoch(epoch))
        for batch in range(1, self.batches + 1):
            if not self._living():
                return True
            self._on_stacks(lambda lane, batch=batch: lane.stack.step(batch - 1))  # type: ignore[misc]
            if batch in times:
                self._read(epoch, batch, times[batch])
        self._close(self._living(), epoch, self.batches)
        return self._in_time(epoch)

    def _read(self, epoch: int, batch: int, moments: Sequence[float]) -> None:
        """Take the snapshots that are due after a batch, counted from 1, and end the runs that diverged."""
        self._on_stacks(lambda lane: _fetch(lane, batch))
        diverged = self._snapshot(moments)
        self._close(diverged, epoch, batch)
        for member in diverged:
            self._end(member)

    def _snapshot(self, moments: Sequence[float]) -> list[Member]:
        """Take snapshots of all runs; those that have diverged."""

        def take(member: Member) -> bool | Exception:
            try:
                return all([member.run.snapshot(moment, member.losses) for moment in moments])
            except Exception as error:
                return error

        living = self._living()
        taken = list(zip(living, self.pool.map(take, living), strict=True))
        for member, outcome in taken:
            if isinstance(outcome, Exception):
                self._fail([member], outcome)
        return [member for member, outcome in taken if outcome is False]

    def _close(self, members: Sequence[Member], epoch: int, batch: int) -> None:
        """Add to the curves of these runs an epoch that ends after so many batches."""
        # All stacks at once, then what came of it: a GPU tests them side by side.
        self._on_stacks(lambda lane: lane.stack.test(), members)
        self._on_stacks(_keep_results, members)
        for member in members:
            if member.record is None:
                member.run.end_epoch(self._row(member, epoch, batch))

    def _row(self, member: Member, epoch: int, batch: int) -> EpochRow:
        config = member.run.config
        step = (epoch - 1) * self.batches + batch - 1
        seen = min(batch * config.batch_size, len(self.data.train_labels))
        return EpochRow(
            train_loss=float(member.losses.mean()),
            train_accuracy=int(member.hits.sum()) / seen,
            test_loss=member.test_loss,
            test_accuracy=member.test_accuracy,
            learning_rate=learning_rates(
                [config], range(step, step + 1), self.batches * config.epochs
            ).item(),
            seconds=self._share(self.epoch_started),
        )

    def _on_stacks(self, work: Callable[[Lane], None], wanted: Sequence[Member] | None = None) -> None:
        """Do something with each stack of living runs (or of those wanted); an error ends all of its runs."""
        for lane in self.lanes:
            living = [member for member in lane.members if member.record is None]
            if living if wanted is None else any(member in wanted for member in living):
                try:
                    work(lane)
                except Exception as error:
                    self._fail(living, error)

    def _living(self) -> list[Member]:
        return [member for member in self.members if member.record is None]

    def _fail(self, members: Sequence[Member], error: Exception) -> None:
        for member in members:
            self._end(member, _told(error))

    def _end(self, member: Member, failure: str | None = None) -> None:
        record = member.run.record(self.departures, failure)
        member.record = replace(record, seconds=self._share(self.started))

    def _in_time(self, epoch: int) -> bool:
        """Whether the epochs after this one will end in time, at the pace so far.

        The first tells no pace: it captures graphs and takes most of the snapshots.
        """
        left, now = self.configs[0].epochs - epoch, time.perf_counter()
        if epoch == 1:
            self.paced_from = now
        pace = (now - self.paced_from) / max(1, epoch - 1)
        return not left or time.time() + left * pace <= self.deadline

    def _share(self, since: float) -> float:
        """A run's part of the seconds since then."""
        return (time.perf_counter() - since) / len(self.configs)


def _fetch(lane: Lane, batch: int) -> None:
    """Bring the networks on the host and the numbers of the epoch so far up to date."""
    lane.stack.pull()
    losses, hits = lane.stack.numbers()
    for row, member in enumerate(lane.members):
        member.losses, member.hits = losses[row, :batch], hits[row, :batch]


def _keep_results(lane: Lane) -> None:
    for member, results in zip(lane.members, lane.stack.test_results(), strict=True):
        member.test_loss, member.test_accuracy = results


def _told(error: Exception) -> str:
    """An error that ends a run, in words; one that ends the pack is raised on."""
    if out_of_memory(error):
        raise error
    return told(error)


def out_of_memory(error: Exception) -> bool:
    """Libraries that torch calls say it in words of their own."""
    text = str(error)
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "out of memory" in text
        or "_ALLOC_FAILED" in text
    )
