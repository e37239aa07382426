"""The published results of an evaluation, which also tell what need not be computed again.

`results-parts.json` lies beside `results.json`. It holds the key and the number of rows of each part, in the
order of the rows, and the names of the tables that were made of them. The key of a part depends on its
settings and on the content of its corpora.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from pathlib import Path

from lightning_nndyn._files import read_json
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.scores import Row
from lightning_nndyn.evaluation.cache import Part

_ROWS, _PARTS = "results.json", "results-parts.json"


def write_results(rows: Mapping[str, Sequence[Row]], tables: Sequence[str], folder: Path) -> None:
    """Write the rows of all parts as a JSON list, one row per line, and which part each is from.

    Args:
        rows: by the keys of their parts.
        tables: names of the tables that are made of the rows.
        folder: to write to.

    Raises:
        CorpusError: the folder cannot be written.
    """
    lines = ",\n".join(json.dumps(asdict(row)) for part in rows.values() for row in part)
    content = f"[\n{lines}\n]\n".encode()
    write_atomically(folder / _ROWS, content)
    parts = [{"part": key, "rows": len(part)} for key, part in rows.items()]
    ledger = {"sha256": _digest(content), "tables": sorted(tables), "parts": parts}
    write_atomically(folder / _PARTS, f"{json.dumps(ledger, indent=0)}\n".encode())


def published_parts(folder: Path) -> dict[str, Part]:
    """The parts in a folder by their keys; none where files are missing, or `results.json` was edited."""
    try:
        ledger, rows = read_json(folder / _PARTS), read_json(folder / _ROWS)
        same = ledger["sha256"] == _digest((folder / _ROWS).read_bytes())
        parts = ledger["parts"] if same else []
        bounds = pairwise(accumulate((part["rows"] for part in parts), initial=0))
        return {
            part["part"]: {"rows": rows[begin:end], "seconds": 0.0}
            for part, (begin, end) in zip(parts, bounds, strict=True)
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def published_tables(folder: Path) -> list[str]:
    """The names of the tables that were made of a folder's results; none where they are not known."""
    try:
        return [*read_json(folder / _PARTS)["tables"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
