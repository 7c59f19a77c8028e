"""Folders of images beside their authors' tables of captions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rsretrieval.data.datasets.base import BrokenRowError, Columns, DataError, MissingSplitError, Record, Source
from rsretrieval.data.datasets.layouts import Row, read_rows
from rsretrieval.data.datasets.lookup import IMAGES, FileIndex, fingerprint, is_hidden, lone_last_parts, walk
from rsretrieval.data.datasets.rows import merge
from rsretrieval.data.datasets.splits import SplitFile, one_data_set, refuse_several, split_of
from rsretrieval.data.datasets.text_files import SUFFIXES, NoTableError
from rsretrieval.data.datasets.values import Place, record

log = logging.getLogger(__name__)


class Image(NamedTuple):
    """A row, and where its table is.

    Attributes:
        record: its text side.
        table: the file that it is from.
        where: in that file.
    """

    record: Record
    table: Path
    where: str


class FolderSource(Source):
    """Images and tables of their captions (JSON, JSON lines, CSV, TSV), at any depth.

    The layouts are those of :mod:`rsretrieval.data.datasets.layouts`. Which split a row is of says its column, or else
    the name of its file (``NAME_train.json``) or of a folder; where nothing says it, all rows are ``train``.

    Args:
        path: the folder, or one of the tables: then it is read, with those of its other splits, and the images are
            looked for beside and below it.
        columns: keys of the rows; where they are the defaults, those of the field's data sets are known.

    Raises:
        DataError: if there is no table, or there are several for one split.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        place = Path(path).expanduser()
        if not path or not place.exists():
            raise DataError(
                f"there is no folder '{path}': give the folder of the images and their table as --data.path"
            )
        self.folder = place if place.is_dir() else place.parent
        self._files = list(walk(self.folder))
        table_files = [f for f in self._files if f.suffix.lower() in SUFFIXES and not is_hidden(f, self.folder)]
        chosen = None if place.is_dir() else place
        if chosen and chosen not in table_files:
            raise DataError(
                f"'{path}' is no table: give a file that ends in {', '.join(sorted(SUFFIXES))}, or a folder"
            )
        tables = one_data_set([SplitFile.of(file, self.folder) for file in table_files], chosen)
        self._left_out: list[str] = []
        rows = {table: of_table for table in tables if (of_table := self._read(table.file, columns))}
        if not rows:
            raise DataError(self._nothing(path))
        for reason in self._left_out[:5]:
            log.warning("left out (%d files in all): %s", len(self._left_out), reason)
        self._tables = [table.file for table in rows]
        self._images: dict[str, list[Image]] = {}
        self._unknown: Counter[str] = Counter()
        for table, of_table in rows.items():
            self._add(table, of_table)
        if self._unknown:
            log.warning("'%s': rows of splits of unknown names are not read: %s", path, dict(self._unknown))
        self._index = FileIndex(self.folder, self._files)
        if chosen and not any(file.suffix.lower() in IMAGES for file in self._files):
            self._index = FileIndex(self.folder.absolute().parent)  # a folder of tables beside those of images
        # Two images whose names differ in their folders alone are not to become one file.
        self._lone = lone_last_parts(i.record.filename for images in self._images.values() for i in images)

    def _read(self, file: Path, columns: Columns) -> list[Row]:
        """The rows of a file; none, and a reason in ``_left_out``, for one that is no table or cannot be read."""
        try:
            return read_rows(file, columns)
        except NoTableError as error:
            self._left_out.append(str(error))
        return []

    def _nothing(self, path: str) -> str:
        """That there is no table, and what there is."""
        if self._left_out:
            return f"'{path}' holds no table of images and captions: {'; '.join(self._left_out[:4])}"
        endings = Counter(file.suffix.lower() for file in self._files)
        source = "parquet" if endings[".parquet"] or endings[".arrow"] else "webdataset" if endings[".tar"] else None
        return (
            f"'{path}' holds no table of images and captions: no file that ends in {', '.join(sorted(SUFFIXES))} among "
            f"{len(self._files)} files ({dict(endings.most_common(5))}): add one with the images' names and captions"
            f"{f', or read these files by --data.source {source}' if source else ''}"
        )

    def _add(self, table: SplitFile, rows: list[Row]) -> None:
        """Add a table's rows to their splits.

        Raises:
            DataError: if a split has rows of another table already, or some rows do not say their split.
        """
        images: dict[str, list[Image]] = {}
        says = any(row.split is not None for row in rows)
        if not says and table.split is None:
            log.info("'%s' does not say which rows are of which split: all %d are of 'train'", table.file, len(rows))
        for row in rows:
            if says and row.split is None:
                raise DataError(f"'{table.file}', {row.where}, has no 'split', which other rows have: add it")
            written = str(row.split) if says else table.split or "train"
            split = split_of(written)
            if split is None:
                self._unknown[written] += 1
                continue
            of_split = images.setdefault(split, [])
            place = Place(f"'{table.file}'", row.where, row.keys)
            of_split.append(Image(record(row.values, len(of_split), place), table.file, row.where))
        for split, of_split in images.items():
            if split in self._images:
                raise refuse_several(str(self.folder), [self._images[split][0].table, table.file], split)
            self._images[split] = _one_row_each(of_split, f"'{table.file}', split '{split}'")

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return f"'{self._split(split)[0].table}', split '{split}'"

    def _split(self, split: str) -> list[Image]:
        if split not in self._images:
            notes = f"left out was {'; '.join(self._left_out[:4])}" if self._left_out else ""
            where = f"'{self._tables[0] if len(self._tables) == 1 else self.folder}'"
            raise MissingSplitError.of(where, split, [*self._images, *self._unknown], notes=notes)
        return self._images[split]

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        return [image.record for image in self._split(split)]

    def blocks(self, split: str) -> list[int]:
        """Each row alone."""
        return [1] * len(self._split(split))

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`.

        Raises:
            BrokenRowError: if not exactly one file has the image's name.
        """
        image = self._split(split)[block]
        try:
            return [self._index.find(image.record.filename, image.table.parent, self._lone)]
        except BrokenRowError as error:
            raise BrokenRowError(f"'{image.table}', {image.where}: {error}") from error

    def fingerprint(self) -> str:
        """See :class:`Source`."""
        return fingerprint(self._files)


def _one_row_each(images: list[Image], where: str) -> list[Image]:
    """The images of a split, each with the captions of all its rows."""
    records, others = merge([image.record for image in images], where)
    if others:
        log.info("%s: %d rows are of %d images", where, len(records), len(records) - len(others))
    return [
        image._replace(record=record)
        for row, (image, record) in enumerate(zip(images, records, strict=True))
        if row not in others
    ]
