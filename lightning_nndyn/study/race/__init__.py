"""A race: all candidates are trained for a while, the most promising longer, the best to their end."""

from lightning_nndyn.study.race.planned import race_of
from lightning_nndyn.study.race.run import RUNGS, race
from lightning_nndyn.study.race.standing import Lap, Rung
from lightning_nndyn.study.race.state import Race

__all__ = ["RUNGS", "Lap", "Race", "Rung", "race", "race_of"]
