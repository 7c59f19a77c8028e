"""Tables in local files: parquet, arrow, what ``save_to_disk`` wrote, tars of webdataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import pyarrow as pa

from rsretrieval.data.datasets.arrow_columns import (
    MappedColumn,
    check_images,
    names_of_images,
    plain_column,
    refuse_different_images,
    value_of,
)
from rsretrieval.data.datasets.base import (
    BrokenRowError,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
    check_columns,
)
from rsretrieval.data.datasets.lookup import FileIndex, fingerprint, lone_last_parts, walk
from rsretrieval.data.datasets.splits import split_of
from rsretrieval.data.datasets.table_files import ENDINGS, find_tables, load, texts_of_lines, webdataset_columns
from rsretrieval.data.datasets.text_columns import TextColumns, plain_columns
from rsretrieval.data.datasets.values import Place, class_name, record

log = logging.getLogger(__name__)


@dataclass
class SplitTable:
    """The table of a split.

    Attributes:
        table: of :mod:`datasets`; it may hold rows of other splits.
        rows: of the table that are the split's.
        where: what it is, for messages.
        columns: names of its columns.
    """

    table: Any
    rows: Sequence[int]
    where: str
    columns: Columns

    def column(self, name: str) -> Any:  # noqa: ANN401 - pyarrow is untyped
        """A column, as the file has it."""
        values = self.table.data.column(name)
        return texts_of_lines(values) if name == "txt" and "__key__" in self.table.column_names else values


class ParquetSource(Source):
    """A folder of ``{train,valid,test}-*.parquet``, or of other tables: see :func:`find_tables`.

    Args:
        path: the folder, or one of the files.
        columns: names of the columns.
        kind: ``parquet`` or ``webdataset``.

    Raises:
        DataError: if there is no such folder, or no table in it.
    """

    def __init__(self, path: str, columns: Columns, kind: str = "parquet") -> None:
        self.columns, self.kind = columns, kind
        self.folder, self._files, self._others = find_tables(path, kind)
        self._tables: dict[str | None, SplitTable] = {}
        self._names_of_splits: list[str] = []
        self._records: dict[str, list[Record]] = {}
        self._images: dict[str, MappedColumn | list[Any]] = {}
        self._index: FileIndex | None = None
        self._lone: dict[str, set[str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes that are not forked map the files themselves."""
        return {**self.__dict__, "_images": {}}

    def _table(self, split: str) -> SplitTable:
        if split not in self._tables:
            self._tables[split] = self._load(split)
        return self._tables[split]

    def _load(self, split: str) -> SplitTable:
        if None in self._files:
            return self._by_column(split)
        if split not in self._files:
            raise self._missing(split, [name for name in self._files if name])
        return self._open(split)

    def _open(self, split: str | None) -> SplitTable:
        """The table of the files of a split, or of those that say none."""
        files = self._files[split]
        table = load(files)
        if table._indices is not None:
            table = table.flatten_indices()
        where = f"'{files[0]}'" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
        columns = webdataset_columns(table.column_names, self.columns) if self.kind == "webdataset" else self.columns
        check_columns(table.column_names, columns, where)
        check_images(table.data.column(columns.image).type, columns.image, where)
        return SplitTable(table, range(len(table)), where, columns)

    def _by_column(self, split: str) -> SplitTable:
        """The rows of a split of files that say no split: by the column ``split``, or else all are training."""
        if None not in self._tables:
            self._tables[None] = self._open(None)
            self._names_of_splits = self._read_names_of_splits(self._tables[None])
        whole, names = self._tables[None], self._names_of_splits
        if not names and split == "train":
            return whole
        rows = [row for row, name in enumerate(names) if split_of(name) == split]
        if not rows:
            raise self._missing(split, list(dict.fromkeys(names)) or ["train"])
        return replace(whole, rows=rows)

    def _read_names_of_splits(self, table: SplitTable) -> list[str]:
        """What the column ``split`` says of each row; nothing where there is none."""
        if "split" not in table.table.column_names:
            log.info("%s says no split: all rows are of 'train'", table.where)
            return []
        column = plain_column(table.column("split"), "split", table.where)
        if None in column:
            row = column.index(None)
            raise DataError(
                f"{table.where}, row {row}, has no 'split', which other rows have: add it, or remove the row"
            )
        names = [str(name) for name in column]
        unknown = Counter(name for name in names if split_of(name) is None)
        if unknown:
            log.warning("%s: rows of splits of unknown names are not read: %s", table.where, dict(unknown))
        return names

    def _missing(self, split: str, names: Sequence[str]) -> MissingSplitError:
        notes = f"files whose names say no split are left out: {self._others[:5]}" if self._others else ""
        files = [file for of_split in self._files.values() for file in of_split]
        where = f"'{files[0] if len(files) == 1 else self.folder}'"
        return MissingSplitError.of(where, split, names, f"files {split}-*{ENDINGS[self.kind][0]}", notes)

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        if split not in self._records:
            self._records[split] = self._read_records(self._table(split))
        return self._records[split]

    def text_columns(self, split: str) -> TextColumns | None:
        """See :class:`Source`."""
        table = self._table(split)
        names = table.columns.text(table.table.column_names)
        fields = {field: table.column(name) for field, name in names.items()}
        if len(table.rows) < len(table.table):
            fields = {field: column.take(pa.array(table.rows)) for field, column in fields.items()}
        return plain_columns(fields, _class_label(table, names))

    def _read_records(self, split: SplitTable) -> list[Record]:
        names = split.columns.text(split.table.column_names)
        fields = {field: plain_column(split.column(name), name, split.where) for field, name in names.items()}
        if label := _class_label(split, names):
            fields["scene"] = [class_name(label, number) for number in fields["scene"]]
        images = split.column(split.columns.image)
        own_names = names_of_images(images, split.where) if "filename" not in names else None
        records = []
        for number, row in enumerate(split.rows):
            values = {field: column[row] for field, column in fields.items()}
            if own_names is not None:
                values["filename"] = own_names[row]
            records.append(record(values, number, Place(split.where, row, names)))
        if own_names is None:
            refuse_different_images(images, [r.filename for r in records], split.rows, split.where)
        return records

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return f"{self._table(split).where}, split '{split}'"

    def blocks(self, split: str) -> list[int]:
        """Each row alone: the table is memory-mapped."""
        return [1] * len(self._table(split).rows)

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`.

        Raises:
            BrokenRowError: if the row has no image, or its file is not there.
        """
        table = self._table(split)
        row = table.rows[block]
        if split not in self._images:
            files = [file["filename"] for file in table.table.cache_files]
            name = table.columns.image
            self._images[split] = (
                MappedColumn(files, name) if files else plain_column(table.column(name), name, table.where)
            )
        try:
            image = self._images[split][row]
        except UnicodeDecodeError as error:  # a path, or the name beside an image's bytes
            raise BrokenRowError(f"{table.where}, row {row}: '{table.columns.image}' is no text in UTF-8") from error
        path = image.get("path") if isinstance(image, dict) and image.get("bytes") is None else image
        if path is None:
            raise BrokenRowError(f"{table.where}, row {row}: '{table.columns.image}' is empty")
        if not isinstance(path, str):
            return [image]
        try:
            return [self._find(split, path)]
        except BrokenRowError as error:
            raise BrokenRowError(f"{table.where}, row {row}: {error}") from error

    def _find(self, split: str, path: str) -> object:
        """The file of an image that is given by its path."""
        if self._index is None:
            self._index = FileIndex(self.folder)
        if split not in self._lone:
            table = self._table(split)
            images = [value_of(image) for image in table.column(table.columns.image)]
            paths = [image.get("path") if isinstance(image, dict) else image for image in images]
            self._lone[split] = lone_last_parts(path for path in paths if isinstance(path, str))
        return self._index.find(path, self._files[split if split in self._files else None][0].parent, self._lone[split])

    def fingerprint(self) -> str:
        """See :class:`Source`."""
        return fingerprint(
            file for files in self._files.values() for top in files for file in (walk(top) if top.is_dir() else [top])
        )


def _class_label(split: SplitTable, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - datasets is untyped
    """What numbers of scenes stand for; None where the scenes are no numbers of classes."""
    feature = split.table.features.get(names.get("scene", ""))
    return feature if isinstance(feature, datasets.ClassLabel) else None
