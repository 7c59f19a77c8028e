"""Rows on disk as they come: files that are whole and never changed, until all are sorted into one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from rsretrieval.embeddings.errors import ArchiveError
from rsretrieval.files import write_whole

SUFFIX = ".arrow"


class ShardWriter:
    """Writes tables of rows as files of a folder, numbered on from those that are there.

    Args:
        folder: of the files; it is made.
        part: of this process, the beginning of their names.
        rows: in a file.
        seconds: after which what there is is written.
        notes: gives what is kept in the next file beside its rows, by name.
    """

    def __init__(
        self,
        folder: Path,
        part: int,
        rows: int = 4096,
        seconds: float = 60,
        notes: Callable[[], dict[bytes, bytes]] = dict,
    ) -> None:
        self.folder, self.part, self.rows, self.seconds, self.notes = folder, part, rows, seconds, notes
        self._tables: list[pa.Table] = []
        self._since = time.monotonic()
        numbers = [int(file.stem.split("-")[1]) for file in shard_files(folder) if int(file.stem.split("-")[0]) == part]
        self._next = max(numbers, default=-1) + 1

    def add(self, table: pa.Table) -> None:
        """Keep rows, and write them with those before if they are many or old."""
        self._tables.append(table)
        if sum(map(len, self._tables)) >= self.rows or time.monotonic() - self._since > self.seconds:
            self.flush()

    def flush(self, empty: pa.Table | None = None) -> None:
        """Write what is not written yet.

        Args:
            empty: a table to write where there are no rows, so that the notes are; None to write nothing then.

        Raises:
            OSError: naming the file, where the disk is full.
        """
        if self._tables or empty is not None:
            table = pa.concat_tables(self._tables).combine_chunks() if self._tables else empty
            write_shard(self.folder / f"{self.part:05d}-{self._next:06d}{SUFFIX}", table, self.notes())
            self._next += 1
        self._tables, self._since = [], time.monotonic()


def write_shard(file: Path, table: pa.Table, notes: dict[bytes, bytes]) -> None:
    """Write a table whole or not at all."""
    table = table.replace_schema_metadata(notes)

    def write(partial: Path) -> None:
        with partial.open("wb") as content:
            with pa.ipc.new_file(content, table.schema) as writer:
                writer.write_table(table)
            content.flush()
            os.fsync(content.fileno())  # the machine's death must not leave a whole name on half a file

    write_whole(file, write)


def shard_files(folder: Path) -> list[Path]:
    """The files of a folder, in order."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_shard(file: Path) -> pa.Table:
    """A file's rows, memory-mapped; what was kept beside them is in the schema's metadata.

    Raises:
        ArchiveError: if it is damaged.
    """
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ArchiveError(
            f"'{file}' cannot be read ({error}): it is damaged. Delete it, and call `rsretrieval embed` again: what "
            "was in it is embedded again"
        ) from error
