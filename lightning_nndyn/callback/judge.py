"""A predictor and a policy at work on the record of one run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.policy import Policy
from lightning_nndyn.predictor import Predictor, Training, load_predictor


@dataclass
class Judge:
    """Gives verdicts on the snapshots of a run, and takes decisions on the verdicts."""

    predictor: Predictor
    policy: Policy
    refusal: PredictorError | None = None  # why there is no verdict yet
    training: Training | None = None  # how the run is trained, once that is known

    @classmethod
    def of(
        cls, predictor: str | Path | Predictor, max_false_stop_rate: float, threshold: float | None
    ) -> Judge:
        """Loads the predictor where a name or a path is given.

        Raises:
            PredictorError: if it cannot be loaded, or is not fitted.
        """
        loaded = predictor if isinstance(predictor, Predictor) else load_predictor(predictor)
        if not loaded.times:
            raise PredictorError("the predictor is not fitted: call its fit(), or name a shipped one")
        return cls(loaded, Policy.of(loaded, max_false_stop_rate=max_false_stop_rate, threshold=threshold))

    def hear(self, record: Record) -> None:
        """Adds a verdict to the record, if its last snapshot tells the predictor anything new."""
        try:
            verdict = self.predictor.predict(record.history, training=self.training)
        except PredictorError as error:  # the first time that it knows has not come
            self.refusal = error
            return
        if not record.verdicts or verdict.epoch > record.verdicts[-1].epoch:
            record.verdicts.append(verdict)

    def decide(self, record: Record, epochs: int, held_back: str) -> None:
        """Decides upon the last verdict. A decision to stop stays, whatever comes after it.

        Args:
            record: the run's record, where the decision is put.
            epochs: how many epochs have passed.
            held_back: why the run may not be stopped yet; empty if it may. A verdict of that time is
                decided upon again while it is the last, and then forgotten.

        Raises:
            PredictorError: if a whole epoch has brought no verdict.
        """
        if record.decision.stop:
            return
        if not record.verdicts:
            if self.refusal is not None and epochs > 0:
                raise self.refusal
            return
        decision = self.policy.decide(record.verdicts[-1:])
        if decision.stop and held_back:
            decision = replace(decision, stop=False, reason=f"{held_back}; otherwise: {decision.reason}")
        record.decision = decision

    def powerless(self, record: Record) -> bool:
        """Whether this run will not be stopped for its prediction, whatever it is."""
        if not record.verdicts or record.decision.stop:
            return False
        return not record.verdicts[-1].in_domain or self.policy.calibrated_threshold is None


def name_of(predictor: str | Path | Predictor | None) -> str | None:
    """What to call a predictor in a checkpoint: the same in another process and for an equal predictor."""
    if not isinstance(predictor, Predictor):
        return None if predictor is None else str(predictor)
    facts = {key: value for key, value in predictor.card.items() if key not in ("sha256", "size", "versions")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{predictor.card.get('corpus')} {digest[:12]}"
