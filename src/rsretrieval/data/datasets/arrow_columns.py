"""Columns of arrow tables: their values, the types that images may have, and which rows are of one image."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from rsretrieval.data.datasets.base import DataError
from rsretrieval.data.datasets.rows import first_rows

log = logging.getLogger(__name__)
COMPARED = 256
"""Rows of equal names whose images are compared byte by byte; of all others the lengths are."""


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


def plain_column(column: Any, name: str, where: str) -> list[Any]:  # noqa: ANN401 - pyarrow is untyped
    """The values of a column, as Python has them.

    Raises:
        DataError: naming the first row whose value Python does not have, such as text that is not UTF-8.
    """
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        values = []
        for row, value in enumerate(column):
            try:
                values.append(value.as_py())
            except (ValueError, OverflowError, pa.ArrowException) as error:
                raise DataError(
                    f"{where}, row {row}: '{name}' holds a {value.type} that cannot be read ({error}): write it again "
                    "as text in UTF-8"
                ) from error
    return values


def check_images(kind: Any, name: str, where: str) -> None:  # noqa: ANN401 - pyarrow is untyped
    """Refuse a column whose type holds no images.

    Raises:
        DataError: naming the type, and those that are possible.
    """
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    fields = {field.name for field in value} if pa.types.is_struct(value) else set()
    holds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    views = (pa.types.is_binary_view, pa.types.is_string_view, pa.types.is_fixed_size_binary, pa.types.is_null)
    if not fields & {"bytes", "path"} and not any(check(value) for check in (*holds, *views)):
        raise DataError(
            f"{where}: the column '{name}' holds {kind}, which is no image: possible are encoded bytes, a struct "
            "of bytes and path (`datasets.Image`), and paths from the table's folder. Write it so, or name another "
            "column as --data.columns.image"
        )


def names_of_images(images: Any, where: str) -> list[str]:  # noqa: ANN401 - pyarrow is untyped
    """A name for each row of a table without file names.

    The images' own paths, where each stands for one image; else ``row N`` with the first row that has the same bytes.
    """
    names, contents = [], []
    for path, content in _contents(images):
        names.append(path or "")
        contents.append(content)
    rows = first_rows([content or f"row {row}" for row, content in enumerate(contents)])
    if all(names) and len(set(names)) == len({*zip(names, contents, strict=True)}):
        return names
    log.info("%s has no file names: numbers of rows serve", where)
    return [f"row {row}" for row in rows]


def refuse_different_images(images: Any, names: Sequence[str], rows: Sequence[int], where: str) -> None:  # noqa: ANN401
    """Refuse equal file names of different images.

    Args:
        images: the table's column.
        names: file name of each of ``rows``.
        rows: of the table.
        where: the table, for the message.

    Raises:
        DataError: naming two such rows.
    """
    pairs = [(rows[first], rows[row]) for row, first in enumerate(first_rows(names)) if row != first]
    for number, (first, row) in enumerate(pairs):
        one, other = _length(images[first]), _length(images[row])
        if one == other and number < COMPARED:
            one, other = value_of(images[first]), value_of(images[row])
            one, other = ((i.get("bytes") or i.get("path") if isinstance(i, dict) else i) for i in (one, other))
        if one != other:
            raise DataError(
                f"{where}, rows {first} and {row}: both are named '{names[list(rows).index(row)]}' and have different "
                "images. Give each image a name of its own, or name another column as --data.columns.filename (null "
                "for none)"
            )


def value_of(image: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """An image as Python has it; None for a path that is no UTF-8, of which reading the row says so."""
    try:
        return image.as_py()
    except UnicodeDecodeError:
        return None


def _length(image: Any) -> object:  # noqa: ANN401 - pyarrow is untyped
    """Length of an encoded image, without a copy of it; None where there is none."""
    value = image["bytes"] if pa.types.is_struct(image.type) and image.is_valid and "bytes" in image else image
    buffer = value.as_buffer() if hasattr(value, "as_buffer") else None
    return None if buffer is None else buffer.size


def _contents(images: Any) -> Iterator[tuple[str | None, str | None]]:  # noqa: ANN401 - pyarrow is untyped
    """Of each row, the image's path, and what tells its content: a digest, or the path of a file."""
    for value in images:
        image = value_of(value)
        fields = image if isinstance(image, dict) else {"path" if isinstance(image, str) else "bytes": image}
        path, data = fields.get("path"), fields.get("bytes")
        yield path, blake2b(data, digest_size=16).hexdigest() if data is not None else path
