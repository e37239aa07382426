"""What the callback asks of a Trainer, and tells it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lightning_nndyn.callback.record import Record
from lightning_nndyn.predictor import TrainingSetup
from lightning_nndyn.signature.snapshot import STATISTICS

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def watched(trainer: Trainer) -> nn.Module:
    """The model, or what FSDP has wrapped it in, which knows where its weights are."""
    model = trainer.strategy.model
    flat = model is not None and getattr(model, "_handle", None) is not None
    return model if flat else trainer.lightning_module  # type: ignore[return-value]


def training_of(trainer: Trainer, steps: int | None = None) -> TrainingSetup:
    """How the run is trained, with so many optimizer steps an epoch; None for those of the data loader."""
    optimizers = {type(optimizer).__name__.lower() for optimizer in trainer.optimizers}
    return TrainingSetup(
        steps_per_epoch=steps or _steps_per_epoch(trainer),
        optimizer=" and ".join(sorted(optimizers)) or None,
        planned_epochs=_planned_epochs(trainer, steps),
    )


def _planned_epochs(trainer: Trainer, steps: int | None) -> float | None:
    """How many epochs, of so many optimizer steps, the run may have; -1 for no end, None if not known."""
    own = _steps_per_epoch(trainer)
    epochs, limits = trainer.max_epochs, []
    if epochs is not None and epochs >= 0:
        if steps is None:
            limits.append(float(epochs))
        elif own is not None:
            limits.append(epochs * own / steps)
    length = steps or own
    if trainer.max_steps >= 0 and length:
        limits.append(trainer.max_steps / length)
    endless = epochs == -1 and trainer.max_steps == -1
    return min(limits, default=-1.0 if endless else None)


def _steps_per_epoch(trainer: Trainer) -> float | None:
    """Optimizer steps in an epoch; None where it has no length, or the model makes the steps itself."""
    batches = trainer.num_training_batches
    if not math.isfinite(batches) or not trainer.lightning_module.automatic_optimization:
        return None
    return math.ceil(batches / batches_per_step(trainer, 0))  # of the first epochs predictors know most


def batches_per_step(trainer: Trainer, epoch: int) -> int:
    """Over how many batches an epoch (counted from 0) accumulates gradients.

    Lightning's `GradientAccumulationScheduler` tells the Trainer only once the epoch has begun.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        schedule = getattr(callback, "get_accumulate_grad_batches", None)
        if schedule is not None:
            return int(schedule(epoch))
    return trainer.accumulate_grad_batches


def loss_parts(trainer: Trainer) -> int:
    """By how many Lightning has divided the loss that it hands on."""
    parts = trainer.accumulate_grad_batches
    return parts if parts == 1 or trainer.lightning_module.automatic_optimization else 1


def held_back(trainer: Trainer, epochs: int) -> str:
    """Why a run of so many finished epochs may not be stopped yet; empty if it may."""
    if epochs < (trainer.min_epochs or 0):
        return f"min_epochs={trainer.min_epochs} is not reached"
    if trainer.global_step < (trainer.min_steps or 0):
        return f"min_steps={trainer.min_steps} is not reached"
    return ""


def broken_off(trainer: Trainer) -> bool:
    """Whether the Trainer has ended the run before the epoch's last batch."""
    stopped = trainer.should_stop or (0 <= trainer.max_steps <= trainer.global_step)
    return stopped and not trainer.is_last_batch


def at_full_length(trainer: Trainer) -> bool:
    """Whether a run that ends now has had all the epochs, or steps, that it was to have."""
    epochs = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch
    # The last epoch counts as one also where it was broken off.
    return (epochs and trainer.is_last_batch) or 0 <= trainer.max_steps <= trainer.global_step


def has_validation(trainer: Trainer) -> bool:
    """Whether there is anything to validate on, as far as that is known."""
    empty = trainer.val_dataloaders is not None and not sum(trainer.num_val_batches)
    return trainer.enable_validation and not empty


def validation_follows(trainer: Trainer) -> bool:
    """Whether the Trainer validates next, as far as that can be known at the end of a batch."""
    if getattr(trainer, "_val_check_time_interval", None) is not None:  # time will tell
        return False
    if not has_validation(trainer):
        return False
    fit = trainer.fit_loop
    try:
        return fit._data_fetcher is not None and fit.epoch_loop._should_check_val_fx(fit._data_fetcher)
    except Exception:  # a Lightning that asks itself in another way
        return False


def mean_over_processes(trainer: Trainer, value: float) -> float:
    """The mean over those processes that have a value; NaN where none has. All of them must call this."""
    known = math.isfinite(value)
    pair = torch.tensor([value if known else 0.0, float(known)], device=trainer.strategy.root_device)
    total, count = trainer.strategy.reduce(pair, reduce_op="mean").tolist()
    return total / count if count else math.nan


def note_accuracy(
    trainer: Trainer, record: Record, monitor: str, logged: Any, epoch: int, any_metric: bool = False
) -> str:
    """Puts down an epoch's validation accuracy; processes may each have validated a share of their own.

    Args:
        trainer: whose epoch it is.
        record: where the accuracy is put.
        monitor: name of the metric.
        logged: its value; None where there is none.
        epoch: which one, counted from 0.
        any_metric: whether it may be something else than an accuracy.

    Returns:
        What is to be said as long as there has been no accuracy; else empty.
    """
    value = mean_over_processes(trainer, math.nan if logged is None else float(logged))
    accuracies = record.accuracies
    accuracies[epoch:] = []  # of an epoch that is validated, or trained, again
    accuracies += [math.nan] * (epoch - len(accuracies))
    accuracies.append(value if 0 <= value <= 1 or any_metric else math.nan)
    if any(math.isfinite(accuracy) for accuracy in accuracies):
        return ""
    found = f"is {value:g}" if math.isfinite(value) else "was not logged by validation"
    names = ", ".join(sorted(name for name in trainer.callback_metrics if not name.startswith("nndyn/")))
    return (
        f"monitor={monitor!r} {found}; give a metric that is an accuracy between 0 and 1 (logged: "
        f"{names or 'none'}). Until it is there, runs are judged in their first epoch only"
    )


def logged_values(record: Record, snapshots: int, verdicts: int, statistics: bool) -> dict[str, float]:
    """What to log of a record, after so many snapshots and verdicts; `statistics` of the weights too."""
    values: dict[str, float] = {}
    if len(record.verdicts) > verdicts:
        last = record.verdicts[-1]
        values["nndyn/predicted_accuracy"] = last.predicted_accuracy
        values["nndyn/p_low"] = last.p_low
        values["nndyn/stop"] = float(record.decision.stop)
        values["nndyn/in_domain"] = float(last.in_domain)
        values["nndyn/risk"] = last.risk
        if last.relative_accuracy is not None:
            values["nndyn/relative_accuracy"] = last.relative_accuracy
    if len(record.history) > snapshots and statistics:
        found = zip(STATISTICS, record.history[-1].statistics, strict=True)
        values |= {f"nndyn/{name}": value for name, value in found}
    return values


def log(trainer: Trainer, values: Mapping[str, float], in_batch: bool) -> None:
    """Logs values to those who monitor, and to the loggers.

    Args:
        trainer: whose metrics and loggers these are.
        values: by name.
        in_batch: whether the Trainer is still busy with the batch that they belong to.
    """
    # `self.log` may not be called after validation, and what it was given before would hide what is put here.
    # To loggers it would skip snapshots between two multiples of `log_every_n_steps`, and repeat old ones.
    device = trainer.strategy.root_device
    trainer.callback_metrics.update(
        {name: torch.tensor(value, device=device) for name, value in values.items()}
    )
    step = logged_step(trainer, in_batch)
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)
        logger.save()


def logged_step(trainer: Trainer, in_batch: bool) -> int:
    """The x axis of all that Lightning logs; it counts a batch once its hooks have run."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped - (not in_batch)
