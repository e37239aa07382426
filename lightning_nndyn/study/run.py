"""Runs the sweep or the race that a `SweepConfig` describes, and goes on with one that was cut."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_nndyn.callback import GraphDynamicsCallback
from lightning_nndyn.errors import MissingExtraError, SweepError, renamed_arguments
from lightning_nndyn.study.config import SweepConfig
from lightning_nndyn.study.killed_trials import retry_killed_trials, store_process, was_killed
from lightning_nndyn.study.race import TrainFunction, race
from lightning_nndyn.study.race_result import RUNGS, RaceResult
from lightning_nndyn.sweep import DEFAULT_KEEP, SweepPredictor

if TYPE_CHECKING:
    import optuna

_UPDATE_SECONDS = 2.0
_MAX_FAILURES = 3  # if that many runs fail and none succeeds, the sweep ends
_MAX_ERROR_LENGTH = 500  # characters that are kept


@renamed_arguments(plan="config", watch="on_update")
def sweep(
    config: SweepConfig, on_update: Callable[[optuna.Study], None] = lambda study: None
) -> optuna.Study:
    """Train until as many runs have ended as are wanted, in this call and in other processes together.

    A run whose process was killed does not count; its hyperparameters are tried once more.

    Args:
        config: of the sweep.
        on_update: called with the study every two seconds while runs are trained, and at the end.

    Returns:
        The study.

    Raises:
        SweepError: the script or the storage cannot be used, or all of the first three runs fail. Later
            failures are stored, and the sweep goes on.
        MissingExtraError: Optuna is not installed.
    """
    train = config.train_function()
    with _quiet():
        study = open_study(config)
        # Other processes may work on the same study: each counts its runs before it begins another.
        with _updates(study, on_update):
            while len(_ended(study)) < config.trials:
                retry_killed_trials(study)
                study.optimize(lambda trial: _objective(config, train, trial), n_trials=1, catch=Exception)
                _check_failures(study)
    return study


def run_race(
    config: SweepConfig, on_update: Callable[[RaceResult], None] = lambda result: None
) -> RaceResult:
    """Draw the candidates of a configuration with a `race` part, and race them.

    Args:
        config: of the race.
        on_update: see `race`.

    Raises:
        SweepError: see `race`; or a part of the configuration cannot be used.
        MissingExtraError: Optuna, which draws the candidates, is not installed.
    """
    train = config.train_function()
    name = config.race.get("predictor")
    path = config.file.parent / str(name)
    rungs = [(float(rung["epochs"]), float(rung["keep"])) for rung in config.race.get("rungs", [])]
    with _quiet():
        try:
            return race(
                train,
                _candidates(config),
                file=config.file.parent / config.storage,
                predictor=path if name and path.is_file() else name,
                monitor=str(config.monitor),
                rungs=rungs or RUNGS,
                callback=config.callback,
                on_update=on_update,
            )
        except ValueError as error:
            raise SweepError(f"{config.file}: {error}") from error


def open_study(config: SweepConfig) -> optuna.Study:
    """The study of a configuration, created if there is none yet.

    Raises:
        SweepError: its storage cannot be used.
        MissingExtraError: Optuna is not installed.
    """
    optuna = _optuna()
    try:
        return optuna.create_study(
            study_name=config.name,
            storage=_storage(config),
            direction=config.direction,
            sampler=_sampler(config.seed),
            pruner=optuna.pruners.NopPruner(),  # the callback decides
            load_if_exists=True,
        )
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise SweepError(f"storage: {config.storage!r} cannot be used ({reason})") from error


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "optuna", "nndyn sweep") from error
    return optuna


def _candidates(config: SweepConfig) -> list[dict[str, Any]]:
    """As many as there are to be trials, drawn at random; the seed is 0 if not given."""
    optuna = _optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed or 0))
    return [config.suggest(study.ask()) for _ in range(config.trials)]


def _sampler(seed: int | None) -> Any:
    import optuna

    class SeededByTrial(optuna.samplers.TPESampler):
        """Optuna's TPE, seeded anew for each trial by its number.

        With one seed for all trials a sweep that goes on after it was cut would repeat its first draws, and
        processes side by side would draw the same ones.
        """

        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            super().__init__(seed=seed + trial.number if seed is not None else None)
            super().before_trial(study, trial)

    return optuna.samplers.TPESampler() if seed is None else SeededByTrial(seed=seed)


def _storage(config: SweepConfig) -> Any:
    if "://" in config.storage:
        return config.storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = config.file.parent / config.storage
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file)))


def _objective(config: SweepConfig, train: TrainFunction, trial: optuna.Trial) -> float:
    import optuna

    store_process(trial)
    try:
        return _train(config, train, trial)
    except optuna.TrialPruned:
        raise
    except Exception as error:  # the others go on; the table says why
        trial.set_user_attr("nndyn:reason", f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH])
        raise


def _train(config: SweepConfig, train: TrainFunction, trial: optuna.Trial) -> float:
    params = config.suggest(trial)
    asks_to_keep_good_runs = "max_false_stop_rate" in {**config.callback, **config.learner}
    keep = config.callback.get("keep", None if asks_to_keep_good_runs else DEFAULT_KEEP)
    predictor = SweepPredictor(direction=config.direction, **{"keep": keep, **config.learner})
    arguments: dict[str, Any] = {"verbose": False, "monitor": config.monitor, **config.callback}
    callback = GraphDynamicsCallback(trial=trial, sweep=predictor, **arguments)
    value = train(params, callback)
    callback.check_pruned()  # if training took place in other processes
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        message = f"{config.train} returned {value!r}: it must return the metric's final value"
        raise SweepError(message) from error


def _check_failures(study: optuna.Study) -> None:
    """End a sweep whose runs all fail.

    Raises:
        SweepError: the first three have failed.
    """
    trials = _ended(study)
    if len(trials) >= _MAX_FAILURES and all(trial.state.name == "FAIL" for trial in trials):
        reason = trials[-1].user_attrs.get("nndyn:reason", "no reason is known")
        raise SweepError(f"all of the first {len(trials)} runs failed, the last with {reason}")


def _ended(study: optuna.Study) -> list[Any]:
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and not was_killed(trial)]


@contextmanager
def _updates(study: optuna.Study, on_update: Callable[[optuna.Study], None]) -> Iterator[None]:
    """Call `on_update` from a thread, so that training does not wait for the table."""
    done = threading.Event()

    def update() -> None:
        while not done.wait(_UPDATE_SECONDS):
            on_update(study)

    thread = threading.Thread(target=update, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        on_update(study)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages that Optuna and Lightning log for each run: the table shows the runs."""
    loggers = [logging.getLogger(name) for name in ("optuna", "lightning.pytorch", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
