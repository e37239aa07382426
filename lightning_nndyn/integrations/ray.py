"""Ray Tune: a trial's place in the sweep that its experiment is.

``GraphDynamicsCallback(trial=RayMember(config, metric="val_acc", mode="max"), monitor="val_acc")`` in the
function that a Tuner runs.
"""

from __future__ import annotations

import pickle
import threading
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from lightning_nndyn.errors import MissingExtraError, NNDynWarning, SweepError
from lightning_nndyn.integrations.ray_actor import (
    NAMESPACE,
    actor_of,
    plain_of,
    plain_params,
    ray,
    run_of,
)
from lightning_nndyn.sweep import SweepMember, SweepPredictor, SweepReading, SweepRun

try:
    from ray import train, tune
except ImportError as error:
    raise MissingExtraError("ray[tune]", "ray", "A trial of Ray Tune") from error

__all__ = ["RayMember", "end_sweep"]

_PATIENCE = 60.0  # seconds, for the actor that all trials share
_WITH_METRIC = 3  # numbers of a reading's curve that are the metric's: last, best, latest change

_shared: dict[str, dict[str, Any]] = {}

# Ray 2.43 has moved what a trial's function calls from ray.train to ray.tune.
_session = tune if hasattr(tune, "get_context") else train


class RayMember(SweepMember):
    """A trial of a Ray Tune experiment. Make it inside the function that the Tuner runs.

    At each reading it reports to Tune, so that any scheduler can rank by them:

    - ``nndyn_predicted``, the metric's predicted final value, and ``nndyn_p_good``, the chance to be among
      the best of the sweep; NaN until enough runs have finished;
    - ``nndyn_stop``, whether the run is stopped, ``nndyn_verdict`` and ``nndyn_reason``;
    - ``nndyn_epoch``, the reading's time: the `time_attr` for schedulers. ``training_iteration`` counts
      reports, of which there are several in the first epoch;
    - under its own name the metric, NaN before its first value.

    When training has ended the same is reported once more, with ``nndyn_value``: what the run has finished
    with, the best value of ``GraphDynamicsCallback(monitor=)`` at the whole epochs that were read; it is what
    the others learn from, and NaN where the run was stopped. A trial that is stopped here ends as any other,
    as TERMINATED. One that a scheduler ends, or that fails, teaches the others nothing.

    The ended runs are kept by an actor on the head node, one for each sweep. It outlives the driver, for
    ``Tuner.restore``: see `end_sweep`. Where it cannot be reached, training goes on with what is known.
    Processes that ``trainer.fit`` spawns take no part in the sweep.

    Args:
        config: the trial's; nested ones are flattened.
        metric: name of the metric that `monitor` names, to be reported along; None for none.
        mode: "max" or "min", as Tune has it: whether large or small values of the metric are good.
        sweep: name of the sweep; None for the experiment's. Outside of Tune nothing is reported.

    Raises:
        SweepError: the mode is unknown, or there is neither trial nor name.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        metric: str | None = None,
        mode: Literal["max", "min"] = "max",
        sweep: str | None = None,
    ) -> None:
        if mode not in ("max", "min"):
            raise SweepError(f"mode={mode!r}: it is 'max' or 'min', as in tune.TuneConfig")
        trial = _session.get_context().get_trial_id() if _in_trial() else None
        if sweep is None and trial is None:
            raise SweepError(
                "RayMember is made outside of a Ray Tune trial: make it in the function that tune.Tuner "
                "runs, or name the sweep (sweep=)"
            )
        self.direction = "maximize" if mode == "max" else "minimize"
        self.params = plain_params(config)
        self.sweep = sweep or _session.get_context().get_experiment_name()
        self._reports = trial is not None
        self._trial = trial or uuid.uuid4().hex
        self._actor: Any = None
        self._metric = metric
        self._readings: dict[float, SweepReading] = {}
        self._weight = 1.0
        unknown = _number(None)  # Tune refuses reports that lack what it ranks by
        self._reported: dict[str, Any] = {
            "nndyn_epoch": 0.0,
            "nndyn_predicted": unknown,
            "nndyn_p_good": unknown,
        }
        self._warned = False

    @property
    def reachable(self) -> bool:
        """Whether this process belongs to the cluster."""
        return bool(ray.is_initialized())

    @property
    def shared(self) -> dict[str, Any]:
        """What this process' trials of the sweep share: also, from the start, what others have learned."""
        if self.sweep not in _shared:
            _shared[self.sweep] = {"runs": []}
            for name, learned in (self._ask("learned") or {}).items():
                predictor: SweepPredictor = pickle.loads(learned)
                _shared[self.sweep][name] = threading.RLock(), predictor
                _shared[self.sweep][f"told {name}"] = predictor.num_finished
        return _shared[self.sweep]

    def runs(self) -> Sequence[SweepRun]:
        """The sweep's finished and stopped trials; only what is new since the last time is asked for."""
        known: list[SweepRun] = self.shared["runs"]
        known += [run_of(plain) for plain in self._ask("since", len(known)) or []]
        return known

    def report(self, reading: SweepReading, facts: Mapping[str, Any]) -> None:
        """Reports what follows from a reading; hands on what was learned for it."""
        self._readings[reading.time] = reading
        self._weight = max(self._weight, facts.get("weight", 1.0))
        self._hand_on()
        self._report(
            {
                "nndyn_epoch": reading.time,
                "nndyn_predicted": _number(facts.get("predicted")),
                "nndyn_p_good": _number(facts.get("p_good")),
                "nndyn_stop": facts.get("verdict") == "stop",
                "nndyn_verdict": facts.get("verdict", ""),
                "nndyn_reason": facts.get("reason", ""),
            }
        )

    def finish(self, stopped: bool, reason: str) -> None:
        """Notes how training has ended, for the other trials, and reports it."""
        value = None if stopped else self._metric_at(-2)
        if value is None and not stopped:
            self._warn("its metric was never read: give GraphDynamicsCallback monitor=, and whole epochs")
        readings = [self._readings[time] for time in sorted(self._readings)]
        self._ask("end", self._trial, plain_of(self.params, readings, value, stopped, self._weight))
        verdict = "stopped" if stopped else "finished"
        end = {"nndyn_stop": stopped, "nndyn_verdict": verdict, "nndyn_reason": reason}
        self._report({**self._reported, **end, "nndyn_value": _number(value)})

    def _metric_at(self, place: int) -> float | None:
        """The latest (-3) or the best (-2) value at the last whole epoch that was read."""
        sign = 1.0 if self.direction == "maximize" else -1.0
        curves = [one.curve for one in self._readings.values() if len(one.curve) >= _WITH_METRIC]
        return sign * curves[-1][place] if curves else None

    def _report(self, metrics: dict[str, Any]) -> None:
        own = {self._metric: _number(self._metric_at(-3))} if self._metric else {}
        self._reported = {**metrics, **own}
        if self._reports:
            _session.report(self._reported)

    def _hand_on(self) -> None:
        learned = [(name, pair[1]) for name, pair in self.shared.items() if name.startswith("predictor ")]
        for name, predictor in learned:
            if predictor.num_finished > self.shared.get(f"told {name}", 0):
                self.shared[f"told {name}"] = predictor.num_finished
                self._ask("learn", name, predictor.num_finished, pickle.dumps(predictor))

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What the sweep's actor answers; None, and a warning, where it cannot be reached."""
        try:
            self._actor = self._actor or actor_of(self.sweep)
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=_PATIENCE)
        except (ray.exceptions.RayError, ValueError) as error:
            first = str(error).partition("\n")[0]
            self._warn(f"what its trials share cannot be reached ({type(error).__name__}: {first})")
            return None

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            text = f"trial {self._trial} of the sweep {self.sweep!r}: {why}; training goes on"
            warnings.warn(text, NNDynWarning, stacklevel=3)


def end_sweep(sweep: str) -> None:
    """Ends what the trials of a sweep have shared: on a cluster that lives on it would stay until the end.

    Another experiment of the same name would go on with what this one has learned.

    Args:
        sweep: name of the experiment, or what was given to `RayMember`.
    """
    _shared.pop(sweep, None)
    with suppress(ValueError, ray.exceptions.RayError):  # there is none
        actor = ray.get_actor(sweep, namespace=NAMESPACE)
        ray.get(actor.close.remote(), timeout=_PATIENCE)
        ray.kill(actor)


def _in_trial() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no trial
        return _session.get_context().get_trial_id() is not None


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
