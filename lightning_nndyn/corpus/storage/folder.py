"""A corpus folder: a manifest, one record file a run, and locks that keep two processes from one run.

Layout: `corpus.json` (settings and data sets), `runs/run-00012.json.gz`, `claims/run-00012` (empty lock
files), `cache/` (decoded images). A record appears under its name only when it is complete; a killed process
may leave a temporary file, which is never read.
"""

import gzip
import io
import json
import re
import shutil
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lightning_nndyn import _files
from lightning_nndyn._files import (
    LARGEST_FILE,
    TEMPORARY,
    Count,
    Finite,
    decode,
    parse_json,
    read_bytes,
    read_json,
    try_lock,
)
from lightning_nndyn.corpus.presets.paper import BAND
from lightning_nndyn.corpus.storage.record import RECORD_VERSION, RunRecord
from lightning_nndyn.errors import CorpusError, NNDynWarning

_RECORD_NAME = re.compile(r"run-(\d{5,9})\.json\.gz", re.ASCII)
_STALE_SECONDS = 24 * 3600
# Settings that may differ when a corpus is continued: the threshold does not affect training, and the fast
# precision differs between machines. Each record has its own precision.
_FREE_SETTINGS = ("low_threshold", "precision")


class CorpusFolder:
    """The files of one corpus."""

    def __init__(self, folder: Path | str) -> None:
        """Set the paths; nothing is created."""
        self.folder = Path(folder)
        self.runs = self.folder / "runs"
        self.cache = self.folder / "cache"
        self.manifest_file = self.folder / "corpus.json"

    def record_file(self, index: int) -> Path:
        """Path of the record of a run."""
        return self.runs / f"run-{index:05d}.json.gz"

    def manifest(self) -> dict[str, Any]:
        """The settings that the corpus was started with.

        Raises:
            CorpusError: The folder is no corpus, or its manifest is damaged or of another version.
        """
        try:
            manifest = decode(read_json(self.manifest_file), dict[str, Any])
        except FileNotFoundError:
            why = "it has no corpus.json" if self.folder.exists() else "it does not exist"
            raise CorpusError(f"{str(self.folder)!r} is no corpus folder: {why}") from None
        except (OSError, ValueError) as error:
            raise CorpusError(f"cannot read {str(self.manifest_file)!r}: {error}") from error
        if manifest.get("record_version") != RECORD_VERSION:
            raise CorpusError(
                f"{str(self.manifest_file)!r} has record version {manifest.get('record_version')!r}, this "
                f"package reads {RECORD_VERSION}: use the version of lightning-nndyn that wrote it"
            )
        return upgraded(self.manifest_file, manifest)

    def open(self, settings: dict[str, Any], data: dict[str, Any]) -> None:
        """Start the corpus, or continue it if it was started with the same settings and the same data.

        Raises:
            CorpusError: It was started with others (the message names the first difference), or cannot be
                written.
        """
        wanted = {"record_version": RECORD_VERSION, "settings": settings, "data": data}
        if not self.manifest_file.exists():
            self.runs.mkdir(parents=True, exist_ok=True)
            write_atomically(self.manifest_file, json.dumps(wanted, indent=1).encode(), keep_existing=True)
        found = self.manifest()
        wanted = json.loads(json.dumps(wanted))
        check_same(self.folder, found["settings"], wanted["settings"])
        for dataset, about in wanted["data"].items():
            check_same(self.folder, found["data"].get(dataset, {}), about)
        self._sweep()

    def set_low_threshold(self, threshold: float | Mapping[str, float]) -> None:
        """Change the accuracy below which runs are low, in each data set; training does not depend on it.

        Raises:
            CorpusError: The folder is no corpus or cannot be written.
        """
        manifest = self.manifest()
        if manifest["settings"]["low_threshold"] == threshold:
            return
        manifest["settings"]["low_threshold"] = threshold
        write_atomically(self.manifest_file, json.dumps(manifest, indent=1).encode())

    def write(self, record: RunRecord) -> None:
        """Write a record atomically, so that not even a power failure leaves half of it.

        Raises:
            CorpusError: The disk is full or the folder cannot be written.
        """
        text = json.dumps(record.to_dict(), separators=(",", ":"))
        write_atomically(self.record_file(record.index), gzip.compress(text.encode(), 6, mtime=0))

    def read(self, index: int) -> RunRecord:
        """Read one record.

        Raises:
            CorpusError: It is missing, damaged or of another version; the message names the file.
        """
        return read_record(self.record_file(index))

    def indices(self) -> list[int]:
        """Indices of the runs that have a record, damaged or not, in order."""
        found = (_RECORD_NAME.fullmatch(file.name) for file in self.runs.glob("run-*.json.gz"))
        return sorted(int(name[1]) for name in found if name)

    def complete(self) -> tuple[set[int], list[str]]:
        """Indices of the runs with a whole record, and messages about the damaged records."""
        whole: set[int] = set()
        damaged: list[str] = []
        for index in self.indices():
            try:
                _check_whole(self.record_file(index))
                whole.add(index)
            except CorpusError as error:
                damaged.append(str(error))
        return whole, damaged

    def failed(self, indices: Iterable[int]) -> set[int]:
        """Those of the indices whose runs failed, or have a record that cannot be read."""
        failed = set()
        for index in indices:
            try:
                failed |= {index} if self.read(index).failed else set()
            except CorpusError:
                failed.add(index)
        return failed

    def records(self) -> list[RunRecord]:
        """All whole records in order; a damaged one is left out, with a warning that names it."""
        records = []
        for index in self.indices():
            try:
                records.append(self.read(index))
            except CorpusError as error:
                warnings.warn(f"left out: {error}", NNDynWarning, stacklevel=3)
        return records

    def claim(self, index: int) -> AbstractContextManager[bool]:
        """Lock a run: whether this process may train it. The lock ends with the process, however it ends."""
        return try_lock(self.folder / "claims" / f"run-{index:05d}")

    def _sweep(self) -> None:
        """Delete temporary files older than a day; younger ones may be in use."""
        for folder in (self.runs, self.folder, self.cache):
            for left in folder.glob(f"{TEMPORARY}*"):
                with suppress(OSError):
                    if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()


def upgraded(file: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest in today's form; the first ones had a single data set, without its name.

    Raises:
        CorpusError: A part that is read is missing or unfit.
    """
    try:
        manifest = _upgraded(manifest)
        decode(manifest, _Manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorpusError(f"{str(file)!r} has a damaged manifest ({error}): restore the file") from error
    return manifest


# A part of the names of tables and figures: no path.
_Name = Annotated[str, msgspec.Meta(pattern=r"\A\w[\w .+-]{0,99}\Z")]


class _Settings(msgspec.Struct):
    """Those settings of a corpus that are read again."""

    name: _Name
    datasets: list[_Name]
    planned_runs: Count
    epochs: Count
    images: Count | None
    low_threshold: Finite | dict[str, Finite] | None = None
    low_share: Finite | None = None
    network: str = ""


class _Data(msgspec.Struct):
    train_images: Count = 0
    classes: Annotated[int, msgspec.Meta(ge=2, le=2**31)] = 2


class _Manifest(msgspec.Struct):
    settings: _Settings
    data: dict[str, _Data]


def _upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    settings = manifest["settings"]
    if "learning_rates" in settings:
        settings.setdefault("init_scale", 1.0)  # the first grids used torch's initial weights
    if "fingerprint" not in manifest["data"]:
        return manifest
    dataset = settings["dataset"]
    runs = len(settings["learning_rates"]) * len(settings["dropouts"])
    settings |= {"datasets": [dataset], "planned_runs": runs, "band": list(BAND)}
    return manifest | {"data": {dataset: manifest["data"]}}


def read_record(file: Path) -> RunRecord:
    """Read one record file.

    Raises:
        CorpusError: It is missing, damaged or of another version; the message names the file.
    """
    try:
        record = RunRecord.from_dict(parse_json(_expanded(file)))
        if (name := _RECORD_NAME.fullmatch(file.name)) and int(name[1]) != record.index:
            raise ValueError(f"it is of run {record.index}")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CorpusError(
            f"the record {file.name!r} is missing or damaged ({type(error).__name__}: {error}): "
            "start the corpus again to train this run once more"
        ) from error
    if record.versions.get("record") != str(RECORD_VERSION):
        raise CorpusError(
            f"the record {file.name!r} has version {record.versions.get('record')}, "
            f"this package reads {RECORD_VERSION}"
        )
    return record


def _expanded(file: Path) -> bytes:
    """The content of a compressed file, no more than `LARGEST_FILE` bytes of it."""
    with gzip.GzipFile(fileobj=io.BytesIO(read_bytes(file))) as compressed:
        content = compressed.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise OSError(f"it has more than {LARGEST_FILE:,} bytes")
    return content


def write_atomically(target: Path, content: bytes, *, keep_existing: bool = False) -> None:
    """Write a file as `_files.write_atomically` does.

    Raises:
        CorpusError: The disk is full or the folder cannot be written.
    """
    try:
        _files.write_atomically(target, content, keep_existing=keep_existing)
    except OSError as error:
        raise CorpusError(
            f"cannot write {str(target)!r}: {error}; free some space or choose another folder"
        ) from error


def _check_whole(file: Path) -> None:
    """Raise CorpusError if a record file is cut or damaged, by gzip's checksum, without parsing it."""
    try:
        text = _expanded(file)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CorpusError(f"the record {file.name!r} is damaged ({type(error).__name__}: {error})") from error
    if not (text.startswith(b"{") and text.endswith(b"}")):
        raise CorpusError(f"the record {file.name!r} is damaged (no JSON object)")


def check_same(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CorpusError, naming the first difference, unless the two agree."""
    for name in sorted(set(found) | set(wanted)):
        if name not in _FREE_SETTINGS and found.get(name) != wanted.get(name):
            raise CorpusError(
                f"the corpus in {str(folder)!r} was started with {name}={_short(found.get(name))}, not "
                f"{_short(wanted.get(name))}: pass the same {name}, or another folder"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
