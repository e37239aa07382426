"""A scheduler of Ray Tune that pauses trials at rungs, and lets the most promising ones go on.

As in successive halving without waiting (ASHA), a trial is promoted as soon as it stands among the best of
its rung. It is not the metric alone that ranks, but `lightning_nndyn.sweep.rank`, and the rungs begin within
the first epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lightning_nndyn._files import parse_json
from lightning_nndyn.errors import MissingExtraError, SweepError
from lightning_nndyn.integrations.ray_actor import flat_params
from lightning_nndyn.sweep import SweepReading, SweepRun, rank

try:
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import TrialScheduler
except ImportError as error:
    raise MissingExtraError("ray[tune]", "ray", "A scheduler of Ray Tune") from error

READINGS = "nndyn_readings"
"""What a trial with checkpoints reports beside its metrics: all its readings, as a JSON list."""

_RUNGS = ((1 / 16, 0.5), (1 / 4, 0.25), (1.0, 0.06))


@dataclass
class _Known:
    """What is known of a trial."""

    params: Mapping[str, Any]
    readings: list[SweepReading] = field(default_factory=list)
    ended: bool = False

    def until(self, time: float) -> SweepRun | None:
        """The trial as it was at a rung; None if it has not reached it."""
        if not self.readings or self.readings[-1].time < time:
            return None
        return SweepRun(self.params, [reading for reading in self.readings if reading.time <= time])

    @property
    def best(self) -> float:
        """The best value of the metric so far, as far as it was read; larger is better."""
        curves = [reading.curve for reading in self.readings if len(reading.curve) >= 3]
        return curves[-1][-2] if curves else -math.inf


class GraphDynamicsScheduler(TrialScheduler):
    """Pauses trials at rungs, and lets those go on that stand among the best there.

    The trials report readings and checkpoints, if they are made with ``RayMember(config, checkpoints=True)``
    and ``GraphDynamicsCallback(trial=member, action="observe")``. They go on by
    ``trainer.fit(ckpt_path=callback.ckpt_path)``.

    A trial that was left behind stays paused until the experiment ends. It goes on when those that were
    promoted fail, or when none that has ended has reached the metric that it had when it was paused. What is
    still paused when nothing is left to be trained is terminated. A restored experiment finds the readings in
    the last reports of its trials.

    Args:
        rungs: pairs of epochs, rising, and the share of all trials that goes on then, falling.

    Raises:
        SweepError: the rungs are not such pairs.
    """

    def __init__(self, rungs: Sequence[tuple[float, float]] = _RUNGS) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        rising = all(a < b and x > y for (a, x), (b, y) in pairwise(rungs))
        if not rungs or not rising or not all(time > 0 and 0 < share < 1 for time, share in rungs):
            raise SweepError(
                f"rungs={list(rungs)}: give pairs of epochs, rising, and of the share that goes on, falling "
                "and between 0 and 1, such as [(0.0625, 0.5), (0.25, 0.25), (1, 0.06)]"
            )
        self._rungs = tuple(rungs)
        self._known: dict[str, _Known] = {}
        self._scores: dict[tuple[int, frozenset[str]], dict[str, float]] = {}

    # -- what Tune tells -------------------------------------------------------------------------------------

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes up a trial, and what it has reported before a restored experiment was cut."""
        known = self._known.setdefault(trial.trial_id, _Known(flat_params(trial.config)))
        self._read(trial, trial.last_result or {})
        known.ended = trial.status == Trial.TERMINATED
        if trial.status == Trial.ERROR:
            del self._known[trial.trial_id]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Pauses a trial that has reached a rung, unless it goes on at once."""
        before = self._rung(trial.trial_id)
        self._read(trial, result)
        now = self._rung(trial.trial_id)
        if now == before or now < 0:
            return str(TrialScheduler.CONTINUE)
        chosen = trial.trial_id in self._promoted(now, tune_controller.get_trials(), complete=False)
        return str(TrialScheduler.CONTINUE if chosen else TrialScheduler.PAUSE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forgets a trial that has failed for good: another takes its place."""
        self._known.pop(trial.trial_id, None)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """Notes that a trial has come to its end."""
        self._read(trial, result)
        self._known[trial.trial_id].ended = True

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A paused trial that is terminated stays among those that it was compared with."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The best paused trial of the highest rung that may go on; else one that has not begun."""
        trials = tune_controller.get_trials()
        paused = {trial.trial_id: trial for trial in trials if trial.status == Trial.PAUSED}
        pending = [trial for trial in trials if trial.status == Trial.PENDING]
        begun = [trial for trial in pending if self._rung(trial.trial_id) >= 0]  # of a restored experiment
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        complete = not pending and not running
        for rung in reversed(range(len(self._rungs))):
            for name in self._promoted(rung, trials, complete):
                if name in paused and self._rung(name) == rung:
                    return paused[name]
        if pending or running or not paused:
            return next(iter([*begun, *pending]), None)
        return self._when_all_are_paused(tune_controller, paused)

    def debug_string(self) -> str:
        """How many trials have reached each rung."""
        counts = [sum(self._rung(name) >= rung for name in self._known) for rung in range(len(self._rungs))]
        parts = [
            f"{count} have reached {time:g}" for count, (time, _) in zip(counts, self._rungs, strict=True)
        ]
        return f"Using GraphDynamicsScheduler: of {len(self._known)} trials {', '.join(parts)} epochs"

    # -- who goes on -----------------------------------------------------------------------------------------

    def _read(self, trial: Any, result: Mapping[str, Any]) -> None:
        text = result.get(READINGS)
        if text is None or trial.trial_id not in self._known:
            return
        found = [SweepReading.from_dict(one) for one in parse_json(text)]
        known = self._known[trial.trial_id].readings
        last = known[-1].time if known else -1.0
        known += [reading for reading in found if reading.time > last]

    def _rung(self, name: str) -> int:
        """The last rung that a trial has reached; -1 before the first."""
        readings = self._known[name].readings if name in self._known else []
        time = readings[-1].time if readings else -1.0
        return sum(time >= end for end, _ in self._rungs) - 1

    def _promoted(self, rung: int, trials: Sequence[Any], complete: bool) -> list[str]:
        """The trials that may go on from a rung, best first.

        Args:
            rung: its index.
            trials: all of the experiment.
            complete: whether no further trial will reach the rung before one of its own goes on.
        """
        time, share = self._rungs[rung]
        runs = {name: run for name, known in self._known.items() if (run := known.until(time)) is not None}
        before = self._rungs[rung - 1][1] if rung else 1.0
        count = math.floor(len(runs) * share / before)
        if complete:
            count = max(1, round(share * len(trials)))
        key = rung, frozenset(runs)
        if key not in self._scores:
            self._scores[key] = dict(zip(runs, rank(list(runs.values())), strict=True)) if runs else {}
        scores = self._scores[key]
        return sorted(scores, key=lambda name: (-scores[name], name))[:count]

    def _when_all_are_paused(self, tune_controller: Any, paused: Mapping[str, Any]) -> Any:
        """The paused trial that was better than all that have ended; without one, ends paused trials."""
        ended = [known.best for known in self._known.values() if known.ended]
        best = max(paused, key=lambda name: self._known[name].best)
        if ended and self._known[best].best > max(ended):
            return paused[best]
        low = min(paused, key=lambda name: (self._rung(name), self._known[name].best))
        finished = tune_controller.search_alg.is_finished()
        for trial in [*paused.values()] if finished else [paused[low]]:  # room for the next of a searcher
            tune_controller.stop_trial(trial)
        return None
