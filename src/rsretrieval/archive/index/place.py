"""Where the indexes of a kind lie: one that is named by its report, and one that is being built."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rsretrieval.archive.index.saved import IndexReport, read_report
from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import UNWRITABLE

log = logging.getLogger(__name__)
BUILD = "build-"
"""Beginning of the names of folders with an index, or with what is left of one."""


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
