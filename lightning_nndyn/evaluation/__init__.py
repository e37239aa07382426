"""From corpora to predictors, and how good those are."""

from lightning_nndyn.evaluation.fitting import fit_predictor

__all__ = ["fit_predictor"]
