"""Files below a folder by the names that tables give them, in constant time."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from rsretrieval.data.datasets.base import BrokenRowError
from rsretrieval.data.datasets.values import is_row_number

Parts = tuple[str, ...]
IMAGES = {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
"""Endings of image files."""


def walk(folder: Path, _above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every file below a folder, sorted within each, through links too; a link to a folder above is not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # not for this user to read: what is missing is named where it is asked for
        return
    above = _above | {os.path.realpath(folder)}
    for entry in entries:
        if not entry.is_dir():
            yield folder / entry.name
        elif not entry.is_symlink() or os.path.realpath(entry.path) not in above:
            yield from walk(folder / entry.name, above)


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file below a folder, or a folder on the way to it, is one that systems put there."""
    return any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)


def fingerprint(files: Iterable[Path]) -> str:
    """What changes when files are added, removed or written: of their names, sizes and times."""
    digest, count = blake2b(digest_size=16), 0
    for count, file in enumerate(files, 1):  # noqa: B007
        try:
            status = file.stat()
        except OSError:  # a link to nowhere
            continue
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return f"{count} files, {digest.hexdigest()}"


def parts(name: str) -> Parts:
    r"""Folders and name of a path as any system writes it.

    Example:
        >>> parts(r".\images\airport_0.jpg ")
        ('images', 'airport_0.jpg')
    """
    return tuple(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))


def _composed(path: Parts) -> Parts:
    return tuple(unicodedata.normalize("NFC", part.strip()) for part in path)


def _folded(path: Parts) -> Parts:
    return tuple(part.casefold() for part in _composed(path))


FORMS: tuple[Callable[[Parts], Parts], ...] = (lambda path: path, _composed, _folded)
"""Ways to compare names, the strictest first: as they are, in composed Unicode, without regard to case."""


def lone_last_parts(names: Iterable[str]) -> set[str]:
    """Last parts of names that no two of the names share, though their folders differ.

    Example:
        >>> sorted(lone_last_parts(["a/1.png", "b/1.png", "b/2.png", "b/2.png"]))
        ['2.png']
    """
    counts = Counter(path[-1] for path in {parts(name) for name in names} if path)
    return {last for last, count in counts.items() if count == 1}


class FileIndex:
    """The files below a folder.

    A name is looked for as a path from the table's folder, from this folder, as the end of a path, and by its last part
    alone; each as it is, in composed Unicode, and without regard to case.

    Args:
        folder: where the files are.
        files: below it; None to look for them.
    """

    def __init__(self, folder: Path, files: Iterable[Path] | None = None) -> None:
        self.folder, self.count = folder, 0
        self._ends: dict[Parts, list[tuple[Parts, Path]]] = {}
        for file in walk(folder) if files is None else files:
            path = parts(file.relative_to(folder).as_posix())
            self.count += 1
            for length in {1, min(2, len(path))}:
                self._ends.setdefault(_folded(path[-length:]), []).append((path, file))

    def find(self, name: str, table_folder: Path | None = None, lone: Container[str] = ()) -> Path:
        """The file of a name.

        Args:
            name: as a table writes it.
            table_folder: of the table, in this folder or below.
            lone: last parts of names for which a file in another folder than the written one will do.

        Raises:
            BrokenRowError: if there is none, or there are several, saying where.
        """
        if is_row_number(name):
            raise BrokenRowError("it has no file name")
        if re.match(r"[A-Za-z][\w+.-]+://", name):
            raise BrokenRowError(f"the image '{name}' is an address: fetch it, and give a file's name")
        try:
            if os.path.isabs(name) and os.path.isfile(name):
                return Path(name)
        except ValueError:  # a null character
            pass
        files = list(dict.fromkeys(self._matches(name, table_folder, lone)))
        if len(files) > 1:
            files = list({os.path.realpath(file): file for file in reversed(files)}.values())[::-1]
        if not files:
            raise BrokenRowError(f"there is no file '{name:.200}' below '{self.folder}', among {self.count} files")
        if len(files) > 1:
            places = " and ".join(f"'{file.relative_to(self.folder)}'" for file in files[:3])
            raise BrokenRowError(
                f"the image '{name}' is {len(files)} times below '{self.folder}', as {places}: one file of that name "
                "is needed, or the folder in the name"
            )
        return files[0]

    def _matches(self, name: str, table_folder: Path | None, lone: Container[str]) -> list[Path]:
        """The files of the first way to look for a name that gives any."""
        wanted = parts(name)
        if not wanted:
            return []
        own = parts(os.path.relpath(table_folder, self.folder)) if table_folder else ()
        for start in dict.fromkeys((own, ())):
            if files := self._same(_resolved(start + wanted), 2, len):
                return files
        end = wanted[-wanted[::-1].index("..") :] if ".." in wanted[:-1] else wanted
        if len(end) > 1 and (files := self._same(end, 2, lambda _: len(end))):
            return files
        return self._same(end[-1:], 1, lambda _: 1) if len(wanted) == 1 or wanted[-1] in lone else []

    def _same(self, path: Parts, indexed: int, compared: Callable[[Parts], int]) -> list[Path]:
        """Files whose last parts are those of a path: of ``compared(file's path)`` of them."""
        candidates = self._ends.get(_folded(path[-indexed:]), [])
        for form in FORMS:
            wanted = form(path)
            if files := [file for own, file in candidates if form(own[-compared(own) :]) == wanted]:
                return files
        return []


def _resolved(path: Parts) -> Parts:
    """The path without ``..``."""
    resolved: list[str] = []
    for part in path:
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
    return tuple(resolved)
