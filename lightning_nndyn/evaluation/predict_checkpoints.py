"""Verdicts of a predictor on checkpoints, without training."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from lightning_nndyn._files import Count, decode
from lightning_nndyn.callback.record import Record
from lightning_nndyn.errors import PredictorError
from lightning_nndyn.graph.tracing.tracer import rolled_graph
from lightning_nndyn.predictor import Predictor, Verdict
from lightning_nndyn.signature.reader import SnapshotReader
from lightning_nndyn.signature.snapshot import Snapshot

_CALLBACK = "GraphDynamicsCallback"


class _Progress(msgspec.Struct):
    """What a Trainer saves of how far it has come."""

    epoch: Count
    global_step: Count


class _Epochs(msgspec.Struct):
    started: Count
    processed: Count


@dataclass(frozen=True)
class CheckpointVerdict:
    """A predictor's verdict on a checkpoint, or why there is none.

    Attributes:
        file: the checkpoint, or a path that has none.
        verdict: the predictor's.
        why: there is no verdict; else empty.
        readable: whether the file is a checkpoint that can be read.
    """

    file: Path
    verdict: Verdict | None
    why: str = ""
    readable: bool = True


def predict_checkpoints(
    paths: Sequence[Path | str],
    predictor: Predictor,
    *,
    model: str | None = None,
    shape: Sequence[int] | None = None,
) -> Iterator[CheckpointVerdict]:
    """Judge runs by their checkpoints.

    A checkpoint of a run with the callback contains all snapshots until then. Others contain weights only:
    they need a `model` to load them into. The checkpoints of each folder are taken for one run, and one of
    them must have been saved before the first step.

    Args:
        paths: checkpoint files, or folders with such.
        predictor: that gives the verdicts.
        model: "package.module:name" of a class or function that makes the network without arguments.
        shape: of one input of the network, such as (3, 32, 32), if tracing needs one.

    Raises:
        PredictorError: no path has checkpoints, or the model cannot be made or has other weights than all of
            them.
    """
    files = {Path(path): _files(Path(path)) for path in paths}
    if not any(files.values()):
        raise PredictorError(" ".join(map(_nothing, files)))
    make = None if model is None else _maker(model)
    weights: dict[Path, list[tuple[float, Path, Mapping[str, Any]]]] = {}
    for path in files:
        if not files[path]:
            yield CheckpointVerdict(path, None, _nothing(path), readable=False)
    for file in dict.fromkeys(file for some in files.values() for file in some):
        try:
            content = _content(file)
            record = _record(content)
            time = None if record is not None else _time(content)
        except PredictorError as error:
            yield CheckpointVerdict(file, None, str(error), readable=False)
            continue
        if record is not None:
            yield _verdict_on_record(file, predictor, record)
        elif make is None:
            yield CheckpointVerdict(
                file, None, "made without the callback: give the model to read its weights with"
            )
        elif time is None:
            yield CheckpointVerdict(
                file, None, "saved within an epoch: only epoch ends, and the beginning, are read"
            )
        else:
            weights.setdefault(file.parent, []).append((time, file, content["state_dict"]))
    wrong: list[str] = []
    for run in weights.values():
        assert make is not None
        ordered = sorted(run, key=lambda one: one[0])
        yield from _verdicts_on_weights(ordered, predictor, make(), shape, wrong)
    if wrong and len(wrong) == sum(map(len, weights.values())):
        raise PredictorError(wrong[0])


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.ckpt")) if path.is_dir() else [path] if path.exists() else []


def _nothing(path: Path) -> str:
    return f"no checkpoints (*.ckpt) in {str(path)!r}: give files, or folders with such"


def _content(file: Path) -> Mapping[str, Any]:
    """Read a Lightning checkpoint.

    Raises:
        PredictorError: it is not one, or contains more than tensors and numbers.
    """
    try:
        if not file.is_file():
            raise OSError("it is no regular file")
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything
        first = str(error).strip().split("\n")[0]
        raise PredictorError(
            f"not a checkpoint of numbers alone ({type(error).__name__}: {first})"
        ) from error
    if not isinstance(content, Mapping) or not {"state_dict", "epoch", "global_step"} <= set(content):
        raise PredictorError("not a checkpoint that a Trainer has saved")
    if not isinstance(content["state_dict"], Mapping):
        raise PredictorError("its weights are none")
    return content


def _record(content: Mapping[str, Any]) -> Record | None:
    callbacks = content.get("callbacks")
    for key, state in callbacks.items() if isinstance(callbacks, Mapping) else ():
        if str(key).startswith(_CALLBACK) and isinstance(state, Mapping) and state.get("history"):
            try:
                return Record.from_state_dict(state)
            except ValueError as error:
                raise PredictorError(f"its record cannot be read: {error}") from error
    return None


def _verdict_on_record(file: Path, predictor: Predictor, record: Record) -> CheckpointVerdict:
    """The later of the verdicts with and without the learning curve, which may end before the snapshots."""
    curves = [record.curve(), None] if predictor.reads_curves else [None]
    verdicts, why = [], ""
    for curve in curves:
        try:
            verdict = predictor.predict(record.history, curve=curve, training=record.training)
            verdicts.append(verdict.at_least(record.best_accuracy))
        except (PredictorError, ValueError) as error:  # snapshots of graphs that differ
            why = str(error)
    latest = max(verdicts, key=lambda verdict: verdict.epoch, default=None)
    return CheckpointVerdict(file, latest, "" if latest else why)


def _time(content: Mapping[str, Any]) -> float | None:
    """The number of finished epochs; None for a checkpoint that was saved within an epoch.

    Raises:
        PredictorError: it does not tell.
    """
    try:
        progress = decode(content, _Progress)
        if progress.global_step == 0:
            return 0.0
        loop = content.get("loops", {}).get("fit_loop")
        if loop is None:
            return float(progress.epoch + 1)
        epochs = decode(loop["epoch_progress"]["current"], _Epochs)
        if epochs.processed == epochs.started:
            return float(epochs.processed)
        return float(epochs.started) if loop["epoch_loop.batch_progress"]["is_last_batch"] else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PredictorError(f"it does not tell how far training had come ({error})") from error


def _verdicts_on_weights(
    run: Sequence[tuple[float, Path, Mapping[str, Any]]],
    predictor: Predictor,
    network: nn.Module,
    shape: Sequence[int] | None,
    wrong: list[str],
) -> Iterator[CheckpointVerdict]:
    """Reads the checkpoints of a folder; `wrong` is told why weights do not fit the network."""
    taker: SnapshotReader | None = None
    history: list[Snapshot] = []
    for time, file, state in run:
        try:
            _load(network, state)
        except PredictorError as error:
            wrong.append(str(error))
            yield CheckpointVerdict(file, None, str(error), readable=False)
            continue
        if not history and time > 0:
            why = "this folder has no checkpoint that was saved before the first step"
            yield CheckpointVerdict(file, None, why)
            continue
        if taker is None:
            example = None if shape is None else torch.zeros(1, *shape)
            taker = SnapshotReader(
                rolled_graph(network, example, topology=predictor.topology), per_layer=True
            )
        if history and time <= history[-1].epoch:
            yield CheckpointVerdict(file, None, f"another checkpoint after {time:g} epochs was read")
            continue
        history.append(taker.read(time))
        if len(history) == 1:
            yield CheckpointVerdict(file, None, "where the run begins")
            continue
        try:
            yield CheckpointVerdict(file, predictor.predict(history))
        except PredictorError as error:
            yield CheckpointVerdict(file, None, str(error))


def _load(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Load the weights of a network, or of a LightningModule that has it as an attribute."""
    keys = set(network.state_dict())
    names = map(str, state)  # from a file, where they may be anything
    prefixes = {name[: len(name) - len(key)] for name in names for key in keys if name.endswith(key)}
    for prefix in sorted(prefixes):
        if all(prefix + key in state for key in keys):
            try:
                network.load_state_dict({key: state[prefix + key] for key in keys})
            except (RuntimeError, TypeError, AttributeError) as error:  # of other shapes, or no tensors
                first = str(error).strip().split("\n")[0]
                raise PredictorError(f"its weights do not fit {type(network).__name__}: {first}") from error
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
