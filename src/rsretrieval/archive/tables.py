"""Images inside of files: rows of parquet tables, members of tars. Each is read when it is asked for."""

from __future__ import annotations

import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsretrieval.archive.hub import opened
from rsretrieval.data.datasets.lookup import IMAGES
from rsretrieval.images import BrokenImageError

NAMES = ("filename", "file_name", "image_name", "name", "path", "id", "__key__")
"""Columns that may name an image, the first that there is."""


class Member(NamedTuple):
    """An image in a file.

    Attributes:
        name: of no other in it.
        place: number of its row, or where its bytes begin.
        size: of its bytes; 0 in a table.
    """

    name: str
    place: int
    size: int = 0


class ParquetImages:
    """The images of a parquet file; one row group is in memory.

    Raises:
        BrokenImageError: if it is no parquet file, or has no column of images.
    """

    def __init__(self, place: str) -> None:
        self._lock = threading.Lock()
        try:
            self._content = pq.ParquetFile(opened(place))
        except (pa.ArrowException, OSError) as error:
            raise BrokenImageError(f"it cannot be read as parquet: {error}") from error
        self._column = self._image_column(self._content.schema_arrow)
        groups = range(self._content.num_row_groups)
        self._starts = np.cumsum([0, *(self._content.metadata.row_group(group).num_rows for group in groups)])
        self._group: tuple[int, Any] = (-1, None)

    @staticmethod
    def _image_column(schema: pa.Schema) -> str:
        def holds_images(kind: pa.DataType) -> bool:
            names = [field.name for field in kind] if pa.types.is_struct(kind) else []
            return "bytes" in names or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

        columns = [field.name for field in schema if holds_images(field.type)]
        if "image" in columns or len(columns) == 1:
            return "image" if "image" in columns else columns[0]
        raise BrokenImageError(
            f"it has {len(columns)} columns of encoded images ({columns}; all: {schema.names}), and one is read: name "
            "it 'image'"
        )

    def members(self) -> Iterator[Member]:
        """Every image once: rows of one name and equal images are one, as tables of one row a caption have them."""
        names = self._names()
        several = {name for name, count in Counter(names).items() if count > 1}
        seen: dict[str, set[bytes]] = {}
        for row, name in enumerate(names):
            if name in several:
                digest = blake2b(repr(self.image(Member(name, row))).encode(), digest_size=16).digest()
                if digest in seen.setdefault(name, set()):
                    continue
                seen[name].add(digest)
                name = name if len(seen[name]) == 1 else f"{name}~{row}"
            yield Member(name, row)

    def _names(self) -> list[str]:
        schema = self._content.schema_arrow
        text = [name for name in NAMES if name in schema.names and pa.types.is_string(schema.field(name).type)]
        rows = range(self._content.metadata.num_rows)
        if text:
            column = self._content.read([text[0]]).column(0).to_pylist()
        elif pa.types.is_struct(schema.field(self._column).type):
            column = self._content.read([f"{self._column}.path"]).column(0).to_pylist()
            column = [None if value is None else value.get("path") for value in column]
        else:
            column = [None] * len(rows)
        return [str(row) if name is None else name for row, name in zip(rows, column, strict=True)]

    def image(self, member: Member) -> Any:  # noqa: ANN401 - bytes, or the hub's {bytes, path}
        """Encoded.

        Raises:
            BrokenImageError: if its row group cannot be read.
        """
        group = int(np.searchsorted(self._starts, member.place, side="right")) - 1
        with self._lock:
            if self._group[0] != group:
                try:
                    self._group = (group, self._content.read_row_group(group, [self._column]).column(0))
                except (pa.ArrowException, OSError) as error:
                    raise BrokenImageError(f"row group {group} cannot be read: {error}") from error
            return self._group[1][member.place - int(self._starts[group])].as_py()


class TarImages:
    """The images of a tar that is not compressed.

    Raises:
        BrokenImageError: if it is none.
    """

    def __init__(self, place: str) -> None:
        self._place, self._lock = place, threading.Lock()
        self._content = opened(place)

    def members(self) -> Iterator[Member]:
        """Files that end as images do; their bytes are not read."""
        try:
            with opened(self._place) as content, tarfile.open(fileobj=content, mode="r:") as tar:
                for entry in tar:
                    if entry.isfile() and PurePosixPath(entry.name).suffix.lower() in IMAGES:
                        yield Member(entry.name, entry.offset_data, entry.size)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise BrokenImageError(
                f"it cannot be read as a tar, and compressed ones are to be unpacked: {error}"
            ) from error

    def image(self, member: Member) -> bytes:
        """Encoded."""
        with self._lock:
            self._content.seek(member.place)
            content = self._content.read(member.size)
        if len(content) < member.size:
            raise BrokenImageError("the tar ends before it")
        return content
