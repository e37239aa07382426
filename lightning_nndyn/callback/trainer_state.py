"""What the callback asks of a Trainer. Nothing here changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_nndyn.predictor import TrainingSetup

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def model_to_trace(trainer: Trainer) -> nn.Module:
    """The model, or what FSDP has wrapped it in, which knows where its weights are."""
    model = trainer.strategy.model
    flat = model is not None and getattr(model, "_handle", None) is not None
    return model if flat else trainer.lightning_module  # type: ignore[return-value]


def training_setup(trainer: Trainer, steps: int | None = None) -> TrainingSetup:
    """How the run is trained, with so many optimizer steps an epoch; None for those of the data loader."""
    optimizers = {type(optimizer).__name__.lower() for optimizer in trainer.optimizers}
    return TrainingSetup(
        steps_per_epoch=steps or _steps_per_epoch(trainer),
        optimizer=" and ".join(sorted(optimizers)) or None,
        planned_epochs=_planned_epochs(trainer, steps),
        learning_rate=_learning_rate(trainer),
    )


def _learning_rate(trainer: Trainer) -> float | None:
    """The first optimizer's, before any schedule's factor; None without one, or if it is no finite number."""
    groups = [group for optimizer in trainer.optimizers[:1] for group in optimizer.param_groups[:1]]
    rates = [float(group.get("initial_lr", group.get("lr", math.nan))) for group in groups]
    return next(filter(math.isfinite, rates), None)


def _planned_epochs(trainer: Trainer, steps: int | None) -> float | None:
    """The most epochs, of so many optimizer steps each, of the run; -1 for no end, None if not known."""
    loader_steps = _steps_per_epoch(trainer)
    epochs, limits = trainer.max_epochs, []
    if epochs is not None and epochs >= 0:
        if steps is None:
            limits.append(float(epochs))
        elif loader_steps is not None:
            limits.append(epochs * loader_steps / steps)
    length = steps or loader_steps
    if trainer.max_steps >= 0 and length:
        limits.append(trainer.max_steps / length)
    endless = epochs == -1 and trainer.max_steps == -1
    return min(limits, default=-1.0 if endless else None)


def _steps_per_epoch(trainer: Trainer) -> float | None:
    """Optimizer steps in an epoch; None where it has no length, or the model makes the steps itself."""
    batches = trainer.num_training_batches
    if not math.isfinite(batches) or not trainer.lightning_module.automatic_optimization:
        return None
    # Accumulation may change by epoch. Predictors know the first epochs best, so the first one counts.
    return math.ceil(batches / batches_per_step(trainer, 0))


def batches_per_step(trainer: Trainer, epoch: int) -> int:
    """Over how many batches an epoch (counted from 0) accumulates gradients.

    Lightning's `GradientAccumulationScheduler` tells the Trainer only once the epoch has begun.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        schedule = getattr(callback, "get_accumulate_grad_batches", None)
        if schedule is not None:
            return int(schedule(epoch))
    return trainer.accumulate_grad_batches


def loss_divisor(trainer: Trainer) -> int:
    """The number by which Lightning has divided the loss that a training step returns."""
    parts = trainer.accumulate_grad_batches
    return parts if parts == 1 or trainer.lightning_module.automatic_optimization else 1


def stop_blocked_by(trainer: Trainer, epochs: int) -> str:
    """Why a run of so many finished epochs may not be stopped yet; empty if it may."""
    if epochs < (trainer.min_epochs or 0):
        return f"min_epochs={trainer.min_epochs} is not reached"
    if trainer.global_step < (trainer.min_steps or 0):
        return f"min_steps={trainer.min_steps} is not reached"
    return ""


def was_cut_short(trainer: Trainer) -> bool:
    """Whether the Trainer has ended the run before the epoch's last batch."""
    stopped = trainer.should_stop or (0 <= trainer.max_steps <= trainer.global_step)
    return stopped and not trainer.is_last_batch


def is_complete(trainer: Trainer) -> bool:
    """Whether a run that ends now has had all the epochs, or steps, that it was to have."""
    epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch
    # The last epoch counts as one also where it was cut short.
    return (epochs and trainer.is_last_batch) or 0 <= trainer.max_steps <= trainer.global_step


def has_validation(trainer: Trainer) -> bool:
    """Whether there is anything to validate on, as far as that is known."""
    empty = trainer.val_dataloaders is not None and not sum(trainer.num_val_batches)
    return trainer.enable_validation and not empty


def validation_follows(trainer: Trainer) -> bool:
    """Whether the Trainer validates next, as far as that can be known at the end of a batch."""
    # With an interval in time it is decided only when Lightning looks at the clock.
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        return False
    if not has_validation(trainer):
        return False
    fit = trainer.fit_loop
    try:
        return fit._data_fetcher is not None and fit.epoch_loop._should_check_val_fx(fit._data_fetcher)
    except Exception:  # private, so another version of Lightning may have it otherwise
        return False


def metrics_shown(trainer: Trainer) -> Mapping[str, Any]:
    """The metrics as of the latest batch or epoch, without those that hooks have logged since."""
    # Asked for its `callback_metrics`, the Trainer adds these.
    known = getattr(trainer._logger_connector, "_callback_metrics", None)
    return trainer.callback_metrics if known is None else known


def hyperparameters(trainer: Trainer) -> Mapping[str, Any]:
    """The model's `hparams`; none where it has saved none, or something else has that name."""
    try:
        return dict(trainer.lightning_module.hparams)
    except Exception:  # a user's own attribute
        return {}


def record_folder(trainer: Trainer, record: bool | str | Path, log_folder: str | None) -> Path | None:
    """Where a run's record goes; None for nowhere, as with a log folder that is no folder of this machine.

    Args:
        trainer: whose run it is.
        record: the user's choice: whether, or where.
        log_folder: the Trainer's.
    """
    if isinstance(record, (str, Path)):
        return Path(record)
    wanted = record and trainer.loggers and not trainer.barebones
    return Path(log_folder) if wanted and log_folder and "://" not in log_folder else None
