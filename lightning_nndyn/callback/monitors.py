"""Other callbacks that monitor our values: what they see while there is no verdict.

Lightning ends a training in which ModelCheckpoint or EarlyStopping does not find the value that it monitors,
and EarlyStopping counts each check without a gain. But there may be no verdict yet, none in this epoch, or no
more. So there is a value from the start, the worst there is, and EarlyStopping checks only what is new.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from lightning_nndyn.signature.snapshot import STATISTICS

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_VERDICT = ("predicted_accuracy", "relative_accuracy", "p_low", "risk", "stop", "in_domain")
_SWEEP = ("p_good", "predicted_value")
KEYS = frozenset(f"nndyn/{name}" for name in (*_VERDICT, *_SWEEP, *STATISTICS))
"""All that may be logged."""

_CHECK = "_should_skip_check"  # EarlyStopping's question whether to leave out a check


def prepare_monitors(trainer: Trainer) -> None:
    """Gives the callbacks and schedulers that monitor our values the worst ones to see.

    Args:
        trainer: whose callbacks they are, once it trains.
    """
    metrics, device = trainer.callback_metrics, trainer.strategy.root_device
    for monitor, worst in _monitored(trainer):
        metrics.setdefault(monitor, torch.tensor(worst, device=device))
    for stopper in _stoppers(trainer):
        stopper.__dict__[_CHECK] = _OnlyNewValues(stopper)


def note_values(trainer: Trainer, names: Iterable[str]) -> None:
    """Lets EarlyStopping check what it monitors, if it is among the values that have just been logged."""
    new = set(names)
    for stopper in _stoppers(trainer):
        check = stopper.__dict__.get(_CHECK)
        if isinstance(check, _OnlyNewValues) and stopper.monitor in new:
            check.new = True


def release_monitors(trainer: Trainer) -> None:
    """Leaves the callbacks as they were."""
    for stopper in _stoppers(trainer):
        if isinstance(stopper.__dict__.get(_CHECK), _OnlyNewValues):
            del stopper.__dict__[_CHECK]


class _OnlyNewValues:
    """Takes the place of an EarlyStopping's question whether to leave out a check."""

    def __init__(self, stopper: Any) -> None:
        self.stopper, self.new = stopper, False

    def __call__(self, trainer: Trainer) -> bool:
        skips = getattr(type(self.stopper), _CHECK)(self.stopper, trainer) or not self.new
        self.new = self.new and skips
        return bool(skips)


def _stoppers(trainer: Trainer) -> list[Any]:
    """The EarlyStopping callbacks, of either namespace, that monitor a value of ours."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return [one for one in callbacks if hasattr(type(one), _CHECK) and _monitor_of(one) in KEYS]


def _monitored(trainer: Trainer) -> Iterator[tuple[str, float]]:
    """The values of ours that are monitored, and the worst that each can be."""
    # Others, such as a tuner's pruner, may do without a value, and would take the worst for bad.
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    needy = [one for one in callbacks if hasattr(one, _CHECK) or hasattr(one, "save_top_k")]
    modes = [(one, one) for one in needy]
    modes += [(config, config.scheduler) for config in trainer.lr_scheduler_configs]
    for one, has_mode in modes:
        if _monitor_of(one) in KEYS:
            yield one.monitor, -math.inf if getattr(has_mode, "mode", "min") == "max" else math.inf


def _monitor_of(one: Any) -> str:
    monitor = getattr(one, "monitor", None)
    return monitor if isinstance(monitor, str) else ""
