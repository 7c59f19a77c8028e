"""Where the files of RET-3 are: on the hub, or in a folder.

The layout, by programs that read it: ``csv_file/train/Ret-3_train.csv`` and ``csv_file/test/NAME_test.csv``
(tab-separated ``title`` and ``filename``, one caption a row) beside ``data/Ret-3_train.zip`` and
``data/Ret-3_test.zip``, whose images' names begin with that of their set (``rsitmd_boat_0.png``).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from rsretrieval.data.datasets.archive import fetch_archive, fetch_file, locked, place_of, unpack
from rsretrieval.data.datasets.base import BrokenRowError, DataError
from rsretrieval.data.datasets.lookup import FileIndex, fingerprint, parts, walk

log = logging.getLogger(__name__)
SETS = ("rsicd", "rsitmd", "ucm")
"""The data sets; an image's name begins with that of its set."""
TRAIN = "csv_file/train/Ret-3_train.csv"
TESTS = {name: f"csv_file/test/{name}_test.csv" for name in SETS}
ARCHIVES = {"train": "data/Ret-3_train.zip", "test": "data/Ret-3_test.zip"}


class Ret3Files(Protocol):
    """Where the tables and images are."""

    name: str
    revision: str | None

    def table(self, file: str) -> Path:
        """A table, by its path in the layout."""

    def images(self, split: str, example: str) -> FileIndex:
        """The images of a split, of which ``example`` is one; fetched and unpacked where they are not there yet."""

    def fingerprint(self) -> str | None:
        """See :class:`Source`."""


class OnHub:
    """The layout on the hub: tables are fetched where they are read, an archive where an image of it is.

    Args:
        repository: ``OWNER/NAME``.
        table: that settles the revision.
        revision: commit, tag or branch; None for the newest.
    """

    def __init__(self, repository: str, table: str, revision: str | None) -> None:
        self.repository, self.name = repository, f"the hub's '{repository}'"
        self.revision: str | None = fetch_file(f"{repository}/{table}", revision).revision

    def table(self, file: str) -> Path:
        """See :class:`Ret3Files`."""
        return fetch_file(f"{self.repository}/{file}", self.revision).path

    def images(self, split: str, example: str) -> FileIndex:
        """See :class:`Ret3Files`."""
        return FileIndex(fetch_archive(f"{self.repository}/{ARCHIVES[split]}", self.revision).folder)

    def fingerprint(self) -> str | None:
        """None: the revision says it."""
        return None


class InFolder:
    """The layout in a folder, at any depth; archives are unpacked to the cache where their images are not there.

    Args:
        folder: to look in.
    """

    revision: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self._files = folder, f"'{folder}'", list(walk(folder))

    def _find(self, file: str) -> Path | None:
        """The file that ends in that path, or of that name alone, whatever the case."""
        for length in (2, 1):
            end = [part.casefold() for part in parts(file)[-length:]]
            for path in self._files:
                if [part.casefold() for part in parts(path.as_posix())[-length:]] == end:
                    return path
        return None

    def is_layout(self) -> bool:
        """Whether the folder holds RET-3: a table of it by its path, or an archive of it."""
        tables = {parts(file.casefold())[-3:] for file in (TRAIN, *TESTS.values())}
        ends = {parts(path.as_posix().casefold())[-3:] for path in self._files}
        return bool(tables & ends) or any(self._find(file) for file in (TRAIN, *ARCHIVES.values()))

    def table(self, file: str) -> Path:
        """See :class:`Ret3Files`."""
        path = self._find(file)
        if path is None:
            raise DataError(f"{self.name} has no '{parts(file)[-1]}': fetch that table of RET-3 too, as '{file}'")
        return path

    def images(self, split: str, example: str) -> FileIndex:
        """See :class:`Ret3Files`."""
        index, archive = FileIndex(self.folder, self._files), self._find(ARCHIVES[split])
        if archive is None or _has(index, example):
            return index
        status = archive.stat()
        target = place_of(f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}")
        with locked(target):
            if not target.is_dir():
                log.info("'%s' is unpacked to '%s'", archive, target)
                unpack(archive, target, f"'{archive}'")
        return FileIndex(target)

    def fingerprint(self) -> str | None:
        """See :class:`Source`."""
        return fingerprint(self._files)


def _has(index: FileIndex, name: str) -> bool:
    try:
        index.find(name, None, {parts(name)[-1]})
    except (BrokenRowError, IndexError):
        return False
    return True
