"""Where the indexes of a kind lie: one that is named by its report, and one that is being built."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from rsretrieval.archive.index.saved import IndexReport, read_report
from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import UNWRITABLE

log = logging.getLogger(__name__)
BUILD, LOCK = "build-", ".lock"
"""Beginning of the names of folders with an index, or with what is left of one; a file of the archive."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to an archive, as `rsretrieval embed` does.

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


@contextmanager
def written_whole(place: Path) -> Iterator[Path]:
    """A fresh folder; in the end there is the one that the report names, and no other.

    Args:
        place: folder of the kind.

    Raises:
        OSError: naming it, where the disk is full or may not be written to.
    """
    _clean(place)
    fresh = place / f"{BUILD}{uuid4().hex[:12]}"
    try:
        fresh.mkdir(parents=True)
        yield fresh
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}; what was there is as it was", str(place)) from error
    finally:
        _clean(place)


def latest(place: Path) -> IndexReport | None:
    """What is said of the index that is there; None if there is none, or nothing that can be read."""
    try:
        return read_report(place)
    except ArchiveError as error:
        log.warning("%s", error)
        return None


def _clean(place: Path) -> None:
    try:
        report = read_report(place)
    except ArchiveError:
        report = None
    for folder in place.glob(f"{BUILD}*"):
        if report is None or folder.name != report.folder:
            shutil.rmtree(folder, ignore_errors=True)
