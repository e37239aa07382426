"""The callback that reads a candidate, and ends its lap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.callback.fit import Fit
from lightning_nndyn.predictor import Verdict
from lightning_nndyn.predictor.policy import Decision, epochs_in_words


class LapCallback(GraphDynamicsCallback):
    """Ends a run once its weights were read at a time, whatever the predictor says; or when it diverges.

    Args:
        until: time in epochs; None for the run's own end.
        arguments: of `GraphDynamicsCallback`.
    """

    def __init__(self, until: float | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._until = until

    @property
    def time(self) -> float:
        """When the run was read last, in epochs."""
        return self._record.time

    @property
    def diverged(self) -> bool:
        """Whether weights are no longer finite."""
        return bool(self.history) and not self.history[-1].finite

    @property
    def verdict(self) -> Verdict | None:
        """The predictor's last within the lap."""
        limit = math.inf if self._until is None else self._until
        return next((verdict for verdict in self.verdicts[::-1] if verdict.epoch <= limit), None)

    @property
    def seen(self) -> float | None:
        """The best validation accuracy within the lap; None without one."""
        epochs = None if self._until is None else int(self._until)
        known = [value for value in self._record.accuracies[:epochs] if math.isfinite(value)]
        return max(known, default=None)

    def _begin(self, trainer: Any, fit: Fit) -> None:
        super()._begin(trainer, fit)
        # All candidates are of one length: they are ranked, and nothing is promised about good ones.
        self._record.training = replace(self._record.training, planned_epochs=None)

    def _judge(self, held_back: str, fit: Fit) -> None:
        """In place of the predictor's own decision, on each process alike."""
        if self.decision.stop:
            return
        if self.diverged:
            self._record.decision = Decision(True, "weights are not finite", self.time)
        elif self._until is not None and self.time >= self._until:
            reason = f"the lap of {epochs_in_words(self._until)} is over"
            self._record.decision = Decision(not held_back, held_back or reason, self.time)
