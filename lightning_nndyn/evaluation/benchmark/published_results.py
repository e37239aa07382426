"""The published results of an evaluation, which also tell what need not be computed again.

`results-parts.json` lies beside `results.json`. It holds the key and the number of rows of each part, in the
order of the rows, and the names of the tables that were made of them. The key of a part depends on its
settings and on the content of its corpora.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from lightning_nndyn._files import read_json
from lightning_nndyn.corpus.storage.folder import write_atomically
from lightning_nndyn.evaluation.benchmark.rows import write_rows
from lightning_nndyn.evaluation.benchmark.tasks import FinishedTask
from lightning_nndyn.evaluation.cache import Part

_ROWS, _PARTS = "results.json", "results-parts.json"


def write_results(finished: Sequence[FinishedTask], tables: Sequence[str], folder: Path) -> None:
    """Write the rows of all tasks, and which task each is from.

    Args:
        finished: tasks with their rows.
        tables: names of the tables that are made of the rows.
        folder: to write to.

    Raises:
        CorpusError: the folder cannot be written.
    """
    write_rows([row for task in finished for row in task.rows], folder / _ROWS)
    parts = [{"part": task.key, "rows": len(task.rows)} for task in finished]
    content = {"sha256": _digest(folder / _ROWS), "tables": sorted(tables), "parts": parts}
    write_atomically(folder / _PARTS, f"{json.dumps(content, indent=0)}\n".encode())


def published_parts(folder: Path) -> dict[str, Part]:
    """The parts in a folder by their keys; none where files are missing, or `results.json` was edited."""
    try:
        content = _content(folder)
        rows = read_json(folder / _ROWS)
        parts = content["parts"] if content["sha256"] == _digest(folder / _ROWS) else []
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
        return [*_content(folder)["tables"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(folder / _PARTS)
    return content


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
