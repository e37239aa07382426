"""From corpora to predictors, and how good those are."""

from lightning_nndyn.evaluation.benchmark.compare import METHODS, TIMES, Row, compare
from lightning_nndyn.evaluation.benchmark.evaluate import evaluate
from lightning_nndyn.evaluation.benchmark.study import Study
from lightning_nndyn.evaluation.benchmark.transfer import transfer
from lightning_nndyn.evaluation.fit_corpora import fit_predictor
from lightning_nndyn.evaluation.fit_recorded_runs import OwnRun, fit_runs, load_runs
from lightning_nndyn.evaluation.predict_checkpoints import Scored, predict_checkpoints
from lightning_nndyn.evaluation.replay.replay_sweeps import replay_sweeps

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
