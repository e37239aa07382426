"""Atomic writes, and locks between processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

TEMPORARY = ".tmp-"
"""Prefix of temporary files. A killed process leaves them behind; they are never read."""


def write_atomically(path: Path, content: bytes, *, keep_existing: bool = False) -> None:
    """Writes a temporary file beside the path, syncs it to disk and renames it.

    So a reader sees the old file or the new one, never a part. A missing folder is created.

    Args:
        path: path of the file.
        content: its content.
        keep_existing: whether to keep a file that exists when the new one is complete.

    Raises:
        OSError: if the disk is full or the folder cannot be written; an old file is unchanged then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name is random: processes of other machines may write here, too.
    part = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
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
    """Locks an empty file without waiting, and yields whether this process may go on.

    It may not if another process holds the lock. The system releases the lock of a process that dies. On a
    file system without locks every process may go on.

    Args:
        path: path of the lock file, which is created and may be left behind; so is a missing folder.
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
