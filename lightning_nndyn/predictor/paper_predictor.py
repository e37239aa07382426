"""A predictor with the paper's models (sections 4.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from lightning_nndyn.errors import PredictorError
from lightning_nndyn.predictor.paper_models import (
    Classifier,
    Features,
    FeatureSet,
    PaperFamily,
    Regressor,
    Scale,
)
from lightning_nndyn.predictor.predictor import Predictor
from lightning_nndyn.signature.temporal import Form


class PaperPredictor(Predictor):
    """A predictor whose models are the paper's: an SVM or an MLP for low or not, a regression for accuracy.

    The defaults are the paper's: an SVM on the raw statistics of the weighted degree (section 4.1), least
    squares on the two latest snapshots (section 4.2). It reads no learning curves, and predicts no relative
    accuracy. Beyond the paper are the probability (the paper has classes only), the common scale of risk, the
    domain, `regressor="svr"` and `scale="relative"`.

    Args:
        low_threshold: final accuracy, a fraction, below which a run is low (the paper's Table 2).
        low_share: instead of it, a share of the best accuracy of the same network on the same data.
        classifier: "svm" or "mlp", scikit-learn's, at their default settings.
        regressor: "linear" for least squares on the two latest snapshots, or "svr" on all of them.
        features: which centralities' statistics are read: "degree", "eigenvector" or "both".
        form: temporal form of the signature (section 3.2).
        scale: "raw" statistics as in the paper; or "relative", how far these have moved since epoch 0 and
            since the snapshot before, on bounded scales.
        seed: of the folds and of the MLP's weights.
        max_epoch: latest time of decision.

    Raises:
        PredictorError: an argument is not one of the values it may have.
    """

    def __init__(
        self,
        *,
        low_threshold: float | None = None,
        low_share: float | None = None,
        classifier: Classifier = "svm",
        regressor: Regressor = "linear",
        features: FeatureSet = "degree",
        form: Form = "plain",
        scale: Scale = "raw",
        seed: int = 0,
        max_epoch: float = 5,
    ) -> None:
        check_choices(
            {
                "features": features,
                "classifier": classifier,
                "regressor": regressor,
                "form": form,
                "scale": scale,
            }
        )
        family = PaperFamily(classifier, regressor, Features(features, form, scale), int(seed))
        self._set_up(family, low_threshold, low_share, seed, max_epoch)


def check_choices(chosen: Mapping[str, str], also: str | None = None) -> None:
    """Raise PredictorError unless all settings have one of their values.

    Args:
        chosen: values by the names of `PaperPredictor`'s arguments.
        also: a further value of `classifier` and `regressor`.
    """
    choices = {
        "features": get_args(FeatureSet),
        "classifier": get_args(Classifier),
        "regressor": get_args(Regressor),
        "form": get_args(Form),
        "scale": get_args(Scale),
    }
    for name, allowed in choices.items():
        allowed = (also, *allowed) if also and name in ("classifier", "regressor") else allowed
        if chosen[name] not in allowed:
            raise PredictorError(f"{name}={chosen[name]!r} is not one of {', '.join(map(repr, allowed))}")
