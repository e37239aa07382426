"""What there is to tell of a run that has ended: the predictions, the decision and its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_nndyn.callback.record import Record
from lightning_nndyn.predictor import Verdict

_SENTENCES = {"stop": "stops this run", "would stop": "would stop this run", "go on": "lets this run go on"}


@dataclass(frozen=True)
class Story:
    """How a run was judged.

    Attributes:
        run: its name.
        decision: ``"stop"``, ``"would stop"`` (observed, or spared as an audit) or ``"go on"``.
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
    def of(cls, record: Record, stops: bool, monitor: str | None, steps: int | None) -> Story:
        """The story of a record.

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
    def told(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.verdicts) or self.decision != "go on"

    @property
    def text(self) -> str:
        """The decision and its reason as one line."""
        return f"{_SENTENCES[self.decision]}: {self.reason.removeprefix('goes on ')}"

    @property
    def facts(self) -> dict[str, str | float]:
        """The same as values with names."""
        return {
            "nndyn/decision": self.decision,
            "nndyn/reason": self.reason,
            "nndyn/decision_epoch": self.epoch,
        }
