"""Ray Tune: a trial as a member of the sweep that its experiment is.

``GraphDynamicsCallback(trial=RayMember(config, metric="val_acc", mode="max"), monitor="val_acc")`` in the
function that a Tuner runs.
"""

from __future__ import annotations

import atexit
import json
import math
import pickle
import shutil
import tempfile
import threading
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lightning_nndyn.errors import MissingExtraError, NNDynWarning, SweepError
from lightning_nndyn.integrations.ray_actor import (
    NAMESPACE,
    actor_of,
    decode_run,
    encode_run,
    flat_params,
    ray,
)
from lightning_nndyn.integrations.ray_scheduler import READINGS, GraphDynamicsScheduler
from lightning_nndyn.sweep import SweepMember, SweepPredictor, SweepReading, SweepRun

try:
    from ray import train, tune
except ImportError as error:
    raise MissingExtraError("ray[tune]", "ray", "A trial of Ray Tune") from error

__all__ = ["GraphDynamicsScheduler", "RayMember", "end_sweep"]

_TIMEOUT = 60.0  # seconds, for the actor that all trials share
_CHECKPOINT = "nndyn.ckpt"
_WITH_METRIC = 3  # a reading's curve ends with three numbers of the metric: last, best, latest change

_shared: dict[str, dict[str, Any]] = {}

# Ray 2.43 has moved what a trial's function calls from ray.train to ray.tune.
_session = tune if hasattr(tune, "get_context") else train


class RayMember(SweepMember):
    """A trial of a Ray Tune experiment. Make it inside the function that the Tuner runs.

    At each reading it reports to Tune, so that any scheduler can rank by these:

    - ``nndyn_predicted``, the metric's predicted final value, and ``nndyn_p_good``, the chance to be among
      the best of the sweep; NaN until enough runs have finished;
    - ``nndyn_stop``, whether the run is stopped, ``nndyn_verdict`` and ``nndyn_reason``;
    - ``nndyn_epoch``, the reading's time: the `time_attr` for schedulers. ``training_iteration`` counts
      reports, of which there are several in the first epoch;
    - under its own name the metric, NaN before its first value.

    When training has ended the same is reported once more, with ``nndyn_value``: the run's final value, which
    the other runs learn from. It is the best value of ``GraphDynamicsCallback(monitor=)`` at the whole epochs
    that were read, and NaN if the run was stopped. A trial that is stopped here ends as any other, as
    TERMINATED. The others learn nothing from one that a scheduler ends, or that fails.

    The ended runs are kept by an actor on the head node, one for each sweep, and by a file in the storage of
    the experiment (``nndyn-sweep-....jsonl``): ``Tuner.restore`` goes on with them after the driver, or the
    whole cluster, was killed. See `end_sweep`. If the actor cannot be reached, training goes on with what is
    known.
    Processes that ``trainer.fit`` spawns take no part in the sweep.

    Args:
        config: the trial's; nested ones are flattened.
        metric: name of the metric that `monitor` names, to be reported along; None for none.
        mode: "max" or "min", as in Tune: whether large or small values of the metric are good.
        sweep: name of the sweep; None for the experiment's. Outside of Tune nothing is reported.
        checkpoints: whether each report carries a checkpoint of the run, so that a scheduler can pause it:
            `GraphDynamicsScheduler`, or one of Tune's. Give ``ckpt_path=callback.ckpt_path`` to the Trainer.

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
        checkpoints: bool = False,
    ) -> None:
        if mode not in ("max", "min"):
            raise SweepError(f"mode={mode!r}: it is 'max' or 'min', as in tune.TuneConfig")
        trial = _trial_id()
        if sweep is None and trial is None:
            raise SweepError(
                "RayMember is made outside of a Ray Tune trial: make it in the function that tune.Tuner "
                "runs, or name the sweep (sweep=)"
            )
        self.direction = "maximize" if mode == "max" else "minimize"
        self.params = flat_params(config)
        self.sweep = sweep or _session.get_context().get_experiment_name()
        self._in_tune = trial is not None
        self._trial = trial or uuid.uuid4().hex
        self._actor: Any = None
        self._metric = metric
        self._readings: dict[float, SweepReading] = {}
        self._weight = 1.0
        # Tune refuses reports that lack the metric by which it ranks.
        self._reported: dict[str, Any] = {
            "nndyn_epoch": 0.0,
            "nndyn_predicted": math.nan,
            "nndyn_p_good": math.nan,
        }
        self._warned = False
        self._checkpoints = checkpoints and self._in_tune
        if self._checkpoints:
            self._prepare_checkpoints()

    def _prepare_checkpoints(self) -> None:
        """Fetches the checkpoint that Tune resumes the trial from, and makes a place for the next ones."""
        folder = Path(tempfile.mkdtemp(prefix="nndyn-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.save_to = folder / "next" / _CHECKPOINT
        found = _session.get_checkpoint()
        if found is not None:
            path = Path(found.to_directory(str(folder / "last"))) / _CHECKPOINT
            self.ckpt_path = str(path) if path.exists() else None

    @property
    def reachable(self) -> bool:
        """Whether this process belongs to the cluster."""
        return bool(ray.is_initialized())

    @property
    def shared(self) -> dict[str, Any]:
        """What the sweep's trials share in this process; at first the predictors that others have fitted."""
        if self.sweep not in _shared:
            _shared[self.sweep] = {"ended": []}
            for name, pickled in (self._ask("predictors") or {}).items():
                predictor: SweepPredictor = pickle.loads(pickled)
                _shared[self.sweep][name] = threading.RLock(), predictor
                _shared[self.sweep][f"sent {name}"] = predictor.num_finished
        return _shared[self.sweep]

    def runs(self) -> Sequence[SweepRun]:
        """The sweep's finished and stopped trials; only those that are new are fetched.

        A restored experiment may train a trial again whose end is known: that end is left out.
        """
        ended: list[tuple[str, SweepRun]] = self.shared["ended"]
        new = self._ask("since", len(ended)) or []
        ended += [(trial, decode_run(run)) for trial, run in new]
        return [run for trial, run in ended if trial != self._trial]

    def report(self, reading: SweepReading, facts: Mapping[str, Any]) -> None:
        """Report what was decided upon a reading; share the predictor that was fitted for it."""
        self._readings[reading.time] = reading
        self._weight = max(self._weight, facts.get("weight", 1.0))
        self._send_predictors()
        self.holds_report = self._checkpoints
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
        """Share how training has ended with the other trials, and report it."""
        value = None if stopped else self._metric_value(-2)
        if value is None and not stopped:
            self._warn("its metric was never read: give GraphDynamicsCallback monitor=, and whole epochs")
        readings = [self._readings[time] for time in sorted(self._readings)]
        run = SweepRun(self.params, readings, value, stopped, self._weight)
        self._ask("add", self._trial, encode_run(run))
        verdict = "stopped" if stopped else "finished"
        end = {"nndyn_stop": stopped, "nndyn_verdict": verdict, "nndyn_reason": reason}
        self.holds_report = False
        self._report({**self._reported, **end, "nndyn_value": _number(value)})

    def _metric_value(self, index: int) -> float | None:
        """The last (-3) or the best (-2) value of the metric at the last whole epoch that was read."""
        sign = 1.0 if self.direction == "maximize" else -1.0
        curves = [reading.curve for reading in self._readings.values() if len(reading.curve) >= _WITH_METRIC]
        return sign * curves[-1][index] if curves else None

    def _report(self, metrics: dict[str, Any]) -> None:
        own = {self._metric: _number(self._metric_value(-3))} if self._metric else {}
        self._reported = {**metrics, **own}
        if self._checkpoints:
            readings = [self._readings[time].to_dict() for time in sorted(self._readings)]
            self._reported[READINGS] = json.dumps(readings)
        if self._in_tune and not self.holds_report:
            _session.report(self._reported)

    def report_saved(self, saved: bool) -> None:
        """Report what waited for a checkpoint, with the checkpoint."""
        self.holds_report = False
        folder = None if self.save_to is None else self.save_to.parent
        checkpoint = _session.Checkpoint.from_directory(str(folder)) if saved else None
        _session.report(self._reported, checkpoint=checkpoint)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _send_predictors(self) -> None:
        names = [name for name in self.shared if name.startswith("predictor ")]
        for name in names:
            _, predictor = self.shared[name]
            if predictor.num_finished > self.shared.get(f"sent {name}", 0):
                self.shared[f"sent {name}"] = predictor.num_finished
                self._ask("add_predictor", name, predictor.num_finished, pickle.dumps(predictor))

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What the sweep's actor answers; None, and a warning, if it cannot be reached."""
        try:
            self._actor = self._actor or actor_of(self.sweep, self._storage())
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=_TIMEOUT)
        except (ray.exceptions.RayError, ValueError) as error:
            first_line = str(error).partition("\n")[0]
            self._warn(f"what its trials share cannot be reached ({type(error).__name__}: {first_line})")
            return None

    def _storage(self) -> Any:
        """Where the experiment keeps its files; None outside of one."""
        with suppress(AttributeError, RuntimeError):  # a developers' interface of Ray's
            return _session.get_context().get_storage() if self._in_tune else None
        return None

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            text = f"trial {self._trial} of the sweep {self.sweep!r}: {why}; training goes on"
            warnings.warn(text, NNDynWarning, stacklevel=3)


def end_sweep(sweep: str) -> None:
    """End the actor of a sweep, which on a cluster that lives on would stay until the end.

    Otherwise another experiment of the same name would go on with what this one has learned.

    Args:
        sweep: name of the experiment, or what was given to `RayMember`.
    """
    _shared.pop(sweep, None)
    with suppress(ValueError, ray.exceptions.RayError):  # there is none
        actor = ray.get_actor(sweep, namespace=NAMESPACE)
        ray.get(actor.close.remote(), timeout=_TIMEOUT)
        ray.kill(actor)


def _trial_id() -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # outside of a trial Tune warns
        found: str | None = _session.get_context().get_trial_id()
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
