"""What Lightning calls, and when."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_nndyn.callback.audit import SWITCHED_OFF, draw_audit, exemption_reason
from lightning_nndyn.callback.decision import DecisionMaker, predictor_name
from lightning_nndyn.callback.epochs import clock_of
from lightning_nndyn.callback.fit import Fit
from lightning_nndyn.callback.graph_reader import Watch
from lightning_nndyn.callback.losses import LossMeter
from lightning_nndyn.callback.reading import read_start
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.record_file import FINISHED, INTERRUPTED, STOPPED, RecordWriter, record_folder
from lightning_nndyn.callback.schedule import check_length, check_times
from lightning_nndyn.callback.session import Course
from lightning_nndyn.callback.trainer_state import (
    at_full_length,
    loss_parts,
    training_of,
    watched,
)
from lightning_nndyn.callback.trial import AUDIT_SHARE, Place, check_share, leave
from lightning_nndyn.graph.tracing.tracer import Topology, check_topology
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.sweep import SweepPredictor

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer


class GraphDynamicsCallback(Course):
    """Predicts a run's final accuracy from the graph of its weights, and stops it if there is little hope.

    The layers are found by watching the first training batch. The weights are read before the first step,
    after fractions of the first epoch and after each epoch; each reading is a `Snapshot`, and a predictor
    turns the snapshots so far into a `Verdict`; with ``monitor`` it also reads the run's losses and
    validation accuracies, which after some epochs tell more than the weights. ``nndyn/predicted_accuracy``,
    ``nndyn/p_low``, ``nndyn/risk``, ``nndyn/stop`` and ``nndyn/in_domain`` (0 where the prediction is not to
    be trusted) are logged, the same on every process, in time for ModelCheckpoint and EarlyStopping to
    monitor them; with ``monitor`` those of an epoch's end are known only after its validation.

    Each run leaves a record, ``nndyn-RUN.json``, in its log folder: what was read, said and decided, the
    metrics after each epoch, and how it ended. ``nndyn fit --runs`` makes a predictor of one's own of them.
    At the end the loggers of TensorBoard, W&B, MLflow and CSV get the decision, its reason and a figure.

    Training itself is left as it is: no random number is drawn, no gradient, buffer or weight touched. What
    goes wrong in here warns once, and training goes on without the callback. It does nothing in
    ``fast_dev_run``, sanity checking, validation, test and prediction.

    Of a compiled model (``torch.compile``) the watched batch runs uncompiled up to its backward pass, nothing
    else does, and none of its frames is compiled that would not be anyway. Where the compiler rounds
    differently (inductor), that one step does; where it draws other random numbers in the model (inductor's
    dropout), the run is one of another seed. The step takes the memory that it takes uncompiled. With
    ``layers`` no batch is watched, and all of it stays compiled.

    Works with the Trainers of ``lightning`` and of ``pytorch_lightning``. In a LightningCLI file::

        trainer:
          callbacks:
            - class_path: lightning_nndyn.GraphDynamicsCallback
              init_args: {predictor: lenet5-digits, action: observe}

    Args:
        predictor: the name of a shipped predictor, the path of a saved one, or the predictor itself. It acts
            only in its domain: elsewhere it says so once and stops nothing, except what has diverged. None
            reads and logs the signature alone.
        action: ``"stop"`` ends the run through ``trainer.should_stop``, not before the Trainer's
            ``min_epochs`` and ``min_steps``; ``"observe"`` never does, and logs what would have been done.
        snapshots: times in epochs at which the weights are read: fractions of the first epoch, whole epochs
            after that. None for 1/16, 1/8, 1/4 and 1/2 of the first epoch and every epoch's end. Time 0 is
            always read.
        snapshot_every_n_steps: how many optimizer steps, as ``trainer.global_step`` counts them, take the
            place of an epoch in all that is read, judged and recorded: for data without length, a single long
            epoch, ``max_steps``. The Trainer's own epochs then bring no reading. With ``monitor``, validate
            as often (``val_check_interval``, in batches). Predictors know epochs of a certain length, and
            take this for it. Where several optimizers step by themselves, each of their steps counts. None
            reads by epochs.
        max_false_stop_rate: the share of good runs that may be stopped by mistake, as the predictor's corpus
            tells.
        confidence: with which that share is kept, such as 0.9; None keeps it on average.
        monitor: name of the logged metric that is the validation accuracy (a fraction), such as
            ``"val_acc"``; None judges by the weights alone.
        threshold: the probability of low accuracy above which a run is stopped; None derives it from
            ``max_false_stop_rate``.
        audit_share: probability with which a condemned run is let finish on purpose, for a sweep to find out
            how many good runs it loses; needs ``monitor``. How audited runs end is noted in
            ``nndyn-audit.jsonl`` in the Trainer's ``default_root_dir``; once they show, with a confidence of
            95 %, that more than ``max_false_stop_rate`` of the good runs are condemned, no more are stopped.
            None for 0, and for 0.05 in a sweep, which needs neither ``monitor`` nor file.
        record: whether to leave a record in the log folder of a Trainer with a logger; or the folder to leave
            it in.
        log_signature: whether to log each snapshot's statistics too (``nndyn/degree_mean``, ...).
        layers: names of the chain's layers, first to last, for a model that cannot be traced.
        topology: of the graph: ``"chain"``, the main path of convolutions and linear layers, is what the
            shipped predictors know; ``"dataflow"``, all layers and all that flows between them, is there for
            any model. Record runs with ``predictor=None`` and fit a predictor of your own to them.
        strict: raise instead of warning when something goes wrong.
        verbose: whether to print why a run is stopped, or why it cannot be.
        trial: the ``optuna.Trial`` that this run is, or a `SweepMember` of another tuner: the sweep's
            finished runs then judge it, by hyperparameters, weights, curve and what ``predictor`` says; till
            there are enough of them, ``predictor`` alone does. ``nndyn/p_good`` and ``nndyn/predicted_value``
            are logged, readings and reasons put into the trial's attributes. A stopped run ends with
            ``optuna.TrialPruned`` raised out of ``fit``, after everything is written, on each process that
            was given a trial; see `check_pruned`. ``monitor`` may be any metric where ``predictor`` is None.
        sweep: how to learn from the sweep, with ``max_false_stop_rate`` unless it has one of its own; None
            for `SweepPredictor`. These are settings: each sweep learns for itself.

    Attributes:
        history: the snapshots so far, snapshot 0 first.
        verdicts: what the predictor said of them.
        decision: what follows: whether to stop, why, and at which verdict's time. With ``"observe"`` it is
            what would have been done; once it says stop, it stays.

    Raises:
        ValueError: if ``action`` or ``topology`` is unknown, ``layers`` are named for another than the chain,
            a time in ``snapshots`` is neither fraction nor whole, ``snapshot_every_n_steps`` is no whole
            number of at least 1, ``audit_share`` is no share or has no ``monitor``, or ``sweep`` has no
            ``trial`` or another direction than its study.
        SweepError: if the trial's study has several objectives.
        PredictorError: if ``max_false_stop_rate``, ``confidence`` or ``threshold`` is out of its range.
    """

    def __init__(
        self,
        predictor: str | Path | Predictor | None = "universal",
        action: Literal["stop", "observe"] = "stop",
        snapshots: Sequence[float] | None = None,
        snapshot_every_n_steps: int | None = None,
        monitor: str | None = None,
        max_false_stop_rate: float = 0.05,
        confidence: float | None = None,
        threshold: float | None = None,
        audit_share: float | None = None,
        record: bool | str | Path = True,
        log_signature: bool = False,
        layers: list[str] | None = None,
        topology: Topology = "chain",
        strict: bool = False,
        verbose: bool = True,
        trial: Any = None,
        sweep: SweepPredictor | None = None,
    ) -> None:
        super().__init__()
        if action not in ("stop", "observe"):
            raise ValueError(f"action={action!r} is unknown: take 'stop' or 'observe'")
        check_topology(topology, layers)
        Policy({}, max_false_stop_rate, threshold, confidence=confidence)  # checks the three
        check_share(audit_share, monitor, trial is not None)
        self._place = Place.of(trial, sweep, max_false_stop_rate)
        self.predictor = predictor
        self.action = action
        self.snapshots = check_times(snapshots)
        self.snapshot_every_n_steps = check_length(snapshot_every_n_steps)
        self.max_false_stop_rate = max_false_stop_rate
        self.monitor = monitor
        self.confidence = confidence
        self.threshold = threshold
        self.audit_share = audit_share if audit_share is not None else AUDIT_SHARE * (trial is not None)
        self.record = record
        self.log_signature = log_signature
        self.layers = layers if layers is None else list(layers)  # Hydra has lists of its own
        self.topology: Topology = topology
        self.strict = strict
        self.verbose = verbose
        self._losses_before: Mapping[str, Any] | None = None  # of the epoch that a checkpoint was saved in
        self._unreadable: Exception | None = None  # why a checkpoint's record could not be loaded
        self._trainer: weakref.ref[Trainer] | None = None  # whose run is on record

    # -- life cycle of a fit ---------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Loads the predictor."""
        if stage == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._know(trainer)
            self._fit = Fit(Watch(self.layers, self.topology))
            self._attempt(trainer, self._load)

    def _know(self, trainer: Trainer) -> None:
        """Forgets another Trainer's run: what this one resumes may be from a checkpoint without a record."""
        if self._trainer is None or self._trainer() is not trainer:
            self._record, self._losses_before, self._unreadable = Record(), None, None
            self._trainer = weakref.ref(trainer)

    def __getstate__(self) -> dict[str, Any]:
        """Without the Trainer: processes that are spawned get the callback pickled."""
        return {**self.__dict__, "_trainer": None}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fixes when snapshots are due; a resumed run that was to be stopped stays stopped."""
        if self._fit is None:
            return
        fit = self._fit
        fit.begun, fit.clock = True, clock_of(trainer, self.snapshots, self.snapshot_every_n_steps)
        fit.watch.start_due = trainer.global_step == 0
        copies = not pl_module.automatic_optimization
        self._losses = LossMeter(fit.clock.batches, copies)
        losses_before, self._losses_before = self._losses_before, None
        if fit.watch.start_due:  # what an earlier fit has left is not this run's record
            self._record = Record()
        elif losses_before is not None:
            self._losses.restore(losses_before, trainer.strategy.root_device)
        self._attempt(trainer, partial(self._begin, trainer))
        self._open(trainer, fit)
        self._agree(trainer)
        self._act(trainer, trainer.current_epoch)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes the hooks: Lightning calls no `teardown` after an exception."""
        if self._fit is not None:
            self._fit.keeper.end(self._record, INTERRUPTED)
            if self._stops:
                self._show(trainer, in_batch=True)
        self._close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how the run has ended."""
        fit = self._fit
        if fit is None:
            return
        if fit.more_to_note or fit.clock.begun > fit.clock.ended:
            self._note_metrics(trainer, fit, fit.clock.begun)
        self._end(trainer, fit)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the end of a run that was interrupted after its last checkpoint: nothing is left to train."""
        fit = self._fit
        if fit is not None and not fit.begun and self._record.from_start and at_full_length(trainer):
            fit.clock = clock_of(trainer, self.snapshots, self.snapshot_every_n_steps)
            self._open(trainer, fit)
            self._end(trainer, fit)

    def _end(self, trainer: Trainer, fit: Fit) -> None:
        condemned = self.decision.stop and self.decision.epoch < fit.clock.time(trainer)
        if self._stops and not at_full_length(trainer):
            status = STOPPED
        else:
            status = INTERRUPTED if trainer.interrupted else FINISHED
        fit.keeper.end(self._record, status, condemned and not self._stops)
        if fit.swept:
            self._attempt(trainer, partial(self._end_trial, trainer, status == STOPPED))
            self._raised = trainer.strategy.broadcast(self._raised)
        self._show(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the model; raises what tells the tuner of a stopped run."""
        self._close()
        raised, self._raised = self._raised, None
        if raised is not None and self._place is not None:
            leave(trainer, pl_module, self, raised)

    def check_pruned(self) -> None:
        """Raises out of the objective what ``trainer.fit`` could not raise in it, if this run was stopped.

        Where ``fit`` spawns or forks its processes (``ddp_spawn``, ``ddp_notebook``), what happens in them
        reaches its caller through the trial's storage alone: call this after ``fit``. Elsewhere it does no
        harm.

        Raises:
            BaseException: what the tuner takes for a stop, such as ``optuna.TrialPruned``.
        """
        raised = None if self._place is None else self._place.member.pruned()
        if raised is not None:
            raise raised

    def _end_trial(self, trainer: Trainer, stopped: bool, fit: Fit) -> None:
        if self._place is not None and trainer.is_global_zero:
            self._raised = self._place.end(self._record, stopped)

    def _load(self, fit: Fit) -> None:
        if self.predictor is not None:
            fit.judge = DecisionMaker.of(
                self.predictor, self.max_false_stop_rate, self.threshold, self.confidence
            )

    def _begin(self, trainer: Trainer, fit: Fit) -> None:
        if self._unreadable is not None:
            raise self._unreadable
        self._record.training = training_of(trainer, self.snapshot_every_n_steps)
        if not fit.watch.start_due and not self._record.from_start:
            fit.judge = None
            fit.warn(
                "late",
                f"training goes on from step {trainer.global_step}, and there is no record of its beginning: "
                "the weights are read, nothing is predicted or stopped",
            )
        record, fit.logged = self._record, (len(self.history), len(self.verdicts))
        fit.unheard = bool(record.losses) and (not self.verdicts or self.verdicts[-1].epoch < record.time)
        fit.open = fit.unheard and fit.clock.by_steps and fit.clock.ending
        fit.watch.first_weights = record.first_weights
        if fit.clock.impossible:
            times = ", ".join(f"{time:g}" for time in fit.clock.impossible)
            fit.warn(
                "length",
                "the training data loader has no length, so the weights cannot be read after fractions of "
                f"the first epoch ({times}), only at its end: snapshot_every_n_steps=N reads them by "
                "optimizer steps, and Trainer(limit_train_batches=...) gives epochs a length",
            )

    def _open(self, trainer: Trainer, fit: Fit) -> None:
        """Finds the place of the run's record, and settles whether it is spared: on all processes alike."""
        record, log_folder = self._record, trainer.log_dir  # the latter is a collective call
        if fit.watch.start_due and self.audit_share and self.action == "stop" and trainer.is_global_zero:
            self._attempt(trainer, partial(self._draw, trainer))
        swept = self._place is not None and self._place.member.reachable and fit.error is None
        record.run, record.exempt, fit.swept = trainer.strategy.broadcast((record.run, record.exempt, swept))
        if self._place is not None:
            self._place.begin()
        if record.exempt:
            self._say("spared", record.exempt)
        if fit.error is not None or not trainer.is_global_zero:
            return
        always = self.action == "observe" or record.exempt.startswith(SWITCHED_OFF)
        facts = {"monitor": self.monitor, "predictor": predictor_name(self.predictor), "action": self.action}
        policy = {} if fit.judge is None else fit.judge.facts
        fit.keeper = RecordWriter(
            record_folder(trainer, self.record, log_folder),
            {
                **facts,
                "max_epochs": trainer.max_epochs,
                "every_n_steps": self.snapshot_every_n_steps,
                "policy": policy,
            },
            Path(trainer.default_root_dir) if self.audit_share and self._place is None else None,
            1.0 if always else self.audit_share,
            self.monitor or "",
        )

    def _draw(self, trainer: Trainer, fit: Fit) -> None:
        if self._place is not None:
            self._record.exempt = draw_audit(self.audit_share)
        elif fit.judge is not None:
            bar = fit.judge.predictor.low_threshold, fit.judge.predictor.low_share
            budget = self.max_false_stop_rate
            self._record.exempt = exemption_reason(
                Path(trainer.default_root_dir), self.audit_share, budget, *bar
            )

    # -- the first batch and snapshot 0 ----------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts to watch the first batch."""
        fit = self._fit
        if fit is None:
            return
        if batch_idx == 0 and not fit.clock.by_steps:
            self._losses.begin_epoch()
        if fit.open:  # no validation has come
            self._end_epoch(trainer, fit, trainer.current_epoch, in_batch=False)
        elif fit.more_to_note:
            self._note_metrics(trainer, fit, fit.clock.ended)
        if fit.watch.idle:
            self._attempt(trainer, lambda fit: fit.watch.begin_batch(watched(trainer)))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Builds the graph from the forward pass that has just been made."""
        fit = self._fit
        if fit is not None and fit.watch.tracing:
            self._forward_done(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Reads snapshot 0; with accumulated gradients the first step comes batches after the trace."""
        fit = self._fit
        if fit is not None and (fit.watch.start_due or fit.watch.tracing):
            self._forward_done(trainer, pl_module)
            self._read_start(trainer)

    def _forward_done(self, trainer: Trainer, pl_module: LightningModule) -> None:
        manual = not pl_module.automatic_optimization
        self._attempt(trainer, lambda fit: fit.watch.forward_done(nested=manual))
        if manual:  # the next step may be one that Lightning does not see
            self._read_start(trainer)

    def _read_start(self, trainer: Trainer) -> None:
        if self._fit is not None and self._agree_to_go_on(trainer, self._fit):
            self._attempt(trainer, lambda fit: read_start(fit, self._record))

    # -- snapshots, verdicts, decisions ----------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the weights where that is due; what is decided inside an epoch takes effect at once."""
        fit = self._fit
        if fit is None:
            return
        if fit.watch.tracing:
            self._attempt(trainer, lambda fit: fit.watch.end_batch(pl_module))
        self._losses.add(outputs, loss_parts(trainer))
        due = fit.clock.after_batch(trainer, batch_idx + 1)
        if due:
            self._after_reading(trainer, pl_module, fit, due)
        if self._fit is not None and fit.clock.by_steps and fit.clock.ending:
            self._end_stretch(trainer, fit)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the new validation accuracy, in time for a checkpoint that is saved next."""
        fit = self._fit
        if fit is None or trainer.sanity_checking:
            return
        if self.monitor is not None:
            logged, epoch = trainer.callback_metrics.get(self.monitor), fit.clock.validated(trainer)
            fit.warn("monitor", self._note_accuracy(trainer, fit, logged, epoch))
        if fit.open:
            self._end_epoch(trainer, fit, trainer.current_epoch + trainer.is_last_batch, in_batch=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides what the epoch's end allows, such as what `min_epochs` has held back."""
        fit = self._fit
        if fit is None:
            return
        if fit.watch.tracing:  # the model skipped the rest of the epoch from its `on_train_batch_start`
            self._attempt(trainer, lambda fit: fit.watch.end_batch(pl_module))
        due, epochs = fit.clock.after_epoch(trainer), trainer.current_epoch + 1
        if due:
            self._note_gap(trainer, fit)
            self._read(trainer, pl_module, due, waits=False)
        if fit.open or not fit.clock.by_steps:
            self._end_epoch(trainer, fit, epochs, in_batch=False)
        else:
            self._conclude(trainer, fit, epochs, in_batch=False)
            self._act(trainer, epochs)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what the model has logged at the end of the epoch before, after us."""
        if self._fit is not None and self._fit.more_to_note:
            self._note_metrics(trainer, self._fit, self._fit.clock.ended)

    # -- checkpoints -----------------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint; ``action`` may change on resuming."""
        return self._generate_state_key(
            predictor=predictor_name(self.predictor),
            snapshots=self.snapshots,
            snapshot_every_n_steps=self.snapshot_every_n_steps,
            max_false_stop_rate=self.max_false_stop_rate,
            threshold=self.threshold,
            confidence=self.confidence,
            monitor=self.monitor,
            layers=self.layers,
            topology=self.topology,
        )

    def state_dict(self) -> dict[str, Any]:
        """The record of the run, so that a resumed one goes on with it."""
        return {**self._record.state_dict(), "epoch_losses": self._losses.state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported in `on_train_start`."""
        try:
            self._record, self._unreadable = Record.from_state_dict(state_dict), None
            self._losses_before = state_dict["epoch_losses"]
        except Exception as error:
            self._unreadable = error
