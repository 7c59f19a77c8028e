"""A row of an archive: a picture or a tile, where and when it is from, and its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rsretrieval.embeddings.errors import ArchiveError

DataType = Literal["float16", "float32", "int8"]
"""How embeddings are stored."""
BOX = pa.struct([(side, pa.float64()) for side in ("xmin", "ymin", "xmax", "ymax")])
INFORMATION: dict[str, pa.DataType] = {
    "id": pa.string(),
    "source": pa.string(),
    "pixel_bbox": pa.list_(pa.int32(), 4),
    "geometry": pa.binary(),
    "bbox": BOX,
    "datetime": pa.timestamp("us", "UTC"),
    "datetime_origin": pa.string(),
}
"""The columns of a row but its embedding."""


class Row(NamedTuple):
    """What is known of a picture or a tile.

    Attributes:
        id: ``SOURCE``, or ``SOURCE#left,top,right,bottom`` of a tile; no two rows of an archive have one.
        source: the file, relative to the archive's root, or a row of a table: ``FILE::NAME``.
        pixel_bbox: left, top, right, bottom in pixels of the file.
        geometry: WKB in EPSG:4326, longitude first; None without a place on earth.
        bbox: west, south, east, north in degrees; west is above east across the antimeridian (RFC 7946).
        datetime: when it was taken, in UTC.
        datetime_origin: where that stands.
    """

    id: str
    source: str
    pixel_bbox: tuple[int, int, int, int]
    geometry: bytes | None = None
    bbox: tuple[float, float, float, float] | None = None
    datetime: datetime | None = None
    datetime_origin: str | None = None


def schema(width: int, dtype: DataType) -> pa.Schema:
    """The columns of an archive of embeddings of ``width`` numbers.

    Raises:
        ArchiveError: for another type.
    """
    if dtype not in get_args(DataType):
        raise ArchiveError(f"embeddings are stored as {', '.join(get_args(DataType))}, not as '{dtype}'")
    return pa.schema({**INFORMATION, "embedding": pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), width)})


def table(rows: Sequence[Row], vectors: NDArray[np.float32], dtype: DataType) -> pa.Table:
    """Rows and their L2-normalised embeddings ``(N, d)`` as they are stored."""
    form = schema(vectors.shape[1], dtype)
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in INFORMATION}
    columns["bbox"] = [None if box is None else dict(zip(BOX.names, box, strict=True)) for box in columns["bbox"]]
    arrays = [pa.array(columns[name], kind) for name, kind in INFORMATION.items()]
    return pa.Table.from_arrays([*arrays, lists_of(quantise(vectors, dtype))], schema=form)


def lists_of(vectors: NDArray[Any]) -> pa.FixedSizeListArray:
    """``(N, d)`` as a column of lists of one size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def _stored(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """``(N, d)`` of a column of lists of one size."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(len(array), array.type.list_size)


def degrees_and_pixels(information: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    """``west south east north`` of rows, null without a place, and ``width height`` in pixels of the file."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for side, name in zip(("west", "south", "east", "north"), BOX.names, strict=True):
        placed = "bbox" in information.column_names
        nothing = pa.nulls(len(information), pa.float64())
        columns[side] = pc.struct_field(information.column("bbox"), name) if placed else nothing
    left, top, right, bottom = (pc.list_element(information.column("pixel_bbox"), number) for number in range(4))
    return {**columns, "width": pc.subtract(right, left), "height": pc.subtract(bottom, top)}


def quantise(vectors: NDArray[np.float32], dtype: DataType) -> NDArray[Any]:
    """As stored; of ``int8`` each vector is scaled so that its largest number is 127, since its length is 1 anyway."""
    if dtype != "int8":
        return vectors.astype(dtype)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors / np.where(largest > 0, largest, 1) * 127).astype(np.int8)


def vectors_of(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """``(N, d)`` float32 of a column of embeddings; L2-normalised again unless they are stored in float32."""
    stored = _stored(column)
    vectors: NDArray[np.float32] = stored.astype(np.float32)
    if stored.dtype == np.float32:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def keys(ids: pa.ChunkedArray | pa.Array, embeddings: pa.ChunkedArray | pa.Array) -> NDArray[np.int64]:
    """``(N,)`` numbers from 0, of rows by id and embedding: another vector under an id is another key."""
    stored = _stored(embeddings)
    digests = (
        blake2b(id_.encode() + stored[row].tobytes(), digest_size=8).digest() for row, id_ in enumerate(ids.to_pylist())
    )
    return np.fromiter((int.from_bytes(digest, "big") >> 1 for digest in digests), np.int64, len(stored))
