"""Corpora as others see them: folders or parquet files, read alike, and made from each other."""

from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.parquet import read_manifest, read_parquet, write_parquet
from lightning_nndyn.corpus.record import RunRecord
from lightning_nndyn.corpus.store import CorpusFolder


def corpus_manifest(path: Path | str) -> dict[str, Any]:
    """The settings and the data of a corpus, from its folder or from an exported parquet file.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    return read_manifest(path) if path.is_file() else CorpusFolder(path).manifest()


def load_corpus(path: Path | str, *, raw: bool = True) -> list[RunRecord]:
    """The records of a corpus, from its folder or from an exported parquet file, by index.

    Without `raw`, the material per layer (`Snapshot.layers`, `RunRecord.weights`) of a parquet file is left
    empty, which saves most of the time and memory.

    Raises:
        CorpusError: There is no corpus, or it cannot be read.
        MissingExtraError: The path is a parquet file and pyarrow is not installed.
    """
    path = Path(path)
    if path.is_file():
        return read_parquet(path, raw=raw)
    corpus = CorpusFolder(path)
    corpus.manifest()
    return corpus.records()


def export_parquet(folder: Path | str, file: Path | str) -> None:
    """Write all whole records of a corpus folder into one parquet file.

    Raises:
        CorpusError: There is no corpus or no record, or the file cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    corpus = CorpusFolder(folder)
    write_parquet(corpus.records(), corpus.manifest(), Path(file))


def import_parquet(file: Path | str, folder: Path | str) -> int:
    """Put the records of a parquet file into a corpus folder, new or of the same settings, and count them.

    Whole records that the folder holds already stay as they are; a failed one gives way to one that did not
    fail. So a corpus can be carried to another machine and gone on with there, or made by several.

    Raises:
        CorpusError: The file cannot be read, or the folder has other settings or data or cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    manifest = read_manifest(Path(file))
    corpus = CorpusFolder(folder)
    corpus.open(manifest["settings"], manifest["data"])
    kept, _ = corpus.complete()
    kept -= corpus.failed(kept)
    fresh = [
        record
        for record in read_parquet(Path(file))
        if record.index not in kept and not (record.failed and corpus.record_file(record.index).exists())
    ]
    for record in fresh:
        corpus.write(record)
    return len(fresh)
