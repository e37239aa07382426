"""A sweep's YAML file, checked before anything is trained."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lightning_nndyn.errors import SweepError
from lightning_nndyn.study.race import TrainFunction


@dataclass(frozen=True)
class SweepConfig:
    """Configuration of a sweep or a race.

    Attributes:
        file: that it was read from; other paths in it are relative to its folder.
        train: ``script.py:function``, called with the hyperparameters (a dict) and the callback; it trains
            one run and returns the metric's final value.
        space: for each hyperparameter its values: a list of choices, or ``low`` and ``high``, with
            ``log: true`` or ``step`` if wanted. Whole numbers at both ends (and as step) give whole numbers.
        trials: runs that are to end, stopped ones among them.
        monitor: the metric after each epoch, if it is an accuracy that Lightning logs: read beside the
            weights.
        direction: "maximize" or "minimize".
        storage: of the study: a file (Optuna's journal), or the URL of a data base.
        name: of the study; the file's unless given.
        seed: of the sampler; None for another at each start.
        callback: further arguments of `GraphDynamicsCallback`.
        learner: arguments of `SweepPredictor`.
        race: turns the sweep into a race over `trials` candidates that are drawn at random. It may hold
            `predictor`, the name or path of one that was fitted to such runs, and `rungs`, a list of
            ``{epochs: ..., keep: ...}``; None for a sweep.
    """

    file: Path
    train: str
    space: Any
    trials: Any = 50
    monitor: str | None = None
    direction: Any = "maximize"
    storage: str = "sweep.journal"
    name: str = ""
    seed: int | None = None
    callback: Mapping[str, Any] = field(default_factory=dict)
    learner: Mapping[str, Any] = field(default_factory=dict)
    race: Any = None

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Draw a value for each hyperparameter."""
        return {name: _suggest(trial, name, values) for name, values in self.space.items()}

    def train_function(self) -> TrainFunction:
        """Import the function that trains one run.

        Raises:
            SweepError: there is no such file, or no such function in it.
        """
        script, _, name = self.train.rpartition(":")
        path = self.file.parent / script
        if not script or not path.is_file():
            raise SweepError(
                f"train: {self.train!r} names no file beside {self.file}: give script.py:function"
            )
        specification = importlib.util.spec_from_file_location(path.stem, path)
        if specification is None or specification.loader is None:
            raise SweepError(f"train: {self.train!r} is no Python file: give script.py:function")
        module = importlib.util.module_from_spec(specification)
        sys.modules[path.stem] = module  # processes that training starts import it by its name
        sys.path.insert(0, str(path.parent))
        specification.loader.exec_module(module)
        function: TrainFunction | None = getattr(module, name, None)
        if not callable(function):
            raise SweepError(f"train: there is no function {name!r} in {path}")
        return function


Plan = SweepConfig


def load_config(file: Path | str) -> SweepConfig:
    """Read and check a sweep's YAML file.

    Raises:
        SweepError: it cannot be read, a part is missing or unknown, or a range is invalid.
    """
    import yaml  # comes with Lightning; it has no types

    path = Path(file)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SweepError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise SweepError(f"{path} holds no mapping: give at least `train` and `space`")
    known = {attribute.name for attribute in fields(SweepConfig)} - {"file"}
    unknown, missing = sorted(set(content) - known), sorted({"train", "space"} - set(content))
    if unknown or missing:
        what = f"lacks {', '.join(missing)}" if missing else f"has the unknown key {unknown[0]!r}"
        raise SweepError(f"{path} {what}; it may have {', '.join(sorted(known))}")
    given = {name: value for name, value in content.items() if value is not None}  # `callback:` alone is None
    config = SweepConfig(**{"file": path, "name": path.stem, **given})
    _check(config)
    return config


load_plan = load_config


# -- checks --------------------------------------------------------------------------------------------------


def _check(config: SweepConfig) -> None:
    if config.direction not in ("maximize", "minimize"):
        raise SweepError(f"direction: {config.direction!r} is neither maximize nor minimize")
    if not isinstance(config.trials, int) or config.trials < 1:
        raise SweepError(f"trials: {config.trials!r} is no number of runs; give a whole number of at least 1")
    if not isinstance(config.space, Mapping) or not config.space:
        raise SweepError(
            "space: name at least one hyperparameter, such as `lr: {low: 1e-4, high: 0.1, log: true}`"
        )
    for part, example in (("callback", "{predictor: universal}"), ("learner", "{good_share: 0.1}")):
        if not isinstance(found := getattr(config, part), Mapping):
            raise SweepError(f"{part}: {found!r} is no mapping; give arguments such as {example}")
    for name, values in config.space.items():
        _check_values(name, values)
    if config.race is not None:
        _check_race(config)


def _check_race(config: SweepConfig) -> None:
    example = "race: {rungs: [{epochs: 0.0625, keep: 0.5}, {epochs: 1, keep: 0.1}]}"
    if not isinstance(config.race, Mapping) or not set(config.race) <= {"predictor", "rungs"}:
        raise SweepError(
            f"race: {config.race!r} is no mapping, or has more than predictor and rungs; give {example}"
        )
    rungs = config.race.get("rungs", [])
    if not isinstance(rungs, list) or any(
        not isinstance(rung, Mapping) or set(rung) != {"epochs", "keep"} for rung in rungs
    ):
        raise SweepError(f"race: rungs: {rungs!r} is no list of epochs and keep; give {example}")
    if config.learner:
        raise SweepError("learner: a race learns nothing from its own runs: leave that out")
    if "://" in config.storage:
        raise SweepError(f"storage: {config.storage!r}: a race is kept in a file; name one")
    if config.direction != "maximize":
        raise SweepError("direction: a race is for the highest accuracy; leave that out")
    if config.monitor is None:
        raise SweepError("monitor: a race ranks by an accuracy, too: name the metric that you log")


def _check_values(name: str, values: Any) -> None:
    if isinstance(values, list) and values:
        return
    if not isinstance(values, Mapping) or not {"low", "high"} <= set(values) <= {
        "low",
        "high",
        "log",
        "step",
    }:
        raise SweepError(
            f"space: {name}: {values!r} is neither a list of choices nor a range such as "
            "{low: 1e-4, high: 0.1, log: true}"
        )
    for end in ("low", "high", "step"):
        if isinstance(_number(values.get(end, 1)), str):
            raise SweepError(f"space: {name}: {end}: {values[end]!r} is no number")
    low, high = _number(values["low"]), _number(values["high"])
    if not low < high or (values.get("log") and low <= 0):
        scale = " on a logarithmic scale" if values.get("log") else ""
        raise SweepError(f"space: {name}: from {low} to {high} is no range{scale}")
    if values.get("log") and "step" in values:
        raise SweepError(f"space: {name}: a range has either `log` or `step`")
    if not _number(values.get("step", 1)) > 0:
        raise SweepError(f"space: {name}: step: {values['step']!r} leads nowhere; give one above 0")


# -- values --------------------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    """The number that a text such as "1e-4" is: YAML 1.1 reads that as a text, as it has no decimal point."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _choice(value: Any) -> Any:
    """As `_number`, but only for texts such as "1e-4": other choices may be meant as texts."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value) else value


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, [_choice(value) for value in values])
    low, high = _number(values["low"]), _number(values["high"])
    log, step = bool(values.get("log")), _number(values.get("step"))
    if all(isinstance(number, int) for number in (low, high, step or 1)):
        return trial.suggest_int(name, low, high, step=step or 1, log=log)
    return trial.suggest_float(name, float(low), float(high), step=step, log=log)
