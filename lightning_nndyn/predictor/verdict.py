"""A verdict: what a predictor says of a run at one time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_nndyn._files import Finite

WEIGHTS, WEIGHTS_AND_CURVE, CURVE = "weights", "fused", "curve"
"""Kinds of models: those that read the weights alone, the learning curve as well, or the curve alone.

"fused" is the name in cards, archives and records.
"""


@dataclass(frozen=True)
class Verdict:
    """What a predictor says of a run at one time.

    Attributes:
        predicted_accuracy: final accuracy, a fraction.
        p_low: probability that the final accuracy is low, by the predictor's rule for low accuracy.
        epoch: time of the last snapshot that the verdict rests on, or of an accuracy that has exceeded what
            was predicted.
        in_domain: whether the run resembles those that the predictor was fitted to.
        note: why it does not, or when the weights ceased to be finite; else empty.
        diverged: whether the weights are no longer finite; `p_low` is 1 then.
        relative_accuracy: final accuracy as a share of what the network can reach on its data: 0 is guessing,
            1 the best run; None where the predictor does not predict it.
        risk: how far `p_low` is above that of good runs at this time, in their standard deviations.
        kind: "weights", "fused" if the run's learning curve was read as well, "curve" if that alone was.
        distance: from the runs of the fit; 1 is usual for a run that is not among them. None if not measured.
        p_domain: share of held-out runs of the corpus that are as far away.
    """

    predicted_accuracy: Finite
    p_low: Finite
    epoch: Finite
    in_domain: bool
    note: str = ""
    diverged: bool = False
    relative_accuracy: Finite | None = None
    risk: Finite = 0.0
    kind: str = WEIGHTS
    distance: float | None = None
    p_domain: float | None = None

    def at_least(self, seen: float) -> Verdict:
        """The verdict on a run that has reached an accuracy: it ends with its best, and so with no less."""
        return replace(self, predicted_accuracy=max(self.predicted_accuracy, seen))
