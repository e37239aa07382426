"""The one line at a run's start: what is read, who judges, when it may be stopped, where the record goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_nndyn.callback.decision import RunDecider, predictor_name
from lightning_nndyn.callback.decision_maker import DecisionMaker
from lightning_nndyn.callback.messages import OWN_RUNS, frozen_layers
from lightning_nndyn.callback.record import Record
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.task import RunTask
from lightning_nndyn.predictor import Predictor
from lightning_nndyn.predictor.curve_model import first_epoch as first_predicted_epoch
from lightning_nndyn.predictor.domain import why_out_of_domain
from lightning_nndyn.predictor.no_progress import first_epoch
from lightning_nndyn.predictor.policy import epochs_in_words

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


def start_line(
    trainer: Trainer,
    settings: Settings,
    decisions: RunDecider,
    record: Record,
    layers: Sequence[str],
    frozen: Sequence[str],
    file: Path | None,
) -> str:
    """What a user is told when a run begins, or is resumed.

    Args:
        trainer: whose run it is.
        settings: the callback's arguments.
        decisions: who judges.
        record: the run's, with its first snapshot.
        layers: names of those that weights are read of.
        frozen: those of them that no optimizer holds.
        file: the record's; None where none is kept.
    """
    parts = [
        f"reads {len(layers)} layer{'' if len(layers) == 1 else 's'}",
        frozen_layers(frozen),
        _judge(settings, decisions, record),
        record.exempt or _when(trainer, settings, decisions, record),
        f"record: {_from_here(file)}" if file else "no record is kept",
    ]
    return "; ".join(filter(None, parts))


def _from_here(file: Path) -> Path:
    """A file's path as a user would type it: relative where it lies below the working directory."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        return file
    return file.relative_to(here) if file.is_relative_to(here) else file


def _judge(settings: Settings, decisions: RunDecider, record: Record) -> str:
    task, maker = decisions.task, decisions.maker
    metric = f" and {task.metric}" if task.metric is not None and task.reads_metric else ""
    if decisions.in_sweep:
        return f"its sweep's runs judge it, by hyperparameters, weights{metric}"
    if maker is None:
        return f"records weights{metric}, and nothing judges it (predictor=None)"
    if not task.has_accuracy:
        return f"{task.why_silent}; records weights{metric}"
    if _by_curve_alone(task, maker, record):
        return (
            f"{_name(settings)} does not know such runs ({_unknown(maker, record)}), so {task.metric} alone "
            "judges it, as other networks' curves have ended"
        )
    until = epochs_in_words(max(maker.predictor.times))
    later = f", then by {task.metric.name}" if task.metric is not None and metric else ""
    return f"{_name(settings)} judges it by weights{metric} for {until}{later}"


def _when(trainer: Trainer, settings: Settings, decisions: RunDecider, record: Record) -> str:
    """From when on the run may be stopped."""
    if settings.action == "observe":
        return "nothing is stopped (action='observe')"
    if decisions.in_sweep:
        return (
            "may stop it from the third run on"
            if decisions.compares_at_once
            else "may stop it once they are enough"
        )
    maker, task = decisions.maker, decisions.task
    if maker is None:
        return ""
    grace = float(trainer.min_epochs or 0)
    unknown = _unknown(maker, record)
    able = any(map(maker.policy.can_stop, maker.policy.max_risks_of_good_runs)) or maker.policy.threshold
    if task.has_accuracy and able and not unknown:
        return f"may stop it from epoch {max(min(maker.predictor.times), grace):g} on"
    planned = record.training.planned_epochs
    if planned is not None and _by_curve_alone(task, maker, record):
        return f"may stop it from epoch {max(first_predicted_epoch(planned), grace):g} on"
    why = (
        f"the predictor does not know such runs ({unknown}), so it " if task.has_accuracy and unknown else ""
    )
    first = first_epoch(record.training.planned_epochs)
    stuck = ""
    if first is not None and task.metric is not None and task.metric.mode is not None:
        stuck = f", or if {task.metric.name} gets nowhere by epoch {max(first, grace):g}"
    compares = decisions.earlier is not None and decisions.earlier.folder is not None
    below = ", or stands far below earlier runs of its log folder" if compares else ""
    hint = f"; {OWN_RUNS}" if why else ""
    return f"{why}is stopped only if it diverges{stuck}{below}{hint}"


def _unknown(maker: DecisionMaker, record: Record) -> str:
    """Why the predictor does not know the run; empty where it does."""
    return why_out_of_domain(maker.predictor.card["domain"], record.history[0], record.training)


def _by_curve_alone(task: RunTask, maker: DecisionMaker, record: Record) -> bool:
    """Whether the run's curve judges it in the predictor's place."""
    judged = maker.judges_curve(record.training.planned_epochs)
    return task.has_accuracy and task.reads_metric and judged and bool(_unknown(maker, record))


def _name(settings: Settings) -> str:
    predictor = settings.predictor
    return (
        f"the predictor of {predictor.card.get('corpus')}"
        if isinstance(predictor, Predictor)
        else str(predictor_name(predictor))
    )
