"""RET-3 of RemoteCLIP (Liu et al., IEEE TGRS 62, 2024): RSICD, RSITMD and UCM-Captions, read together or by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rsretrieval.data.datasets.base import BrokenRowError, Columns, DataError, MissingSplitError, Record, Source
from rsretrieval.data.datasets.layouts import read_rows
from rsretrieval.data.datasets.lookup import FileIndex, lone_last_parts, parts
from rsretrieval.data.datasets.ret3_files import ARCHIVES, TESTS, TRAIN, Ret3Files
from rsretrieval.data.datasets.rows import merge
from rsretrieval.data.datasets.values import Place, record

log = logging.getLogger(__name__)


class Images(NamedTuple):
    """The rows of a split, each an image with all its captions.

    Attributes:
        records: of the images.
        places: of each, the table and the place in it, for messages.
        lone: last parts of the names that no two share, so that a file in another folder will do.
    """

    records: list[Record]
    places: list[str]
    lone: set[str]


class Ret3Source(Source):
    """One of the sets of RET-3, or all of it.

    ``train`` are the rows of the common table whose images' names begin with a set's; ``test`` are the sets' own
    tables. There is no validation split.

    Args:
        files: where the tables and images are.
        sets: some of :data:`SETS`.
        columns: names of a table's columns; the defaults know those of the layout.
    """

    def __init__(self, files: Ret3Files, sets: Sequence[str], columns: Columns) -> None:
        self.files, self.sets, self.columns, self.revision = files, tuple(sets), columns, files.revision
        self._splits: dict[str, Images] = {}
        self._indexes: dict[str, FileIndex] = {}

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return f"{self.files.name}, {' and '.join(self.sets)}, split '{split}'"

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        return self._split(split).records

    def blocks(self, split: str) -> list[int]:
        """Each row alone."""
        return [1] * len(self._split(split).records)

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`.

        Raises:
            BrokenRowError: if not exactly one file has the image's name.
        """
        images, index = self._split(split), self._index(split)
        try:
            return [index.find(images.records[block].filename, None, images.lone)]
        except BrokenRowError as error:
            raise BrokenRowError(f"{images.places[block]}: {error}") from error

    def fetch(self, split: str) -> None:
        """See :class:`Source`."""
        if split in ARCHIVES:
            self._index(split)

    def fingerprint(self) -> str | None:
        """See :class:`Source`."""
        return self.files.fingerprint()

    def _index(self, split: str) -> FileIndex:
        if split not in self._indexes:
            self._indexes[split] = self.files.images(split, self._split(split).records[0].filename)
        return self._indexes[split]

    def _split(self, split: str) -> Images:
        if split not in ARCHIVES:
            raise MissingSplitError.of(f"{self.files.name}, {' and '.join(self.sets)},", split, list(ARCHIVES))
        if split not in self._splits:
            self._splits[split] = self._train() if split == "train" else self._test()
        return self._splits[split]

    def _train(self) -> Images:
        """The rows of the sets in the common table.

        Raises:
            DataError: if a set has none.
        """
        images = self._read(TRAIN)
        own = [_set_of(row.filename) for row in images.records]
        lacking = [name for name in self.sets if name not in own]
        if lacking:
            raise DataError(
                f"{self.files.name}, '{TRAIN}', names no image of {lacking}: their names begin with "
                f"{[f'{name}_' for name in lacking]}, and those of the table with {dict(Counter(own).most_common(5))}"
            )
        chosen = [row for row, name in enumerate(own) if name in self.sets]
        records, places = [images.records[row] for row in chosen], [images.places[row] for row in chosen]
        log.info(
            "%s: %d of %d images; RET-3's training part is de-duplicated against the tests of the three sets, as its "
            "authors say",
            *(self.where("train"), len(records), len(own)),
        )
        return Images(records, places, lone_last_parts(row.filename for row in records))

    def _test(self) -> Images:
        """The sets' own tables, one after the other.

        Raises:
            DataError: if two of them name the same image.
        """
        tables = [self._read(TESTS[name]) for name in self.sets]
        records = [row for table in tables for row in table.records]
        names = Counter(row.filename for row in records)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise DataError(f"{self.where('test')}: {twice[:3]} are in the tables of two sets: test each by its name")
        if len(tables) > 1:
            sizes = {name: len(table.records) for name, table in zip(self.sets, tables, strict=True)}
            log.info("%s: the tests of the sets together, %s images", self.where("test"), sizes)
        places = [place for table in tables for place in table.places]
        return Images(records, places, lone_last_parts(names))

    def _read(self, table: str) -> Images:
        """The images of a table, each with the captions of all its rows."""
        file = self.files.table(table)
        rows = read_rows(file, self.columns)
        places = [f"{self.files.name}, '{table}', {row.where}" for row in rows]
        named = (Place(f"{self.files.name}, '{table}'", row.where, row.keys) for row in rows)
        each = [record(row.values, number, place) for number, (row, place) in enumerate(zip(rows, named, strict=True))]
        records, others = merge(each, f"{self.files.name}, '{table}'")
        first = [row for row in range(len(records)) if row not in others]
        return Images([records[row] for row in first], [places[row] for row in first], set())


def _set_of(name: str) -> str:
    """The set that an image's name begins with, or what it begins with."""
    return (parts(name) or ("",))[-1].partition("_")[0].casefold()
