"""From recorded runs to predictors, and how good the predictions are.

Recorded runs go in: corpora (`dataset.RunDataset`) or the records that the callback leaves
(`fit_recorded_runs`). Out come predictors (`fit_predictor`, `fit_runs`), verdicts on checkpoints
(`predict_checkpoints`) and measurements: all methods compared on held-out runs (`benchmark`), the experiments
of the paper's section 4 and appendix A (`paper`), what stopping by predictions saves in a sweep (`replay`),
and the page on a folder of runs (`report`).
"""

from lightning_nndyn.evaluation.benchmark.compare import METHODS, TIMES, compare
from lightning_nndyn.evaluation.benchmark.evaluate import evaluate
from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.benchmark.transfer import transfer
from lightning_nndyn.evaluation.cohort.compare import compare_ways
from lightning_nndyn.evaluation.dataset import RunDataset
from lightning_nndyn.evaluation.fit_corpora import fit_predictor
from lightning_nndyn.evaluation.fit_recorded_runs import LoadedRun, fit_runs, load_runs
from lightning_nndyn.evaluation.predict_checkpoints import CheckpointVerdict, predict_checkpoints
from lightning_nndyn.evaluation.replay.replay_sweeps import replay_sweeps

# Old names, kept for one release.
OwnRun, Scored, Study = LoadedRun, CheckpointVerdict, RunDataset

__all__ = [
    "METHODS",
    "TIMES",
    "CheckpointVerdict",
    "LoadedRun",
    "OwnRun",
    "Row",
    "RunDataset",
    "Scored",
    "Study",
    "compare",
    "compare_ways",
    "evaluate",
    "fit_predictor",
    "fit_runs",
    "load_runs",
    "predict_checkpoints",
    "replay_sweeps",
    "transfer",
]
