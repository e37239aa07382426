"""What dashboards show of a run that has ended: its predictions, the decision and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.callback.record import Record
from lightning_nndyn.predictor import Verdict

_SENTENCES = {"stop": "stops this run", "would stop": "would stop this run", "go on": "lets this run go on"}


@dataclass(frozen=True)
class RunSummary:
    """How a run was judged.

    Attributes:
        run: its name.
        decision: ``"stop"``, ``"would stop"`` (observed, or exempt as an audit) or ``"go on"``.
        reason: one sentence with the numbers behind it.
        epoch: time of the decision, in epochs.
        verdicts: the predictor's, earliest first.
        accuracies: validation accuracy after each epoch; NaN where it is not known.
        monitor: the metric that they are; "" if there is none.
        steps: optimizer steps that count as an epoch; None for the Trainer's epochs.
    """

    run: str
    decision: str
    reason: str
    epoch: float
    verdicts: Sequence[Verdict]
    accuracies: Sequence[float] = ()
    monitor: str = ""
    steps: int | None = None

    @classmethod
    def from_record(cls, record: Record, stops: bool, monitor: str | None, steps: int | None) -> RunSummary:
        """The summary of a record.

        Args:
            record: the run's.
            stops: whether what was decided stops the run.
            monitor: the metric that is the validation accuracy.
            steps: optimizer steps that count as an epoch; None for the Trainer's epochs.
        """
        found = record.decision
        decision = ("stop" if stops else "would stop") if found.stop else "go on"
        reason = f"{found.reason}; {record.exempt}" if found.stop and record.exempt else found.reason
        curve = list(record.accuracies)
        return cls(
            record.run, decision, reason, found.epoch, list(record.verdicts), curve, monitor or "", steps
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was predicted or decided."""
        return not self.verdicts and self.decision == "go on"

    @property
    def text(self) -> str:
        """The decision and its reason as one line."""
        return f"{_SENTENCES[self.decision]}: {self.reason.removeprefix('goes on ')}"

    @property
    def facts(self) -> dict[str, str | float]:
        """The decision as named values."""
        return {
            "nndyn/decision": self.decision,
            "nndyn/reason": self.reason,
            "nndyn/decision_epoch": self.epoch,
        }
