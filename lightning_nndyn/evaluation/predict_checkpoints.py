"""Verdicts on checkpoints, without training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot

_CALLBACK = "GraphDynamicsCallback"


@dataclass(frozen=True)
class Scored:
    """What a predictor says of a checkpoint: a verdict, or why there is none."""

    file: Path
    verdict: Verdict | None
    why: str = ""


def predict_checkpoints(
    paths: Sequence[Path | str],
    predictor: Predictor,
    *,
    model: str | None = None,
    shape: Sequence[int] | None = None,
) -> Iterator[Scored]:
    """Judges runs by their checkpoints.

    A checkpoint of a run with the callback carries all that was read until then. Others carry weights alone:
    with a `model` to put them into, each folder's checkpoints are taken for one run, which must begin with
    one that was saved before the first step.

    Args:
        paths: checkpoint files, or folders with such.
        predictor: what judges.
        model: "package.module:name" of a class or function that makes the network without arguments.
        shape: of one input of it, such as (3, 32, 32), where tracing needs one.

    Raises:
        PredictorError: a path has no checkpoints, or the model cannot be made, or has other weights.
    """
    files = [file for path in paths for file in _files(Path(path))]
    make = None if model is None else _maker(model)
    weights: dict[Path, list[tuple[float, Path, Mapping[str, Any]]]] = {}
    for file in files:
        try:
            content = _content(file)
            record, time = _record(content), _time(content)
        except PredictorError as error:
            yield Scored(file, None, str(error))
            continue
        if record is not None:
            yield _judged(file, predictor, record)
        elif make is None:
            yield Scored(file, None, "made without the callback: give the model to read its weights with")
        elif time is None:
            yield Scored(file, None, "saved within an epoch: only epoch ends, and the beginning, are read")
        else:
            weights.setdefault(file.parent, []).append((time, file, content["state_dict"]))
    for run in weights.values():
        assert make is not None
        yield from _read_run(sorted(run, key=lambda one: one[0]), predictor, make(), shape)


def _files(path: Path) -> list[Path]:
    found = sorted(path.rglob("*.ckpt")) if path.is_dir() else [path] if path.exists() else []
    if not found:
        raise PredictorError(f"no checkpoints (*.ckpt) in {str(path)!r}: give files, or folders with such")
    return found


def _content(file: Path) -> Mapping[str, Any]:
    """A Lightning checkpoint.

    Raises:
        PredictorError: it is none, or holds more than numbers.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what is in the file decides what is raised
        first = str(error).strip().split("\n")[0]
        raise PredictorError(
            f"not a checkpoint of numbers alone ({type(error).__name__}: {first})"
        ) from error
    if not isinstance(content, Mapping) or not {"state_dict", "epoch", "global_step"} <= set(content):
        raise PredictorError("not a checkpoint that a Trainer has saved")
    return content


def _record(content: Mapping[str, Any]) -> Record | None:
    for key, state in content.get("callbacks", {}).items():
        if key.startswith(_CALLBACK) and state.get("history"):
            try:
                return Record.from_state_dict(state)
            except (ValueError, KeyError, TypeError) as error:
                raise PredictorError(f"its record cannot be read: {error}") from error
    return None


def _judged(file: Path, predictor: Predictor, record: Record) -> Scored:
    """By the curve as well where it reaches as far as the weights; else by the weights alone."""
    curves = [record.curve(), None] if predictor.reads_curves else [None]
    verdicts, why = [], ""
    for curve in curves:
        try:
            verdicts.append(predictor.predict(record.history, curve=curve, training=record.training))
        except PredictorError as error:
            why = str(error)
    return Scored(file, max(verdicts, key=lambda one: one.epoch), "") if verdicts else Scored(file, None, why)


def _time(content: Mapping[str, Any]) -> float | None:
    """Epochs that had ended; None within an epoch."""
    if content["global_step"] == 0:
        return 0.0
    loop = content.get("loops", {}).get("fit_loop")
    if loop is None:
        return float(content["epoch"] + 1)
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    if epochs["processed"] == epochs["started"]:
        return float(epochs["processed"])
    return float(epochs["started"]) if batches["is_last_batch"] else None


def _read_run(
    run: Sequence[tuple[float, Path, Mapping[str, Any]]],
    predictor: Predictor,
    network: nn.Module,
    shape: Sequence[int] | None,
) -> Iterator[Scored]:
    if run[0][0] > 0:
        for _, file, _ in run:
            yield Scored(file, None, "this folder has no checkpoint that was saved before the first step")
        return
    _load(network, run[0][2])
    example = None if shape is None else torch.zeros(1, *shape)
    taker = SnapshotReader(rolled_graph(network, example, topology=predictor.topology), per_layer=True)
    history: list[Snapshot] = []
    for time, file, state in run:
        _load(network, state)
        if history and time <= history[-1].epoch:
            yield Scored(file, None, f"another checkpoint after {time:g} epochs was read")
            continue
        history.append(taker.read(time))
        if len(history) == 1:
            yield Scored(file, None, "where the run begins")
            continue
        try:
            yield Scored(file, predictor.predict(history))
        except PredictorError as error:
            yield Scored(file, None, str(error))


def _load(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Into the network itself, or one that a LightningModule has under some name."""
    own = set(network.state_dict())
    for prefix in sorted(
        {name[: len(name) - len(key)] for name in state for key in own if name.endswith(key)}
    ):
        if all(prefix + key in state for key in own):
            network.load_state_dict({key: state[prefix + key] for key in own})
            return
    raise PredictorError(f"the checkpoint has no weights for {type(network).__name__}: name another model")


def _maker(model: str) -> Callable[[], nn.Module]:
    module, _, name = model.partition(":")
    if os.getcwd() not in sys.path:  # an installed command does not look there
        sys.path.append(os.getcwd())
    try:
        make = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PredictorError(f"model={model!r} is not there ({error}): give package.module:name") from error

    def made() -> nn.Module:
        try:
            network = make()
        except Exception as error:
            raise PredictorError(
                f"model={model!r} cannot be made without arguments ({type(error).__name__}: {error}): name a "
                "function that makes it"
            ) from error
        if not isinstance(network, nn.Module):
            raise PredictorError(f"model={model!r} makes a {type(network).__name__}, not a torch module")
        return network

    return made
