"""What lives as long as one call of ``trainer.fit``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from lightning_nndyn.callback.decision import DecisionMaker
from lightning_nndyn.callback.epochs import Clock
from lightning_nndyn.callback.graph_reader import Watch
from lightning_nndyn.callback.record_file import RecordWriter
from lightning_nndyn.errors import NNDynWarning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass
class Fit:
    """The callback's parts at work on one run, how far they are, and what went wrong."""

    watch: Watch
    clock: Clock = field(default_factory=Clock)
    judge: DecisionMaker | None = None
    keeper: RecordWriter = field(default_factory=lambda: RecordWriter(None, {}))
    begun: bool = False  # whether there is anything to train
    open: bool = False  # whether an epoch has ended and its validation is still to come
    more_to_note: bool = False  # whether the model may still log something for the epoch that has ended
    unheard: bool = False  # whether a snapshot waits for its epoch's validation to be judged
    logged: tuple[int, int] = (0, 0)  # how many snapshots and verdicts
    postponed: tuple[float, ...] = ()  # times that passed before the first step
    error: Exception | None = None  # what put the callback out of work on this process
    said: set[str] = field(default_factory=set)
    shown: bool = False  # whether the loggers have been told how the run was judged
    swept: bool = False  # whether the run takes part in a sweep
    heard: dict[str, float] = field(default_factory=dict)  # what the sweep has just said, to be logged

    def attempt(self, trainer: Trainer, work: Callable[[Fit], None], strict: bool) -> None:
        """Does a piece of our own work, unless one has failed; a failure must not harm the training."""
        if self.error is not None:
            return
        try:
            work(self)
        except Exception as error:
            self.error = error
            self.watch.close()
            if strict and trainer.world_size > 1:
                return  # raised where processes meet next, on all of them: none is left waiting
            if strict:
                raise
            where = f" on process {trainer.global_rank}" if trainer.world_size > 1 else ""
            warnings.warn(
                f"GraphDynamicsCallback gives up{where} and training goes on without it: "
                f"{type(error).__name__}: {error} (strict=True raises instead)",
                NNDynWarning,
                stacklevel=2,
            )

    def say(self, topic: str, message: str) -> None:
        """Prints a message, once for each topic."""
        if topic not in self.said:
            self.said.add(topic)
            rank_zero_info(f"GraphDynamicsCallback: {message}")

    def warn(self, topic: str, message: str) -> None:
        """Warns, once for each topic; of nothing where the message is empty."""
        if message and topic not in self.said:
            self.said.add(topic)
            rank_zero_warn(f"GraphDynamicsCallback: {message}", category=NNDynWarning)
