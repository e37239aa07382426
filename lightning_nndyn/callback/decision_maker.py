"""Verdicts of a run's predictor, and the decisions upon them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor import Predictor, load_predictor
from lightning_nndyn.predictor.curve_model import CurveModel, shipped_curve_model
from lightning_nndyn.predictor.policy import Decision, Policy, epochs_in_words
from lightning_nndyn.predictor.verdict import CURVE, WEIGHTS, WEIGHTS_AND_CURVE, Verdict


@dataclass
class DecisionMaker:
    """Predicts verdicts from a run's snapshots, and decides upon them.

    Attributes:
        predictor: gives the verdicts.
        policy: turns a verdict into a decision.
        curve_model: predicts by the curve alone where the predictor does not know the run, and later than it
            does; None for a predictor of the user's own, and in a sweep.
        refusal: why there is no verdict yet; None once there is, or before anything is asked.
    """

    predictor: Predictor
    policy: Policy
    curve_model: CurveModel | None = None
    refusal: PredictorError | None = None

    @classmethod
    def load(
        cls,
        predictor: str | Path | Predictor,
        max_false_stop_rate: float,
        threshold: float | None,
        confidence: float | None = None,
        *,
        reads_curve: bool = False,
    ) -> DecisionMaker:
        """Loads the predictor where a name or a path is given.

        Args:
            predictor: or its name, or its path.
            max_false_stop_rate: see `Policy`.
            threshold: see `Policy`.
            confidence: see `Policy`.
            reads_curve: whether a model of the curve alone goes with a predictor that ships.

        Raises:
            PredictorError: if it cannot be loaded, or is not fitted.
        """
        loaded = predictor if isinstance(predictor, Predictor) else load_predictor(predictor)
        if not loaded.times:
            raise PredictorError("the predictor is not fitted: call its fit(), or name a shipped one")
        policy = Policy.from_predictor(
            loaded, max_false_stop_rate=max_false_stop_rate, threshold=threshold, confidence=confidence
        )
        if not (reads_curve and loaded.shipped):
            return cls(loaded, policy)
        model = shipped_curve_model()
        risks = {**policy.max_risks_of_good_runs, CURVE: model.max_risks_of_good_runs}
        return cls(loaded, replace(policy, max_risks_of_good_runs=risks), model)

    @property
    def facts(self) -> dict[str, Any]:
        """What decisions rest on, JSON-able: what is low, the rate that is allowed, the risk thresholds."""
        policy = self.policy
        return {
            "low_threshold": self.predictor.low_threshold,
            "low_share": self.predictor.low_share,
            "max_false_stop_rate": policy.max_false_stop_rate,
            "confidence": policy.confidence,
            "threshold": policy.threshold,
            "limits": {kind: policy.risk_threshold(kind) for kind in policy.max_risks_of_good_runs},
        }

    def choose_inputs(self, record: Record, monitored: bool) -> str:
        """Chooses once, at the first verdict, whether weights alone or weights and curve are read.

        A run keeps to it, as the promise about good runs holds for each kind of models by itself.

        Args:
            record: the run's record, where the kind is put.
            monitored: whether the run's curve is to be read.

        Returns:
            A warning; empty if there is nothing to warn of.
        """
        if record.kind or not record.history[-1].finite:
            return ""
        record.kind = WEIGHTS
        if not monitored or not self.predictor.reads_curves:
            return ""
        if not math.isfinite(record.losses.get(record.time, (math.nan, math.nan))[1]):
            return "the training step returns no finite loss: the run is judged by its weights alone"
        if record.curve().known((record.time,)):
            record.kind = WEIGHTS_AND_CURVE
        return ""

    def predict(self, record: Record) -> None:
        """Adds a verdict to the record, if there is anything new to read."""
        curve = record.curve() if record.kind == WEIGHTS_AND_CURVE else None
        verdict = None
        try:
            verdict = self.predictor.predict(record.history, curve=curve, training=record.training)
        except PredictorError as error:  # the first of the predictor's times has not come
            self.refusal = error
        if verdict is None or verdict.epoch < record.time or not (verdict.in_domain or verdict.diverged):
            verdict = self._predict_by_curve(record) or verdict
        last = record.verdicts[-1] if record.verdicts else None
        if verdict and (last is None or verdict.epoch > last.epoch):
            record.verdicts.append(verdict.at_least(record.best_accuracy))

    def renew(self, record: Record, epochs: int) -> None:
        """Raises the last prediction to what the run has seen since, when so many epochs have ended."""
        last = record.verdicts[-1] if record.verdicts else None
        if last is None or last.predicted_accuracy >= record.best_accuracy:
            return
        new = replace(last, epoch=max(record.time, float(epochs))).at_least(record.best_accuracy)
        if new.epoch == last.epoch:  # its accuracy has come late
            record.verdicts.pop()
        record.verdicts.append(new)

    def judges_curve(self, planned_epochs: float | None) -> bool:
        """Whether a run of such a length may be stopped for its curve alone."""
        model = self.curve_model
        return model is not None and model.knows(planned_epochs) and self.policy.can_stop(CURVE)

    def _predict_by_curve(self, record: Record) -> Verdict | None:
        if self.curve_model is None or not record.history[-1].finite or record.time != int(record.time):
            return None
        return self.curve_model.predict(record.curve(), int(record.time), record.training.planned_epochs)

    def _decisive(self, record: Record) -> Verdict:
        """The latest verdict of those that may stop the run.

        Each kind of models keeps its promise by itself: about a run that the predictor knows, it has decided.
        """
        own = [one for one in record.verdicts if one.kind != CURVE]
        knows = any(one.in_domain and self.policy.can_stop(one.kind) for one in own)
        return own[-1] if knows else record.verdicts[-1]

    def decide(self, record: Record, epochs: int, blocked_by: str) -> None:
        """Decides upon the last verdict. A decision to stop stays, whatever comes after it.

        Args:
            record: the run's record, where the decision is put.
            epochs: how many epochs have passed.
            blocked_by: why the run may not be stopped yet; empty if it may. A verdict of that time is decided
                upon again as long as it is the last.

        Raises:
            PredictorError: if a whole epoch has brought no verdict.
        """
        if record.decision.stop:
            return
        if record.verdicts:
            found = self.policy.decide([self._decisive(record).at_least(record.best_accuracy)])
            now = max(record.time, float(epochs))
            if found.stop and self._is_good(record):
                found = Decision(False, f"goes on: {record.best_accuracy:.1%} was seen already", found.epoch)
            elif found.stop and found.epoch < now and not blocked_by:
                late = f"; it might not be stopped before {epochs_in_words(now)}"
                found = replace(found, reason=found.reason + late)
            record.decision = unless_blocked(found, blocked_by)
        elif self.refusal is not None and epochs > 0:
            raise self.refusal

    def _is_good(self, record: Record) -> bool:
        """Whether the run has seen an accuracy that is not low, however good others are."""
        if self.policy.threshold is not None or record.verdicts[-1].diverged:
            return False
        lowest = self.predictor.low_rule.lowest_good_accuracy(best=1.0, guess=1 / record.classes)
        return record.best_accuracy >= lowest

    def cannot_stop(self, record: Record) -> bool:
        """Whether this run will not be stopped for its prediction, whatever it is."""
        if not record.verdicts or record.decision.stop:
            return False
        if self.judges_curve(record.training.planned_epochs):
            return False
        last = self._decisive(record)
        return not last.in_domain or not self.policy.can_stop(last.kind)


def unless_blocked(decision: Decision, blocked_by: str) -> Decision:
    """The decision, but not to stop where that is blocked for a reason; "" blocks nothing."""
    if not (decision.stop and blocked_by):
        return decision
    return replace(decision, stop=False, reason=f"{blocked_by}; otherwise: {decision.reason}")
