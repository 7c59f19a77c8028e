"""Images left out of training: near-duplicates of a test set, or whatever a file names."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from rsretrieval.data.datasets.base import DataError, Source
from rsretrieval.data.datasets.lookup import parts
from rsretrieval.data.datasets.rows import first_rows
from rsretrieval.data.datasets.selection import TrainingRows
from rsretrieval.data.datasets.splits import split_of
from rsretrieval.data.datasets.text_files import read_text

log = logging.getLogger(__name__)
NAMES = ("filename_a", "filename")
"""Columns of a CSV that name images; the first is that of ``rsretrieval data overlap``."""
OVERLAP = ("filename_a", "split_a", "filename_b", "split_b")
"""Columns by which a CSV is known to be of ``rsretrieval data overlap``."""
SPLITS = ("split_a", "split")
"""Columns of a CSV that say which split an image is of; only training images are left out."""


class ExcludeSource(TrainingRows):
    """A source without some of its training images.

    Args:
        source: whose images.
        listed: names of those to leave out.
        file: that names them, for messages.

    Raises:
        DataError: if none or all of the training images are named, or a name is ambiguous.
    """

    def __init__(self, source: Source, listed: Sequence[str], file: str) -> None:
        names = source.names("train")
        excluded = _named(names, listed, file)
        others = [name for name in listed if name not in excluded]
        chosen = set(excluded.values())
        kept = np.array([name not in chosen for name in names], bool)
        if not chosen:
            raise DataError(
                f"--data.exclude '{file}' names no training image ({len(listed)} names, such as '{listed[0]}'; the "
                f"split has such as '{names[0]}'): name images of this data set, which is to be the first (A) of "
                "`rsretrieval data overlap A B`"
            )
        if not kept.any():
            raise DataError(f"--data.exclude '{file}' names all {len(chosen)} training images: nothing would be left")
        log.info(
            "%s: %d of %d images are left out of training, as '%s' says",
            *(source.where("train"), len(chosen), len(set(first_rows(names))), file),
        )
        if others:
            log.warning(
                "--data.exclude '%s': %d of its %d names are not in the training split, such as %s",
                *(file, len(others), len(listed), others[:3]),
            )
        super().__init__(source, {"train": kept})
        digest = blake2b("\n".join(sorted(chosen)).encode(errors="surrogateescape"), digest_size=16).hexdigest()
        self._excluded = f"without {len(chosen)} images, {digest}"

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return self.source.where(split)

    def fingerprint(self) -> str:
        """See :class:`Source`."""
        return ", ".join(filter(None, (self.source.fingerprint(), self._excluded)))


def exclude(source: Source, file: str | None) -> Source:
    """The source without the training images that a file names; as it is for None, and where no duplicate was found.

    Raises:
        DataError: see :func:`read_names` and :class:`ExcludeSource`.
    """
    if file is None:
        return source
    listed = read_names(file)
    if listed:
        return ExcludeSource(source, listed, file)
    log.info("--data.exclude '%s' has no match among training images: nothing to leave out", file)
    return source


def read_names(file: str) -> list[str]:
    """The images that a file names, each once; none for a table of ``rsretrieval data overlap`` without such matches.

    Args:
        file: a CSV with a column ``filename_a`` (of ``rsretrieval data overlap``) or ``filename``, of which rows whose
            ``split_a`` or ``split`` is not training are left out; or a text with a name a line.

    Raises:
        DataError: if it cannot be read, or is no such table and names nothing.
    """
    path = Path(file).expanduser()
    text = read_text(path).removeprefix("\ufeff")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    header = next(csv.reader(lines[:1]), [])
    column = next((name for name in NAMES if name in header), None)
    if column is not None:
        names = _of_table(text, column, next((name for name in SPLITS if name in header), None), file)
    elif path.suffix.lower() in (".csv", ".tsv"):
        raise DataError(
            f"--data.exclude '{file}' has the columns {header[:10]}, and one of {list(NAMES)} is needed: rename one, "
            "or give a .txt with a name a line"
        )
    else:
        names = lines
    if not names and not set(OVERLAP) <= set(header):
        raise DataError(f"--data.exclude '{file}' names no image of a training split: leave it out, or write it again")
    return list(dict.fromkeys(names))


def _of_table(text: str, column: str, split: str | None, file: str) -> list[str]:
    rows = list(csv.DictReader(io.StringIO(text.lstrip(), newline="")))
    splits = [split_of(row[split]) if split and row[split] else "train" for row in rows]
    others = Counter(row[split] for row, of_row in zip(rows, splits, strict=True) if split and of_row != "train")
    if others:
        log.info("--data.exclude '%s': rows of other splits than training are not used: %s", file, dict(others))
    named = [row[column] for row, of_row in zip(rows, splits, strict=True) if of_row == "train"]
    return [name for name in named if name]


def _named(names: Sequence[str], listed: Sequence[str], file: str) -> dict[str, str]:
    """Listed name to the name in the split that it is, or that it is the last part of.

    Raises:
        DataError: if a name without a folder is that of images in several.
    """
    known = set(names)
    of_last: dict[str, set[str]] = defaultdict(set)
    for name in known:
        of_last[(parts(name) or (name,))[-1]].add(name)
    found: dict[str, str] = {}
    for name in listed:
        matches = {name} if name in known else of_last.get(name, set())
        if len(matches) > 1:
            raise DataError(
                f"--data.exclude '{file}': '{name}' is the name of {len(matches)} training images, such as "
                f"{sorted(matches)[:2]}: give it with its folder"
            )
        if matches:
            (found[name],) = matches
    return found
