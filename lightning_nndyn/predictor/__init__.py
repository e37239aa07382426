"""Predictors: from a run's first snapshots to its final accuracy (section 3.2, S4).

Bottom to top: `features` and `movement` turn snapshots into rows of numbers, `curve` what a run has logged;
`runs` holds a corpus; `forest` and `estimators` learn, `recipes` say from what; `neighbours` and `domain`
tell strangers, `risk` makes decision times comparable, `scoring` says how good predictions are; `fitting`
cross-validates and fits the models of each decision time; `archive` and `artefact` put all of it on disk;
`model` is the public class, `shipped` finds those that came with the package.
"""

from lightning_nndyn.predictor.domain import Training
from lightning_nndyn.predictor.learning_curve import Curve
from lightning_nndyn.predictor.predictor import Predictor, Verdict
from lightning_nndyn.predictor.pretrained import list_predictors, load_predictor

__all__ = ["Curve", "Predictor", "Training", "Verdict", "list_predictors", "load_predictor"]
