"""The rows of a study on disk: one parquet file, which also tells what need not be computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn._files import LARGEST_FILE
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.errors import MissingExtraError

KnownRow = dict[str, Any]
"""A row of a file: `part` is the key of the task that it is from."""

NOTHING, ONE, BOTH = "nothing", "network or data", "network and data"
"""Values of `knows`, which says what was in the recorded runs that a method has learned from: neither the
family of the network nor the data set; perhaps one of the two; both. Users who begin a sweep rarely have the
last."""

_NOTES = b"nndyn_notes"


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], notes: Mapping[str, Any] | None = None) -> None:
    """Write rows; a file that holds the same is left as it is.

    Args:
        file: to write to.
        rows: at least one, all with the same fields.
        notes: what holds for all of them.

    Raises:
        MissingExtraError: pyarrow is not installed.
        CorpusError: the file cannot be written.
    """
    pyarrow, parquet = _pyarrow()
    rows, notes = [dict(row) for row in rows], dict(notes or {})
    if read_rows(file) == (rows, notes):
        return
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({_NOTES: json.dumps(notes)})
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd", compression_level=19)
    write_atomically(file, sink.getvalue().to_pybytes())


def read_rows(file: Path) -> tuple[list[KnownRow], dict[str, Any]]:
    """The rows of a file and its notes; none where there is no such file, or it is damaged.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    try:
        if file.stat().st_size > LARGEST_FILE:
            return [], {}
        table = parquet.read_table(file, partitioning=None)
        return table.to_pylist(), json.loads((table.schema.metadata or {})[_NOTES])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException):
        return [], {}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "corpus", "Files of results") from error
    return pyarrow, pyarrow.parquet
