"""From corpora to predictors, and how good those are."""

from lightning_nndyn.evaluation.checkpoints import Scored, predict_checkpoints
from lightning_nndyn.evaluation.compare import METHODS, TIMES, Row, compare
from lightning_nndyn.evaluation.evaluate import evaluate
from lightning_nndyn.evaluation.fitting import fit_predictor
from lightning_nndyn.evaluation.own_runs import OwnRun, fit_runs, load_runs
from lightning_nndyn.evaluation.replay.command import replay_sweeps
from lightning_nndyn.evaluation.study import Study
from lightning_nndyn.evaluation.transfer import transfer

__all__ = [
    "METHODS",
    "TIMES",
    "OwnRun",
    "Row",
    "Scored",
    "Study",
    "compare",
    "evaluate",
    "fit_predictor",
    "fit_runs",
    "load_runs",
    "predict_checkpoints",
    "replay_sweeps",
    "transfer",
]
