"""The callback: Lightning's hooks, each of which calls the session of the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

from lightning_nndyn.callback.decision import predictor_name
from lightning_nndyn.callback.epochs import check_num_steps, check_times
from lightning_nndyn.callback.lightning_compat import CallbackBase
from lightning_nndyn.callback.monitors import prepare_monitors, release_monitors
from lightning_nndyn.callback.participants import is_busy_elsewhere, refuse
from lightning_nndyn.callback.pause import Pause
from lightning_nndyn.callback.record_file import write_waiting
from lightning_nndyn.callback.session import RunSession
from lightning_nndyn.callback.settings import Settings, resolve_audit_share
from lightning_nndyn.callback.task import check_direction
from lightning_nndyn.callback.trial import TrialSession
from lightning_nndyn.graph.tracing.tracer import Topology
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.predictor.policy import Decision
from lightning_nndyn.signature.snapshot import Snapshot
from lightning_nndyn.sweep import DEFAULT_KEEP, SweepPredictor

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch import Tensor
    from torch.optim import Optimizer

P = ParamSpec("P")

_ONE_AT_A_TIME = threading.Lock()  # Trainers of two threads may meet in one callback


class GraphDynamicsCallback(CallbackBase):
    """Predicts a run's final accuracy from the graph of its weights, and stops it if there is little hope.

    The layers are found by tracing the first training batch. The weights are read before the first step,
    after fractions of the first epoch and after each epoch; each reading is a `Snapshot`, and a predictor
    turns the snapshots so far into a `Verdict`; with ``monitor`` it also reads the run's losses and
    validation accuracies, which after some epochs tell more than the weights. ``nndyn/predicted_accuracy``,
    ``nndyn/p_low``, ``nndyn/risk``, ``nndyn/stop`` and ``nndyn/in_domain`` (0 where the prediction is not to
    be trusted) are logged, the same on every process, in time for ModelCheckpoint and EarlyStopping to
    monitor them; with ``monitor`` those of an epoch's end are known only after its validation. Until there is
    a verdict, whoever monitors them sees the worst value, and EarlyStopping counts new verdicts alone.

    Each run leaves a record, ``nndyn-RUN.json``, in its log folder: what was read, predicted and decided, the
    metrics after each epoch, and how it ended. ``nndyn fit --runs`` fits a predictor of your own to them. At
    the end the loggers of TensorBoard, W&B, MLflow and CSV get the decision, its reason and a figure.

    Training is not changed: no random number is drawn, no gradient, buffer or weight touched. A failure of
    the callback warns once, and training goes on without it. It does nothing in ``fast_dev_run``, sanity
    checking, validation, test and prediction.

    Of a compiled model (``torch.compile``) the traced batch runs uncompiled up to its backward pass; nothing
    else does, and nothing more is compiled than without the callback. Where the compiler rounds differently
    (inductor), that one step does; where it draws other random numbers in the model (inductor's dropout), the
    run is one of another seed. The step takes the memory that it takes uncompiled. With ``layers`` no batch
    is traced, and all of the model stays compiled.

    Works with the Trainers of ``lightning`` and of ``pytorch_lightning``. In a LightningCLI file::

        trainer:
          callbacks:
            - class_path: lightning_nndyn.GraphDynamicsCallback
              init_args: {predictor: lenet5-digits, action: observe}

    Args:
        predictor: the name of a shipped predictor, the path of a saved one, or the predictor itself. It acts
            only in its domain: elsewhere it says so once and stops nothing but runs that have diverged. None
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
            take this number for it. Where several optimizers step by themselves, each of their steps counts.
            None reads by epochs.
        max_false_stop_rate: the share of good runs that may be stopped by mistake, as measured on the
            predictor's corpus.
        confidence: with which that share is kept, such as 0.9; None keeps it on average.
        monitor: name of the logged metric that tells how good the run is, such as ``"val_acc"``,
            ``"val_iou"`` or ``"val_loss"``; None judges by the weights alone. An accuracy is known by its
            name, and may be a fraction or in percent. Shipped predictors know accuracies alone: with any
            other metric they say nothing, and a run is stopped only where it has diverged, or the metric has
            not improved in half of the planned epochs. Without a monitor they speak where the run shows that
            it is a classification: an accuracy among the logged metrics, or cross-entropy on the last layer's
            outputs.
        threshold: the probability of low accuracy above which a run is stopped; None derives it from
            ``max_false_stop_rate``.
        audit_share: probability with which a run may finish although it is decided to stop it, to measure
            how many good runs are lost; needs ``monitor``. How such runs end is kept in
            ``nndyn-audit.jsonl`` in the Trainer's ``default_root_dir``. Once they show, with a confidence of
            95 %, that more than ``max_false_stop_rate`` of the good runs would be stopped, none is stopped
            any more. None for 0, and for 0.05 in a sweep with ``keep=None``. A sweep needs neither
            ``monitor`` nor file.
        record: whether to leave a record in the log folder of a Trainer with a logger; or the folder to leave
            it in.
        log_signature: whether to log each snapshot's statistics too (``nndyn/degree_mean``, ...).
        layers: names of the chain's layers, first to last, for a model that cannot be traced.
        topology: of the graph: ``"chain"``, the main path of convolutions and linear layers, is what the
            shipped predictors know; ``"dataflow"`` is all layers and all that flows between them. For the
            latter record runs with ``predictor=None``, and fit a predictor of your own to them.
        strict: raise instead of warning when something goes wrong.
        verbose: whether to print why a run is stopped, or why it cannot be.
        trial: the ``optuna.Trial`` that this run is, or a `SweepMember` of another tuner. The other runs of
            the sweep then decide on it (``keep``). Once enough have finished, ``nndyn/p_good`` and
            ``nndyn/predicted_value`` are learned from their hyperparameters, weights, learning curves and
            the verdicts of ``predictor``, and logged. Readings and reasons go to the trial's attributes. A
            stopped run ends with ``optuna.TrialPruned`` raised out of ``fit``, after everything is written,
            on each process that was given a trial; see `check_pruned`.
        sweep: how to learn from the sweep, with ``max_false_stop_rate`` unless it has one of its own; None
            for `SweepPredictor`. These are settings: each sweep learns for itself.
        mode: whether ``monitor`` is to grow (``"max"``) or to fall (``"min"``). None takes the direction of
            the trial's sweep, or guesses from the name where that is safe ("loss" falls, "iou" grows).
        keep: in a sweep (``trial``), the share of its runs that is trained to the end: each run is compared
            with those that were read at the same time, from the third one on. None keeps good runs instead
            (``max_false_stop_rate``), which costs more; until ten runs have finished, ``predictor`` alone
            stops runs then. See `SweepPredictor`; ``sweep`` goes before it.
        earlier_runs: whether a run without ``trial`` is compared with those that its log folder has records
            of, and stopped if it has hardly a chance to end among the best quarter; from five comparable runs
            on, with ``monitor`` and unless ``predictor`` is None. They must have the same layers, classes,
            ``monitor`` and ``max_epochs``.

    Attributes:
        history: the snapshots so far, snapshot 0 first.
        verdicts: the predictor's, one for each time that it knows.
        decision: whether to stop, why, and at which verdict's time. With ``"observe"`` it is what would have
            been done. A decision to stop is final.
        session: of the latest run: its parts and their state.

    Raises:
        ValueError: if ``action``, ``mode`` or ``topology`` is unknown, ``mode`` is not the direction of the
            trial's sweep, or has no ``monitor``, ``layers`` are named for another than the chain, a time in
            ``snapshots`` is neither fraction nor whole, ``snapshot_every_n_steps`` is no whole number of at
            least 1, ``audit_share`` is no share or has no ``monitor``, or ``sweep`` has no ``trial`` or
            another direction than its study.
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
        mode: Literal["max", "min"] | None = None,
        keep: float | None = DEFAULT_KEEP,
        earlier_runs: bool = True,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.action = action
        self.snapshots = check_times(snapshots)
        self.snapshot_every_n_steps = check_num_steps(snapshot_every_n_steps)
        self.max_false_stop_rate = max_false_stop_rate
        self.monitor, self.mode = monitor, mode
        self.confidence = confidence
        self.threshold = threshold
        promises = trial is not None and (keep if sweep is None else sweep.keep) is None
        self.audit_share = resolve_audit_share(audit_share, monitor, trial is not None, promises)
        self.record = record
        self.earlier_runs = earlier_runs
        self.log_signature = log_signature
        self.layers = layers if layers is None else list(layers)  # Hydra has lists of its own
        self.topology: Topology = topology
        self.strict = strict
        self.verbose = verbose
        settings = self._settings()  # checked before a trial is joined
        self._trial = TrialSession.from_trial(trial, sweep, max_false_stop_rate, keep)
        if self._trial is not None:
            check_direction(mode, self._trial.member.direction)
        self.session = RunSession(settings, self._trial)
        self._pause = Pause.of(None if self._trial is None else self._trial.member)

    def _settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    @property
    def history(self) -> list[Snapshot]:
        """The snapshots so far."""
        return self.session.record.history

    @property
    def verdicts(self) -> list[Verdict]:
        """The predictor's verdicts so far."""
        return self.session.record.verdicts

    @property
    def decision(self) -> Decision:
        """The latest decision."""
        return self.session.record.decision

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint that a paused run goes on from, None for a run that begins.

        In a race, and where a scheduler pauses trials, give it to the Trainer:
        ``trainer.fit(model, loader, ckpt_path=callback.ckpt_path)``. A run that does not ask for it is not
        saved where it is paused, and begins anew where it goes on.
        """
        self._pause.asked = True
        return self._pause.ckpt_path

    def check_pruned(self) -> None:
        """Raises out of the objective what ``trainer.fit`` could not raise in it, if this run was stopped.

        Where ``fit`` spawns or forks its processes (``ddp_spawn``, ``ddp_notebook``), what happens in them
        reaches its caller through the trial's storage alone: call this after ``fit``. Elsewhere it does no
        harm.

        Raises:
            BaseException: what the tuner takes for a stop, such as ``optuna.TrialPruned``.
        """
        exception = None if self._trial is None else self._trial.member.pruned()
        if exception is not None:
            raise exception

    # -- begin and end of a fit ------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Opens a session, unless that of another Trainer is open."""
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with _ONE_AT_A_TIME:
            previous = self.session
            if is_busy_elsewhere(previous, trainer):
                refuse(self.strict)
                return
            self.session = self._new_session()
            self.session.begin(trainer, previous)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        alike = [callback for callback in callbacks if isinstance(callback, GraphDynamicsCallback)]
        self._run(trainer, self.session.open, alike.index(self) if self in alike else len(alike))

    def _new_session(self) -> RunSession:
        return RunSession(self._settings(), self._trial)

    def _run(self, trainer: Trainer, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls the session, if it takes part in this Trainer's fit. What fails in there ends there."""
        session = self.session
        if session.takes_part_in(trainer):
            session.guard.contain(trainer, step, *args, **kwargs)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds out whether all processes have the callback."""
        self._run(trainer, self.session.check_processes)
        self._pause.start_fit()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins or resumes the run."""
        self._pause.start_training(trainer)
        self._run(trainer, self.session.start_training)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            prepare_monitors(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records how the run has ended."""
        self._run(trainer, self.session.end_training)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the end of a run of which nothing was left to train."""
        self._run(trainer, self.session.end_fit)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Records that the run was interrupted. Lightning calls no `teardown` after an exception."""
        self._run(trainer, self.session.interrupt)
        release_monitors(trainer)
        self._drop_log_methods()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the model; raises what tells the tuner of a stopped run."""
        release_monitors(trainer)
        if is_busy_elsewhere(self.session, trainer):
            return
        self._run(trainer, self.session.close)
        write_waiting()
        self._drop_log_methods()
        if self._trial is not None:
            self._trial.raise_if_stopped(trainer, pl_module, self)

    def _drop_log_methods(self) -> None:
        """Removes the model's methods that the Trainer has given to the callback, and the model with them."""
        for name in ("log", "log_dict"):
            self.__dict__.pop(name, None)

    # -- batches ---------------------------------------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts to trace the first batch."""
        self._run(trainer, self.session.start_batch, batch_idx)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Builds the graph from the traced forward pass."""
        self._run(trainer, self.session.end_forward, loss)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Reads snapshot 0."""
        self._run(trainer, self.session.start_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the weights if that is due, and decides."""
        self._run(trainer, self.session.end_batch, outputs, batch_idx)
        if self._pause.member is not None and not trainer.is_last_batch:  # each call costs, at each batch
            self._pause.report(trainer, within_epoch=True)

    # -- epochs ----------------------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the last metrics of the epoch before."""
        self._pause.start_epoch(trainer)
        self._run(trainer, self.session.start_epoch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the validation accuracy; decides where an epoch's end has waited for it."""
        self._run(trainer, self.session.end_validation)
        if not (trainer.sanity_checking or trainer.is_last_batch):
            self._pause.report(trainer, within_epoch=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decides at the epoch's end."""
        self._run(trainer, self.session.end_epoch)
        self._pause.report(trainer, within_epoch=False)

    # -- checkpoints -----------------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the record of one Trainer's run out of another's checkpoint."""
        if is_busy_elsewhere(self.session, trainer):
            checkpoint.get("callbacks", {}).pop(self.state_key, None)

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
        return self._pause.add_to(self.session.state_dict())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up the record of an interrupted run; what cannot be read is reported in `on_train_start`."""
        self._pause.load(state_dict)
        self.session.load_state_dict(state_dict)
