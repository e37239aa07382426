"""What the trials of a sweep on Ray share: the ended runs and the predictors fitted to them, in one actor.

A detached actor on the head node: it outlives the trials, workers and nodes that come and go. It keeps a
journal in the storage of the experiment, and reads it again should its process die, or the whole cluster.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from lightning_nndyn._files import Finite, decode, parse_json
from lightning_nndyn.errors import MissingExtraError, NNDynWarning
from lightning_nndyn.sweep import MAX_FITTED_RUNS, SweepReading, SweepRun
from lightning_nndyn.sweep.run import Weight

try:
    import ray as ray
    from pyarrow import fs
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingExtraError("ray", "ray", "A sweep on Ray") from error

NAMESPACE = "lightning-nndyn"
_SETTINGS = "tuner.pkl"
"""In an experiment's storage, of what the Tuner was made; it stays as it is when that is restored."""

_HEAD = "node:__internal_head__"  # a resource that Ray gives to the head node alone

EncodedReading = tuple[Finite, Sequence[Finite], Sequence[Finite], Finite | None]
EncodedRun = tuple[
    Mapping[str, bool | int | Finite | str | None], Sequence[EncodedReading], Finite | None, bool, Weight
]


class _Line(msgspec.Struct, array_like=True):
    """A line of the journal: a trial's name, and its run."""

    trial: Annotated[str, msgspec.Meta(max_length=256)]
    run: EncodedRun


class SweepActor:
    """The ended runs of one sweep, in the order in which they ended, and predictors fitted to them.

    Only the latest ones keep their parameters and readings, as no more are used in a fit.

    Args:
        journal: file that ended runs are added to; those that it holds are read.
        files: where the file lies; None for this machine's.
    """

    def __init__(self, journal: str, files: Any = None) -> None:
        self._journal = SweepJournal(journal, files)
        self._runs: dict[str, EncodedRun] = {}  # by trial, in the order in which they ended
        self._kept_whole: tuple[list[str], list[str]] = [], []  # trials that have finished, and stopped ones
        self._predictors: dict[str, tuple[int, bytes]] = {}
        for line in self._journal.read():
            self._add(line)

    def add(self, trial: str, run: EncodedRun) -> None:
        """Add a run that has ended; one of a trial that has already ended is passed over.

        Raises:
            ValueError: it is no run.
        """
        line = decode([trial, run], _Line)
        if self._add(line):
            self._journal.append(line)

    def since(self, count: int) -> list[tuple[str, EncodedRun]]:
        """The trials that have ended after the first `count`, and their runs."""
        return list(islice(self._runs.items(), count, None))

    def predictors(self) -> dict[str, bytes]:
        """The pickled predictors, by name."""
        return {name: predictor for name, (_, predictor) in self._predictors.items()}

    def add_predictor(self, name: str, num_finished: int, predictor: bytes) -> None:
        """Keep a pickled predictor, unless there is one that was fitted to more finished runs."""
        if num_finished > self._predictors.get(name, (0, b""))[0]:
            self._predictors[name] = num_finished, predictor

    def close(self) -> None:
        """Remove the journal."""
        self._journal.remove()

    def _add(self, line: _Line) -> bool:
        if line.trial in self._runs:
            return False
        self._runs[line.trial] = line.run
        _, _, value, stopped, _ = line.run
        kept = self._kept_whole[stopped or value is None]
        kept.append(line.trial)
        if len(kept) > MAX_FITTED_RUNS:
            oldest = kept.pop(0)
            self._runs[oldest] = {}, (), *self._runs[oldest][2:4], 1.0
        return True


class SweepJournal:
    """Lines of JSON in a file of any storage that Ray Tune has.

    Args:
        path: of the file.
        files: `pyarrow.fs` filesystem that it lies in; None for this machine's.
    """

    def __init__(self, path: str, files: Any = None) -> None:
        self._path, self._files = path, files or fs.LocalFileSystem()
        self._unwritten = b""

    def read(self) -> list[_Line]:
        """What is in the file; lines that hold no run are left out, with a warning."""
        found: list[_Line] = []
        strange = []
        for number, line in enumerate(self._bytes().splitlines(), start=1):
            try:
                found += [decode(parse_json(line), _Line)] if line else []
            except ValueError as error:
                strange.append(f"line {number}: {error}")
        if strange:
            message = f"{self._path} has {len(strange)} lines that are no runs of a sweep ({strange[0]})"
            warnings.warn(f"{message}: they are left out", NNDynWarning, stacklevel=2)
        return found

    def append(self, line: _Line) -> None:
        """Add a line. Where that fails, it is added with the next one."""
        # A line break before it as well: the line before may have been cut off.
        self._unwritten += b"\n%s\n" % msgspec.json.encode(line)
        try:
            self._files.create_dir(str(PurePosixPath(self._path).parent), recursive=True)
            if isinstance(self._files, fs.LocalFileSystem):
                with open(self._path, "ab") as file:
                    file.write(self._unwritten)
            else:  # object stores do not append, but replace a file whole
                content = self._bytes() + self._unwritten
                with self._files.open_output_stream(self._path) as stream:
                    stream.write(content)
        except OSError as error:
            warnings.warn(f"{self._path} cannot be written: {error}", NNDynWarning, stacklevel=2)
        else:
            self._unwritten = b""

    def remove(self) -> None:
        """Delete the file, if it is there."""
        if self._is_there():
            self._files.delete_file(self._path)

    def _is_there(self) -> bool:
        return bool(self._files.get_file_info(self._path).type == fs.FileType.File)

    def _bytes(self) -> bytes:
        if not self._is_there():
            return b""
        with self._files.open_input_stream(self._path) as file:
            content: bytes = file.read()
        return content


def actor_of(sweep: str, storage: Any = None) -> Any:
    """The actor of a sweep, created if there is none.

    Args:
        sweep: its name.
        storage: `StorageContext` of the Ray Tune experiment, which keeps the journal; None outside of one.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    head = next(node["NodeID"] for node in nodes if node["Alive"] and _HEAD in node["Resources"])
    options = {
        "name": sweep,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 3,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(head, soft=False),
    }
    if storage is None:
        journal = Path(tempfile.gettempdir(), f"nndyn-sweep-{uuid.uuid4().hex}.jsonl").as_posix(), None
    else:
        journal = _journal_path(sweep, storage), storage.storage_filesystem
    return ray.remote(SweepActor).options(**options).remote(*journal)


def _journal_path(sweep: str, storage: Any) -> str:
    """Where an experiment keeps the journal of a sweep: in the same file when it is restored.

    Experiments of one name may follow each other in one folder, and runs of another function, search space or
    metric teach nothing.
    """
    folder = PurePosixPath(storage.experiment_fs_path)
    with suppress(OSError), storage.storage_filesystem.open_input_stream(str(folder / _SETTINGS)) as file:
        sweep += hashlib.sha256(file.read()).hexdigest()
    return str(folder / f"nndyn-sweep-{hashlib.sha256(sweep.encode()).hexdigest()[:12]}.jsonl")


def encode_run(run: SweepRun) -> EncodedRun:
    """An ended run as tuples, which pickle and JSON keep small."""
    readings = [(one.time, one.weights, one.curve, one.prior_prediction) for one in run.readings]
    value = run.value if run.value is not None and math.isfinite(run.value) else None
    return run.params, readings, value, run.stopped, run.weight


def decode_run(encoded: EncodedRun) -> SweepRun:
    """The inverse of `encode_run`."""
    params, readings, value, stopped, weight = encoded
    decoded = [
        SweepReading(at, tuple(weights), tuple(curve), prior) for at, weights, curve, prior in readings
    ]
    return SweepRun(params, decoded, value, stopped, weight)


def flat_params(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The hyperparameters in a trial's configuration; nested names are joined by slashes.

    Lists are taken as texts. What is neither number, text, truth value nor None is left out.
    """
    params: dict[str, Any] = {}
    for name, value in config.items():
        value = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's, torch's
        if isinstance(value, Mapping):
            params |= flat_params(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            params[prefix + name] = str(value)
        elif value is None or isinstance(value, bool | int | float | str):
            params[prefix + name] = value
    return params
