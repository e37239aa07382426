"""The record of a run as a file, ``nndyn-RUN.json``: written during training, read to fit predictors."""

from __future__ import annotations

import atexit
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec

from lightning_nndyn._files import Count, decode, read_json, write_atomically
from lightning_nndyn.callback.audit import AUDIT_FILE, SWITCHED_OFF, AuditedRun, append_audited_run
from lightning_nndyn.callback.decision import predictor_name
from lightning_nndyn.callback.monitored_metric import Mode
from lightning_nndyn.callback.record import Record, StoredRecord
from lightning_nndyn.callback.settings import Settings
from lightning_nndyn.callback.trainer_state import hyperparameters, record_folder
from lightning_nndyn.errors import NNDynWarning, PredictorError
from lightning_nndyn.signature.snapshot import Snapshot

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

FORMAT = 1
_MOST_HPARAMS, _LONGEST, _LARGEST = 64, 80, 1e300
PATTERN = "nndyn-*.json"
"""File names of records."""

FINISHED, STOPPED, INTERRUPTED, RUNNING = "finished", "stopped", "interrupted", "running"
"""What a record says of its run's end; "running" also of a run that was killed."""


class PolicyFacts(TypedDict, total=False):
    """What a run's decisions rested on, see `DecisionMaker.facts`; empty without a predictor."""

    low_threshold: float | None
    low_share: float | None
    max_false_stop_rate: float
    confidence: float | None
    threshold: float | None
    limits: dict[str, float | None]


class RecordFile(StoredRecord, kw_only=True):
    """The content of a record's file: the record, how the run ended, and settings of the callback."""

    status: Literal["finished", "stopped", "interrupted", "running"]
    monitor: str | None
    mode: Literal["max", "min"] | None = None
    hparams: dict[str, str | float | bool | None] = msgspec.field(default_factory=dict)
    predictor: str | None = None
    action: Literal["stop", "observe"] = "stop"
    max_epochs: Annotated[int, msgspec.Meta(ge=-1, le=2**53)] | None = None
    every_n_steps: Count | None = None
    layer_sizes: list[Count] = msgspec.field(default_factory=list)
    policy: PolicyFacts = msgspec.field(default_factory=PolicyFacts)


_waiting: dict[tuple[Path, str], Callable[[], None]] = {}
"""What could not be written yet, by file and run."""


@atexit.register
def write_waiting() -> dict[tuple[Path, str], Exception]:
    """Tries again to write what could not be written, as on a disk that was full.

    Returns:
        By file and run, why it still cannot be written.
    """
    errors: dict[tuple[Path, str], Exception] = {}
    for key, write in list(_waiting.items()):
        try:
            write()
        except Exception as error:  # whatever it is: training must not suffer from it
            errors[key] = error
        else:
            if _waiting.get(key) is write:  # no other thread has newer content
                del _waiting[key]
    return errors


def write_record(path: Path, content: Mapping[str, Any], history: str = "[]") -> None:
    """Writes a record. The file appears whole or not at all, and replaces an older one of the run.

    Args:
        path: of the file.
        content: of the record, without its snapshots.
        history: the snapshots as JSON.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    rest = json.dumps({"format": FORMAT, **content})
    write_atomically(path, f'{rest[:-1]}, "history": {history}}}'.encode())


def read_record(path: Path) -> dict[str, Any]:
    """Reads what `write_record` wrote.

    Raises:
        PredictorError: if the file cannot be read, or is of another format.
    """
    try:
        content: dict[str, Any] = read_json(path)
        found = content["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictorError(f"{path} is not a readable record of a run ({error!r}): delete it") from error
    if found != FORMAT:
        raise PredictorError(f"{path} has format {found!r}, this release reads {FORMAT}")
    return content


def load_record(path: Path) -> tuple[Record, RecordFile]:
    """Reads a record, and the whole content of its file.

    Raises:
        PredictorError: if the file cannot be read, or a part of the record is missing or unfit.
    """
    content = read_record(path)
    try:
        stored = decode(content, RecordFile)
    except ValueError as error:
        raise PredictorError(f"{path} is not a whole record of a run ({error}): delete it") from error
    return Record.from_stored(stored), stored


def load_records(
    files: Iterable[Path], unreadable: dict[Path, str]
) -> Iterator[tuple[Path, Record, RecordFile]]:
    """Reads records one by one, as they are large; of those that cannot be read, `unreadable` is told why."""
    for file in files:
        try:
            yield file, *load_record(file)
        except PredictorError as error:
            unreadable[file] = str(error)


def find_records(folder: Path | str) -> Iterator[Path]:
    """All records under a folder, sorted by path."""
    return iter(sorted(Path(folder).rglob(PATTERN)))


def plain_hparams(found: Mapping[Any, Any]) -> dict[str, str | float | bool | None]:
    """Hyperparameters as JSON-able values; whatever else there is becomes a short text."""
    values = dict(list(found.items())[:_MOST_HPARAMS])
    return {str(name)[:_LONGEST]: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> str | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) < _LARGEST:
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@dataclass
class RecordWriter:
    """Writes a run's record after each epoch and at the end.

    Where that fails, it warns once. Whatever this process writes next, and its end, are chances to try again.

    Attributes:
        folder: where the record goes; None for nowhere, as on all processes but the first.
        facts: settings of the run: JSON-able.
        audit_folder: where the audit file lies; None without an audit.
        share: probability with which this run may finish if it is flagged to stop.
        monitor: the metric that is the validation accuracy; "" if there is none.
        layer_sizes: nodes of each layer of the network's graph; empty before they are known.
    """

    folder: Path | None
    facts: Mapping[str, Any]
    audit_folder: Path | None = None
    share: float = 1.0
    monitor: str = ""
    layer_sizes: Sequence[int] = ()
    _encoded: list[str] = field(default_factory=list)  # snapshots as JSON, each encoded once
    _warned: bool = False

    @classmethod
    def open(
        cls,
        trainer: Trainer,
        settings: Settings,
        record: Record,
        policy: Mapping[str, Any],
        audited: bool,
        mode: Mode | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> RecordWriter:
        """The writer of a run that begins or is resumed. All processes must call this; the first one writes.

        Args:
            trainer: whose run it is.
            settings: the callback's arguments.
            record: the run's.
            policy: what decisions rest on.
            audited: whether the audit file is kept, if there is an audit share.
            mode: whether the monitored metric is to grow or to fall; None if that is not known.
            params: of the run's trial, which are kept with the model's own hyperparameters.
        """
        log_folder = trainer.log_dir  # a collective call
        if not trainer.is_global_zero:
            return cls(None, {})
        facts = {
            "monitor": settings.monitor,
            "mode": mode,
            "hparams": plain_hparams({**hyperparameters(trainer), **(params or {})}),
            "predictor": predictor_name(settings.predictor),
            "action": settings.action,
            "max_epochs": trainer.max_epochs,
            "every_n_steps": settings.snapshot_every_n_steps,
            "policy": policy,
        }
        never_stops = settings.action == "observe" or record.exempt.startswith(SWITCHED_OFF)
        return cls(
            record_folder(trainer, settings.record, log_folder),
            facts,
            Path(trainer.default_root_dir) if audited and settings.audit_share else None,
            1.0 if never_stops else settings.audit_share,
            settings.monitor or "",
        )

    def file(self, record: Record) -> Path | None:
        """Where the record goes; None for nowhere."""
        return None if self.folder is None else self.folder / f"nndyn-{record.run}.json"

    def write(self, record: Record, status: str) -> None:
        """Writes the record as it is now."""
        path = self.file(record)
        if path is None or not record.history:
            return
        content = {
            **record.facts(),
            "status": status,
            "layer_sizes": list(self.layer_sizes),
            **self.facts,
        }
        history = self._history_json(record.history)
        self._write(lambda: write_record(path, content, history), path, record.run)

    def end(self, record: Record, status: str, flagged_to_stop: bool = False) -> None:
        """Writes how the run has ended, and adds it to the audit file if it had verdicts and finished.

        Args:
            record: the run's record.
            status: how it has ended.
            flagged_to_stop: whether it has finished although the decision was to stop it.
        """
        self.write(record, status)
        values = [value for value in record.metrics.get(self.monitor, ()) if value is not None]
        folder = self.audit_folder
        if folder is None or status != FINISHED or not values or not record.verdicts:
            return
        best = max(values) / (100 if record.unit == "percent" else 1)
        run = AuditedRun(best, record.classes, flagged_to_stop, self.share, record.run)
        self._write(lambda: append_audited_run(folder, run), folder / AUDIT_FILE, record.run)

    def _history_json(self, history: Sequence[Snapshot]) -> str:
        new = history[len(self._encoded) :]
        self._encoded += [json.dumps(snapshot.to_dict()) for snapshot in new]
        return f"[{', '.join(self._encoded)}]"

    def _write(self, write: Callable[[], None], path: Path, run: str) -> None:
        _waiting[path, run] = write
        error = write_waiting().get((path, run))
        if error is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"GraphDynamicsCallback cannot write to {str(path.parent)!r} ({type(error).__name__}: "
                f"{error}): this run's record is not kept until a later try succeeds; training, predictions "
                "and decisions go on",
                NNDynWarning,
                stacklevel=2,
            )
