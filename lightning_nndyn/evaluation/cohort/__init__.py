"""The model that ranks the runs of a sweep: fitted to recorded sweeps, measured on sweeps it has not seen.

In: corpora. Out: `lightning_nndyn.sweep.standing.StandingModel`, and how well it ranks where the families of
networks or the data sets of its fit are others. Not in the paper.
"""

from lightning_nndyn.evaluation.cohort.fit import fit_standing_model, save_with_card
from lightning_nndyn.evaluation.cohort.recorded_sweeps import RecordedSweep, load_recorded_sweeps

__all__ = ["RecordedSweep", "fit_standing_model", "load_recorded_sweeps", "save_with_card"]
