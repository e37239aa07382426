"""Runs the sweep that a plan describes, and goes on with one that was cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.errors import MissingExtraError, SweepError
from lightning_nndyn.study.abandoned import killed, own, take_up
from lightning_nndyn.study.config import Plan
from lightning_nndyn.study.quiet import quiet
from lightning_nndyn.sweep import SweepPredictor

if TYPE_CHECKING:
    import optuna

_REFRESH = 2.0  # seconds
_FAILURES = 3
_LONGEST = 500  # characters of an error that are kept


def sweep(plan: Plan, watch: Callable[[optuna.Study], None] = lambda study: None) -> optuna.Study:
    """Trains until as many runs have ended as are wanted, by whichever call or process.

    A run whose process was killed does not count; its hyperparameters are tried once more.

    Args:
        plan: of the sweep.
        watch: called with the study every two seconds while runs are trained, and at the end.

    Returns:
        The study.

    Raises:
        SweepError: the script or the storage cannot be used, or all of the first three runs fail. Later
            failures are noted, and the sweep goes on.
        MissingExtraError: Optuna is not installed.
    """
    train = plan.function()
    with quiet():
        study = open_study(plan)
        # Further processes may work on the same study: each looks how many runs there are before its next.
        with _watched(study, watch):
            while len(_ended(study)) < plan.trials:
                take_up(study)
                study.optimize(lambda trial: _value(plan, train, trial), n_trials=1, catch=Exception)
                _check_failures(study)
    return study


def open_study(plan: Plan) -> optuna.Study:
    """The plan's study, made if there is none yet.

    Raises:
        SweepError: its storage cannot be used.
        MissingExtraError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "optuna", "nndyn sweep") from error
    try:
        return optuna.create_study(
            study_name=plan.name,
            storage=_storage(plan),
            direction=plan.direction,
            sampler=_sampler(plan),
            pruner=optuna.pruners.NopPruner(),  # the callback decides
            load_if_exists=True,
        )
    except Exception as error:
        raise SweepError(
            f"storage: {plan.storage!r} cannot be used ({type(error).__name__}: {error})"
        ) from error


def _sampler(plan: Plan) -> optuna.samplers.BaseSampler:
    import optuna

    from lightning_nndyn.study.sampler import SeededByTrial

    return optuna.samplers.TPESampler() if plan.seed is None else SeededByTrial(plan.seed)


def _storage(plan: Plan) -> Any:
    if "://" in plan.storage:
        return plan.storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = plan.file.parent / Path(plan.storage)
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file)))


def _value(plan: Plan, train: Callable[[dict[str, Any], Any], float], trial: optuna.Trial) -> float:
    import optuna

    own(trial)
    try:
        return _trained(plan, train, trial)
    except optuna.TrialPruned:
        raise
    except Exception as error:  # the others go on; the table says why
        trial.set_user_attr("nndyn:reason", f"{type(error).__name__}: {error}"[:_LONGEST])
        raise


def _trained(plan: Plan, train: Callable[[dict[str, Any], Any], float], trial: optuna.Trial) -> float:
    params = plan.suggest(trial)
    learner = SweepPredictor(direction=plan.direction, **plan.learner)
    arguments: dict[str, Any] = {"verbose": False, "monitor": plan.monitor, **plan.callback}
    callback = GraphDynamicsCallback(trial=trial, sweep=learner, **arguments)
    value = train(params, callback)
    callback.check_pruned()  # where training took place in other processes
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise SweepError(
            f"{plan.train} returned {value!r}: it must return the metric's final value"
        ) from error


def _check_failures(study: optuna.Study) -> None:
    """Ends a sweep whose runs all fail.

    Raises:
        SweepError: as many as `_FAILURES` have ended, and none in another way.
    """
    trials = _ended(study)
    if len(trials) >= _FAILURES and all(trial.state.name == "FAIL" for trial in trials):
        reason = trials[-1].user_attrs.get("nndyn:reason", "no reason is known")
        raise SweepError(f"all of the first {len(trials)} runs failed, the last with {reason}")


def _ended(study: optuna.Study) -> list[Any]:
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and not killed(trial)]


@contextmanager
def _watched(study: optuna.Study, watch: Callable[[optuna.Study], None]) -> Iterator[None]:
    """Calls `watch` from a thread of its own: training must not wait for what is drawn."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(_REFRESH):
            watch(study)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watch(study)
