"""The parts of a session, the fit that they belong to, what a checkpoint keeps of them, and how they fail."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec

from lightning_nndyn._files import decode
from lightning_nndyn.callback.decision import RunDecider
from lightning_nndyn.callback.epochs import EpochCounter
from lightning_nndyn.callback.graph_reader import GraphReader
from lightning_nndyn.callback.guard import Guard
from lightning_nndyn.callback.logging import ValueLogger
from lightning_nndyn.callback.losses import LossMeter, LossState
from lightning_nndyn.callback.messages import Messages
from lightning_nndyn.callback.metrics import LoggedMetrics
from lightning_nndyn.callback.participants import Presence
from lightning_nndyn.callback.phases import EpochPhase, Phase
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import INTERRUPTED, RecordWriter
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.trial import TrialSession
from lightning_nndyn.errors import NNDynError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

P = ParamSpec("P")

_ACTIVE = (Phase.TRAINING, Phase.OPEN, Phase.FAILED)


class SessionParts:
    """What `RunSession` consists of.

    Args:
        settings: the callback's arguments.
        trial: the run's trial in a sweep; None without one.

    Attributes:
        phase: how far the session is.
        record: what was read, predicted and decided.
        reader: reads the graph of the weights.
        losses: the training losses of the epoch.
        epochs: counts epochs, and knows when weights are to be read.
        metrics: those that the model logs.
        decisions: predicts and decides.
        logger: logs values to the Trainer's loggers.
        writer: writes the record.
        guard: where failures end.
        trainer: of the fit; only while the session is active.
    """

    trainer: Trainer

    def __init__(self, settings: Settings, trial: TrialSession | None = None) -> None:
        self.settings, self.trial = settings, trial
        self.phase, self._epoch_phase = Phase.IDLE, EpochPhase.BATCHES
        self.record, self.losses = Record(), LossMeter()
        self.reader = GraphReader(settings.layers, settings.topology)
        self.epochs, self.metrics = EpochCounter(), LoggedMetrics(settings.monitor)
        self.guard, self.messages = Guard(settings.strict, self._fail), Messages(settings.verbose)
        self.decisions = RunDecider(settings, trial, self.messages, self.guard)
        if not self.decisions.task.reads_metric:
            self.metrics = LoggedMetrics()
        self.logger, self.writer = ValueLogger(settings.log_signature), RecordWriter(None, {})
        self._awaits_metric = False  # whether an epoch is judged only once its metric has been logged
        self._starts_here = False  # whether training begins with step 0, not from a checkpoint
        self._owner: weakref.ref[Trainer] | None = None
        self._saved_losses: LossState | None = None  # of the epoch that a checkpoint was saved in
        self._presence = Presence()
        self._load_error: Exception | None = None  # why a checkpoint's record cannot be read

    @property
    def active(self) -> bool:
        """Whether a fit is open that the session takes part in."""
        return self.phase in _ACTIVE

    @property
    def start_due(self) -> bool:
        """Whether snapshot 0 is still to be read, which is before any weight changes."""
        return self._starts_here and not self.record.history

    def __getstate__(self) -> dict[str, Any]:
        """Without the Trainer: processes that are spawned get the callback pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "trainer"} | {"_owner": None}

    def begin(self, trainer: Trainer, previous: SessionParts) -> None:
        """Takes part in a fit.

        Args:
            trainer: of the fit.
            previous: the session before. Where its Trainer fits once more, the run may go on.
        """
        previous.close()
        self.trainer, self._owner, self.phase = trainer, weakref.ref(trainer), Phase.OPEN
        if previous._owner is not None and previous._owner() is trainer:
            self.record, self.losses = previous.record, previous.losses
            self._saved_losses, self._load_error = previous._saved_losses, previous._load_error

    def takes_part_in(self, trainer: Trainer) -> bool:
        """Whether a Trainer's fit is this session's, and open."""
        return getattr(self, "trainer", None) is trainer

    def open(self, index: int) -> None:
        """Loads the predictor, and tells the other processes of this one.

        Args:
            index: of the callback among those of its kind.
        """
        self._presence.announce(self.trainer, self.settings, index)
        self._try(self.decisions.load_predictor)

    def check_processes(self) -> None:
        """Gives up where other processes are without the callback: nothing may wait for them."""
        missing = self._presence.missing(self.trainer)
        if missing:
            self.guard.fail(self.trainer, NNDynError(missing))
            self.close(Phase.DISABLED)
            self.guard.raise_if_strict()

    def close(self, phase: Phase = Phase.ENDED) -> None:
        """Removes all hooks, and lets go of model and Trainer."""
        if self.active:
            self.phase = phase
            self.reader.close()
            self._presence.withdraw()
            self.__dict__.pop("trainer", None)  # a copy has none

    # -- failures --------------------------------------------------------------------------------------------

    def _try(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Takes a step that may fail; see `Guard.attempt`."""
        self.guard.attempt(self.trainer, step, *args, **kwargs)

    def _fail(self) -> None:
        if self.active:
            self.phase = Phase.FAILED
        self.reader.close()

    def _all_work(self) -> bool:
        """Whether no process has failed. Otherwise all give up: they must keep logging the same keys."""
        works = self.guard.all_work(self.trainer)
        if not works:
            self.writer.end(self.record, INTERRUPTED)  # nobody reads the run to its end
            self.close(Phase.DISABLED)
            self.guard.raise_if_strict()
        return works

    # -- checkpoints -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, so that a resumed one goes on with it; empty where that fails."""
        state: dict[str, Any] = {}
        self.guard.contain(None if self._owner is None else self._owner(), self._add_state, state)
        return state

    def _add_state(self, state: dict[str, Any]) -> None:
        if self.active and self._epoch_phase is EpochPhase.METRICS and self.trainer.world_size == 1:
            metrics = self.trainer.callback_metrics  # with what the model has logged since our hook
            self.metrics.record(self.trainer, self.record, self.epochs.num_ended, metrics, late=True)
        state |= {**self.record.state_dict(), "epoch_losses": self.losses.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported once training starts."""
        if self.phase is Phase.TRAINING:  # it belongs to another Trainer that has our callback
            return
        try:
            self.record, self._load_error = Record.from_state_dict(state), None
            self._saved_losses = decode(state.get("epoch_losses"), LossState)
        except Exception as error:
            self._load_error = error
