"""Corpora on disk: folders while runs are trained, parquet files afterwards, and their conversion."""

import math
from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from lightning_nndyn._files import shipped_folder
from lightning_nndyn.corpus.storage.folder import CorpusFolder, write_atomically
from lightning_nndyn.corpus.storage.parquet import (
    horizons,
    parquet_bytes,
    read_manifest,
    read_parquet,
    thinned,
)
from lightning_nndyn.corpus.storage.record import RunRecord
from lightning_nndyn.errors import CorpusError

_IN_REPOSITORY = "lenet5-digits"


def corpus_manifest(path: Path | str) -> dict[str, Any]:
    """The settings and the data sets of a corpus, from its folder or from exported parquet files.

    Args:
        path: folder of a corpus, a parquet file, or a folder of parquet files that were exported together.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: It is in parquet files and pyarrow is not installed.
    """
    path = _located(path)
    if not (files := parquet_files(path)):
        return CorpusFolder(path).manifest()
    first, *others = map(read_manifest, files)
    for file, other in zip(files[1:], others, strict=True):
        if other != first:
            raise CorpusError(f"{file} is of another corpus than {files[0].name}: give them one by one")
    return first


def load_corpus(path: Path | str, *, raw: bool = True) -> list[RunRecord]:
    """The records of a corpus, from its folder or from exported parquet files, by index.

    Args:
        path: see `corpus_manifest`.
        raw: Whether the numbers per layer (`Snapshot.layers`, `RunRecord.weights`) of parquet files are read.
            Without them most of the time and memory is saved.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: It is in parquet files and pyarrow is not installed.
    """
    path = _located(path)
    if not (files := parquet_files(path)):
        corpus = CorpusFolder(path)
        corpus.manifest()
        return corpus.records()
    corpus_manifest(path)
    records = [record for file in files for record in read_parquet(file, raw=raw)]
    return sorted(records, key=lambda record: record.index)


def parquet_files(path: Path) -> list[Path]:
    """The parquet files that a path stands for; none for the folder of a corpus."""
    if path.is_file():
        return [path]
    return [] if CorpusFolder(path).manifest_file.exists() else sorted(path.glob("*.parquet"))


def _located(path: Path | str) -> Path:
    """The path of a corpus; in a clone of the repository the name of the demo's stands for its file."""
    path = Path(path)
    if str(path) != path.name or path.exists():
        return path
    shipped = shipped_folder("pretrained_predictors") / f"{path.name}.parquet"
    if not shipped.is_file() and path.name == _IN_REPOSITORY:
        raise CorpusError(
            f"the corpus {path.name!r} is not part of the installed package. The repository has it, as "
            f"pretrained_predictors/{shipped.name}: give that file, or train it: "
            f"nndyn corpus train {path.name} {path.name}"
        )
    return shipped if shipped.is_file() else path


def export_parquet(folder: Path | str, file: Path | str, *, max_mb: float | None = None) -> float:
    """Write all whole records of a corpus folder into one parquet file.

    Args:
        folder: The corpus.
        file: To write; replaced whole if it is there.
        max_mb: Largest size in megabytes (10^6 bytes). Numbers per layer are left out until the file is small
            enough, those of late snapshots first. None for no limit.

    Returns:
        The epoch up to which the file has numbers per layer; infinite if nothing was left out.

    Raises:
        CorpusError: There is no corpus or no record, the file cannot be written, or it would be larger than
            `max_mb` whatever is left out.
        MissingExtraError: pyarrow is not installed.
    """
    corpus = CorpusFolder(folder)
    content, horizon = _within(corpus.records(), corpus.manifest(), max_mb)
    write_atomically(Path(file), content)
    return horizon


def export_parts(folder: Path | str, file: Path | str, *, max_mb: float) -> list[Path]:
    """Write all whole records into several parquet files, with all numbers per layer.

    Args:
        folder: The corpus.
        file: Pattern of the names: `sweeps.parquet` gives `sweeps-000.parquet`, `sweeps-001.parquet`, ...
            Further files of an earlier export are deleted.
        max_mb: Largest size of each file in megabytes (10^6 bytes). A sweep is never split.

    Returns:
        The files, by index of their runs.

    Raises:
        CorpusError: There is no corpus or no record, a file cannot be written, or one sweep (or run) alone is
            larger than `max_mb`.
        MissingExtraError: pyarrow is not installed.
    """
    corpus, file = CorpusFolder(folder), Path(file)
    contents = _parts(corpus.records(), corpus.manifest(), 1e6 * max_mb)
    files = [file.with_name(f"{file.stem}-{part:03d}{file.suffix}") for part in range(len(contents))]
    for part, content in zip(files, contents, strict=True):
        write_atomically(part, content)
    for old in set(file.parent.glob(f"{file.stem}-[0-9][0-9][0-9]{file.suffix}")) - set(files):
        old.unlink()
    return files


def _parts(records: Sequence[RunRecord], manifest: dict[str, Any], limit: float) -> list[bytes]:
    """Contents of the files: one, or, if that is too large, those of each half of the records."""
    content = parquet_bytes(records, manifest)
    if len(content) <= limit:
        return [content]
    groups = [list(group) for _, group in groupby(records, key=_kept_together)]
    if len(groups) < 2:
        raise CorpusError(
            f"{len(records)} runs take {len(content) / 1e6:.1f} MB and are kept together: allow more than "
            f"max_mb={limit / 1e6:g}"
        )
    halves = groups[: len(groups) // 2], groups[len(groups) // 2 :]
    return [part for half in halves for part in _parts(list(chain.from_iterable(half)), manifest, limit)]


def _kept_together(record: RunRecord) -> tuple[int, int]:
    """A key that is equal for the runs of one sweep."""
    sweep = record.config.get("sweep")
    return (0, record.index) if sweep is None else (1, sweep)


def _within(
    records: Sequence[RunRecord], manifest: dict[str, Any], max_mb: float | None
) -> tuple[bytes, float]:
    content = parquet_bytes(records, manifest)
    limit = math.inf if max_mb is None else 1e6 * max_mb
    if len(content) <= limit:
        return content, math.inf
    bare = len(parquet_bytes([thinned(record, -1) for record in records], manifest))
    for horizon in horizons(records, len(content), bare, limit):
        content = parquet_bytes([thinned(record, horizon) for record in records], manifest)
        if len(content) <= limit:
            return content, horizon
    raise CorpusError(
        f"{len(records)} runs do not fit into max_mb={max_mb:g}: without numbers per layer they take "
        f"{bare / 1e6:.1f} MB, and those of the first epoch are kept; allow more, or split the file"
    )


def import_parquet(file: Path | str, folder: Path | str) -> int:
    """Put the records of parquet files into a corpus folder, new or of the same settings; return how many.

    Whole records that the folder holds already stay as they are, except that a record without failure
    replaces one of a failed run. So a corpus can be continued on another machine, or be made by several.

    Raises:
        CorpusError: The file cannot be read, or the folder has other settings or data or cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    manifest, records = corpus_manifest(file), load_corpus(file)
    corpus = CorpusFolder(folder)
    corpus.open(manifest["settings"], manifest["data"])
    kept, _ = corpus.complete()
    kept -= corpus.failed(kept)
    fresh = [
        record
        for record in records
        if record.index not in kept and not (record.failed and corpus.record_file(record.index).exists())
    ]
    for record in fresh:
        corpus.write(record)
    return len(fresh)
