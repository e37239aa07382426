"""Predictors: from a run's first snapshots to its final accuracy (section 3.2, S4).

In: histories of snapshots and learning curves, of finished runs to fit, of a running one to predict. Out: a
verdict (predicted accuracy, probability of a low one, risk, in domain or not); and, by a policy, a decision.

`Predictor` has forests, `PaperPredictor` the paper's models (sections 4.1 and 4.2). From the bottom up:
`history`, `learning_curve` and `low_accuracy` describe a run; `training_set` holds the runs of a fit;
`forest` and `paper_models` are two families of models, with their interface in `model_family`; `platt`,
`risk`, `applicability` and `domain` turn what they predict into a `verdict`; `cross_validation` fits a
`decision_time_model` for each time and scores it; `card` records the facts; `persistence` and `skops_archive`
write files; `pretrained` finds the predictors that ship; `policy` decides.
"""

from lightning_nndyn.predictor.domain import Training, TrainingSetup
from lightning_nndyn.predictor.learning_curve import Curve, LearningCurve
from lightning_nndyn.predictor.paper_predictor import PaperPredictor
from lightning_nndyn.predictor.predictor import Predictor
from lightning_nndyn.predictor.pretrained import list_predictors, load_predictor
from lightning_nndyn.predictor.verdict import Verdict

__all__ = [
    "Curve",
    "LearningCurve",
    "PaperPredictor",
    "Predictor",
    "Training",
    "TrainingSetup",
    "Verdict",
    "list_predictors",
    "load_predictor",
]
