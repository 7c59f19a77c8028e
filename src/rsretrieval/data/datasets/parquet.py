"""Folders of parquet files."""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from rsretrieval.data.datasets.base import (
    SPLITS,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
    check_columns,
    record,
)


class MappedColumn:
    """A column of the arrow files that datasets keeps, mapped to memory; what was read is let go of again.

    Otherwise the memory of each process that reads rows here and there grows to that of the files.

    Args:
        files: arrow streams, in order.
        name: of the column.
    """

    def __init__(self, files: Sequence[str], name: str) -> None:
        self._maps = []
        for file in files:
            with open(file, "rb") as content:
                self._maps.append(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))
        columns = [pa.ipc.open_stream(pa.py_buffer(mapped)).read_all().column(name) for mapped in self._maps]
        self._column = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
        self._reads = 0

    def __getitem__(self, row: int) -> object:
        """The value of a row, as Python has it."""
        value: object = self._column[row].as_py()
        self._reads += 1
        if self._reads % 256 == 0 and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
        return value


class ParquetSource(Source):
    """A folder of ``{train,valid,test}-*.parquet`` in the hub's columns.

    Args:
        path: the folder.
        columns: names of the columns.

    Raises:
        DataError: if there is no such folder.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        self.folder, self.columns = Path(path).expanduser(), columns
        if not self.folder.is_dir():
            raise DataError(f"there is no folder '{path}': give the folder of the parquet files as --data.path")
        self._tables: dict[str, Any] = {}
        self._images: dict[str, MappedColumn] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes that are not forked map the files themselves."""
        return {**self.__dict__, "_images": {}}

    def _table(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        if split not in self._tables:
            self._tables[split] = self._load(split)
        return self._tables[split]

    def _load(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        files = sorted(str(f) for alias in SPLITS[split] for f in self.folder.glob(f"{alias}-*.parquet"))
        if not files:
            splits = sorted({f.name.rsplit("-of-")[0].partition("-")[0] for f in self.folder.glob("*.parquet")})
            raise MissingSplitError(
                f"'{self.folder}' has no split '{split}': it needs files {split}-*.parquet and has the splits {splits}"
            )
        total = {int(match[1]) for file in files if (match := re.search(r"-of-(\d+)\.parquet$", file))}
        if total and total != {len(files)}:
            raise DataError(
                f"'{self.folder}' holds {len(files)} files of split '{split}', and their names say {sorted(total)}: "
                "write or fetch the missing ones, or remove those of another copy"
            )
        table = datasets.Dataset.from_parquet(files)
        check_columns(table.column_names, self.columns, f"'{files[0]}'")
        return table

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        table = self._table(split)
        names = self.columns.text(table.column_names)
        rows = table.select_columns(list(names.values()))
        return [record({field: row[column] for field, column in names.items()}) for row in rows]

    def blocks(self, split: str) -> list[int]:
        """Each row alone: the table is memory-mapped."""
        return [1] * len(self._table(split))

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        if split not in self._images:
            files = [file["filename"] for file in self._table(split).cache_files]
            self._images[split] = MappedColumn(files, self.columns.image)
        return [self._images[split][block]]
