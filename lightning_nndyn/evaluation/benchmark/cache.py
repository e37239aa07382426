"""Which part of an evaluation each row of its results comes from: so the results are a cache themselves.

Beside `results.json` lies `results-parts.json`: for each part, in the order of the rows, its key and how many
rows it has; and the names of the tables that were made of them. Fingerprints of the corpora and the settings
are in a part's key: whoever has the results, from a repository for instance, computes what is new alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.tables import write_rows
from lightning_nndyn.evaluation.benchmark.tasks import Done

_ROWS, _PARTS = "results.json", "results-parts.json"


def write_parts(parts: Sequence[Done], tables: Sequence[str], folder: Path) -> None:
    """Write the rows of all parts, whose they are, and which tables are made of them.

    Raises:
        CorpusError: the folder cannot be written.
    """
    write_rows([row for part in parts for row in part.rows], folder / _ROWS)
    lines = [{"part": part.key, "rows": len(part.rows)} for part in parts]
    told = {"sha256": _digest(folder / _ROWS), "tables": sorted(tables), "parts": lines}
    text = json.dumps(told, indent=0)
    write_atomically(folder / _PARTS, f"{text}\n".encode())


def known_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """What `write_parts` wrote, as `Parts` knows it; nothing where the files are missing or do not fit."""
    try:
        told = _told(folder)
        rows = json.loads((folder / _ROWS).read_text())
        parts = told["parts"] if told["sha256"] == _digest(folder / _ROWS) else []
    except (OSError, ValueError, KeyError):
        return {}
    found: dict[str, dict[str, Any]] = {}
    begin = 0
    for part in parts:
        end = begin + part["rows"]
        found[part["part"]] = {"rows": rows[begin:end], "seconds": 0.0}
        begin = end
    return found


def known_tables(folder: Path) -> list[str]:
    """Names of the tables that were made of the rows; none where the file is missing or does not tell."""
    try:
        return [*_told(folder)["tables"]]
    except (OSError, ValueError, KeyError):
        return []


def _told(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / _PARTS).read_text())
    return told


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
