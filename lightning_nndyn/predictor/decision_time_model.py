"""The model of one decision time, with all that turns its output into a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np

from lightning_nndyn._files import Finite, decode
from lightning_nndyn.predictor.applicability import ApplicabilityArea
from lightning_nndyn.predictor.history import HistoryByEpoch
from lightning_nndyn.predictor.learning_curve import LearningCurve
from lightning_nndyn.predictor.model_family import FittedModel, ModelFamily
from lightning_nndyn.predictor.platt import Platt
from lightning_nndyn.predictor.risk import RiskScale
from lightning_nndyn.predictor.verdict import WEIGHTS, WEIGHTS_AND_CURVE, Verdict
from lightning_nndyn.signature.snapshot import Array

OUT_OF_DOMAIN_LEVEL = 0.02
"""Share of the corpus' own held-out runs that count as out of domain by their distance, at one decision time.

A run is asked about at up to ten times: over all of them a tenth of the universal corpus' own runs count as
out of domain. At 0.05 it was a fifth.
"""


@dataclass(frozen=True)
class DecisionTimeModel:
    """The model of one decision time.

    Attributes:
        times: epochs of the snapshots that are read, besides epoch 0; the last is the time of decision.
        kind: whether the weights alone are read, or the learning curve as well.
        fitted: predicts from a row of numbers.
        blend: weight of the second prediction in the average of the two.
        platt: from the value for low runs to a probability.
        risk: from the same value to a scale on which decision times compare.
        applicability: the runs of the fit; None if their distance is not measured.
    """

    times: tuple[float, ...]
    kind: str
    fitted: FittedModel
    blend: float
    platt: Platt
    risk: RiskScale
    applicability: ApplicabilityArea | None

    def ready(self, history: HistoryByEpoch, curve: LearningCurve | None) -> bool:
        """Whether a run has all that this model reads."""
        if not all(time in history for time in self.times):
            return False
        if curve is None:
            return self.kind == WEIGHTS
        return self.kind == WEIGHTS_AND_CURVE and curve.known(self.times)

    def predict(self, family: ModelFamily, history: HistoryByEpoch, curve: LearningCurve | None) -> Verdict:
        """Predict one run; it is out of domain if its row is far from those of the fit."""
        row = family.row(history, self.times, curve)
        value, accuracy, relative = blended(self.fitted(row[None]), self.blend)[0]
        distance = p_domain = None
        note = ""
        if self.applicability is not None:
            distance = self.applicability.distance(row)
            p_domain = self.applicability.p_value(distance)
            if p_domain < OUT_OF_DOMAIN_LEVEL:
                note = f"its weights move unlike those of all runs that are known (distance {distance:.1f})"
        return Verdict(
            predicted_accuracy=float(accuracy),
            p_low=float(self.platt(np.array([value]))[0]),
            epoch=self.times[-1],
            in_domain=not note,
            note=note,
            relative_accuracy=None if np.isnan(relative) else float(relative),
            risk=self.risk(float(value)),
            kind=self.kind,
            distance=distance,
            p_domain=p_domain,
        )

    def to_plain(self) -> dict[str, Any]:
        """Numbers, arrays and scikit-learn's estimators by name, to be saved."""
        area = self.applicability
        return {
            "times": self.times,
            "kind": self.kind,
            "fitted": self.fitted.to_plain(),
            "blend": self.blend,
            "platt": asdict(self.platt),
            "risk": list(self.risk),
            "neighbours": None if area is None else area.to_arrays(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], family: ModelFamily) -> DecisionTimeModel:
        """The inverse of `to_plain`.

        Raises:
            KeyError, TypeError, ValueError: `plain` is from a file, and a part of it is missing or unfit.
        """
        found, area = decode(plain, _Plain), plain["neighbours"]
        if found.kind not in family.kinds or any(
            late <= early for early, late in pairwise((0.0, *found.times))
        ):
            raise ValueError(f"its times are {found.times}, its kind is {found.kind!r}")
        neighbours = None if area is None else ApplicabilityArea.from_arrays(area)
        if neighbours is not None and neighbours.columns.max() >= family.width(found.times, found.kind):
            raise ValueError("its distances read more columns than a row has")
        return cls(
            times=found.times,
            kind=found.kind,
            fitted=family.restore(plain["fitted"], found.times, found.kind),
            blend=found.blend,
            platt=found.platt,
            risk=found.risk,
            applicability=neighbours,
        )


class _Plain(msgspec.Struct):
    """The numbers of a model in an archive; its arrays are checked where they are used."""

    times: Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1)]
    kind: str
    blend: Annotated[float, msgspec.Meta(ge=0, le=1)]
    platt: Platt
    risk: RiskScale


def blended(predictions: tuple[Array, Array | None], share: float) -> Array:
    """The average of two predictions of equal shape; `share` is the weight of the second, if there is one."""
    first, second = predictions
    return first if second is None else (1 - share) * first + share * second
