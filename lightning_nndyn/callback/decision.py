"""A predictor and a policy at work on the record of one run."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor, load_predictor
from lightning_nndyn.predictor.policy import Policy
from lightning_nndyn.predictor.verdict import WEIGHTS, WEIGHTS_AND_CURVE


@dataclass
class DecisionMaker:
    """Gives verdicts on the snapshots of a run, and takes decisions on the verdicts."""

    predictor: Predictor
    policy: Policy
    refusal: PredictorError | None = None  # why there is no verdict yet

    @classmethod
    def of(
        cls,
        predictor: str | Path | Predictor,
        max_false_stop_rate: float,
        threshold: float | None,
        confidence: float | None = None,
    ) -> DecisionMaker:
        """Loads the predictor where a name or a path is given.

        Raises:
            PredictorError: if it cannot be loaded, or is not fitted.
        """
        loaded = predictor if isinstance(predictor, Predictor) else load_predictor(predictor)
        if not loaded.times:
            raise PredictorError("the predictor is not fitted: call its fit(), or name a shipped one")
        policy = Policy.from_predictor(
            loaded, max_false_stop_rate=max_false_stop_rate, threshold=threshold, confidence=confidence
        )
        return cls(loaded, policy)

    @property
    def facts(self) -> dict[str, Any]:
        """What decisions rest on, JSON-able: what is low, the rate that is allowed, the limits of risk."""
        policy = self.policy
        return {
            "low_threshold": self.predictor.low_threshold,
            "low_share": self.predictor.low_share,
            "max_false_stop_rate": policy.max_false_stop_rate,
            "confidence": policy.confidence,
            "threshold": policy.threshold,
            "limits": {kind: policy.risk_threshold(kind) for kind in policy.max_risks_of_good_runs},
        }

    def choose_kind(self, record: Record, monitored: bool) -> str:
        """Settles which models judge the run, by what is known first, and for good.

        The promise about good runs is one of each kind of models.

        Args:
            record: the run's record.
            monitored: whether the run's curve is to be read.

        Returns:
            What there is to warn of; empty if nothing.
        """
        if record.kind or not record.history[-1].finite:
            return ""
        record.kind = WEIGHTS
        if not monitored or not self.predictor.reads_curves:
            return ""
        if not math.isfinite(record.losses[record.time][1]):
            return "the training step returns no finite loss: the run is judged by its weights alone"
        if record.curve().known((record.time,)):
            record.kind = WEIGHTS_AND_CURVE
        return ""

    def hear(self, record: Record) -> None:
        """Adds a verdict to the record, if there is anything new for the predictor to read."""
        curve = record.curve() if record.kind == WEIGHTS_AND_CURVE else None
        try:
            verdict = self.predictor.predict(record.history, curve=curve, training=record.training)
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
        last = record.verdicts[-1]
        return not last.in_domain or not self.policy.can_stop(last.kind)


def predictor_name(predictor: str | Path | Predictor | None) -> str | None:
    """What to call a predictor in a checkpoint: the same in another process and for an equal predictor."""
    if not isinstance(predictor, Predictor):
        return None if predictor is None else str(predictor)
    facts = {key: value for key, value in predictor.card.items() if key not in ("sha256", "size", "versions")}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{predictor.card.get('corpus')} {digest[:12]}"
