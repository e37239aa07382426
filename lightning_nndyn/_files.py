"""Files that appear under their names whole or not at all, and locks between processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

TEMPORARY = ".tmp-"
"""Beginning of the names of temporary files: what a killed process leaves behind, and nobody reads."""


def write_atomically(path: Path, content: bytes, *, keep_existing: bool = False) -> None:
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


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Locks a file of no content without waiting, and yields whether this process may go on.

    It may not where another process holds the lock. The system frees the lock of a process that dies. Where
    the file system has no locks, everybody may go on.

    Args:
        path: of the lock file, which is made and may be left behind; its folder is made where there is none.
    """
    lock, free = FileLock(path), True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        free = False
    except (OSError, NotImplementedError):
        pass
    try:
        yield free
    finally:
        lock.release()
