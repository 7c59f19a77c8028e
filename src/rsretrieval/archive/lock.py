"""An archive for one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rsretrieval.embeddings import ArchiveError

LOCK = ".lock"
"""A file of the archive."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to an archive.

    Raises:
        ArchiveError: if one does.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArchiveError(f"another process writes to '{folder}': wait until it ends") from error
    try:
        yield
    finally:
        lock.release()
