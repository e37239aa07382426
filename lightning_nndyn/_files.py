"""Files that appear under their names whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

TEMPORARY = ".tmp-"
"""Beginning of the names of temporary files: what a killed process leaves behind, and nobody reads."""


def write_whole(path: Path, content: bytes, *, keep_existing: bool = False) -> None:
    """Writes a file through a temporary one beside it, synced to disk before it takes the name.

    Whoever reads meanwhile sees the older file or the new one. Its folder is made where there is none.

    Args:
        path: of the file.
        content: of the file.
        keep_existing: whether a file that is there by then is left as it is.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the older file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")  # processes of other machines write here too
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not (keep_existing and path.exists()):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
