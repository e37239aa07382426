"""Predictors: from a run's first snapshots to its final accuracy (section 3.2, S4).

Bottom to top: `features` turns snapshots into rows of numbers, `runs` holds a corpus, `estimators` are
scikit-learn's, `scoring` says how good predictions are, `fitting` cross-validates and fits one model per
decision time, `domain` says which networks they know; `archive` and `artefact` put all of it on disk; `model`
is the public class, `shipped` finds those that came with the package.
"""

from lightning_nndyn.predictor.domain import Training
from lightning_nndyn.predictor.model import Predictor, Verdict
from lightning_nndyn.predictor.shipped import list_predictors, load_predictor

__all__ = ["Predictor", "Training", "Verdict", "list_predictors", "load_predictor"]
