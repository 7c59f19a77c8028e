"""Many shards of rows to one sorted file: GeoParquet 1.1 where there are places, else plain Parquet.

https://geoparquet.org/releases/v1.1.0/
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsretrieval.embeddings.hilbert import hilbert
from rsretrieval.files import write_whole

ROW_GROUP_BYTES = 128 * 2**20
PLACE = ("geometry", "bbox")


class Places(NamedTuple):
    """Which rows of a sorted file come from where.

    Attributes:
        shard: ``(N,)`` number of the table of each row.
        row: ``(N,)`` its row in that table.
        bbox: west, south, east, north of all; None if no row has a place.
        geometry_types: that occur.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    bbox: tuple[float, float, float, float] | None
    geometry_types: tuple[str, ...]


def order(tables: Sequence[pa.Table]) -> Places:
    """Rows with a place along Hilbert's curve, then the others; by id where that is equal."""
    ids = pa.chunked_array([chunk for table in tables for chunk in table.column("id").chunks], pa.string())
    boxes = pa.chunked_array([chunk for table in tables for chunk in table.column("bbox").chunks])
    sides = [pc.struct_field(boxes, name).to_numpy() for name in ("xmin", "ymin", "xmax", "ymax")]
    west, south, east, north = (np.asarray(side, np.float64) for side in sides)
    placed = ~np.isnan(west)
    middle = (west + np.where(east < west, east + 360, east)) / 2
    distance = np.full(len(west), np.iinfo(np.int64).max)
    distance[placed] = hilbert((middle[placed] + 180) % 360 - 180, (south + north)[placed] / 2)
    by_id = np.asarray(pc.sort_indices(ids))
    sorting = by_id[np.argsort(distance[by_id], kind="stable")]
    counts = [len(table) for table in tables]
    shard = np.repeat(np.arange(len(tables)), counts)
    row = np.concatenate([np.arange(count) for count in counts]) if counts else np.zeros(0, np.int64)
    return Places(shard[sorting], row[sorting], _bounds(west, south, east, north, placed), _types(tables))


def _bounds(
    west: NDArray[Any], south: NDArray[Any], east: NDArray[Any], north: NDArray[Any], placed: NDArray[np.bool_]
) -> tuple[float, float, float, float] | None:
    if not placed.any():
        return None
    left, right = west[placed], east[placed]
    if (left > right).any():  # something crosses the antimeridian, and the shortest span around all is not looked for
        left, right = np.array([-180.0]), np.array([180.0])
    return float(left.min()), float(south[placed].min()), float(right.max()), float(north[placed].max())


def _types(tables: Sequence[pa.Table]) -> tuple[str, ...]:
    kinds: set[int] = set()
    for table in tables:
        codes = pc.unique(pc.binary_slice(table.column("geometry"), 1, 2)).drop_null()
        kinds |= {code[0] for code in codes.to_pylist()}
    return tuple(name for code, name in ((3, "Polygon"), (6, "MultiPolygon")) if code in kinds)


def write_sorted(file: Path, tables: Sequence[pa.Table], metadata: dict[str, Any]) -> int:
    """Write all rows of some tables, sorted, whole or not at all; memory is that of one row group.

    Args:
        file: to write or replace.
        tables: of one schema, memory-mapped if they are large.
        metadata: key to what is kept under it as JSON.

    Returns:
        The number of rows.
    """
    places = order(tables)
    columns = [name for name in tables[0].column_names if places.bbox is not None or name not in PLACE]
    kept = {key: json.dumps(value) for key, value in metadata.items()}
    if places.bbox is not None:
        kept["geo"] = json.dumps(_geo(places))
    form = pa.schema([tables[0].schema.field(name) for name in columns], metadata=kept)

    def write(partial: Path) -> None:
        with pq.ParquetWriter(partial, form, compression="zstd", write_statistics=True) as writer:
            for group in _groups([table.select(columns) for table in tables], places):
                writer.write_table(group.replace_schema_metadata(kept), row_group_size=max(1, len(group)))

    write_whole(file, write)
    return len(places.row)


def _groups(tables: Sequence[pa.Table], places: Places) -> Iterator[pa.Table]:
    """Rows in order, a row group at a time."""
    total = sum(map(len, tables))
    size = max(1, sum(table.nbytes for table in tables) // max(1, total))
    step = max(1, ROW_GROUP_BYTES // size)
    for start in range(0, total, step):
        shard, row = places.shard[start : start + step], places.row[start : start + step]
        by_shard = np.lexsort((row, shard))
        parts = [tables[number].take(pa.array(row[by_shard][shard[by_shard] == number])) for number in np.unique(shard)]
        back = np.empty_like(by_shard)
        back[by_shard] = np.arange(len(by_shard))
        yield pa.concat_tables(parts).take(pa.array(back)).combine_chunks()


def _geo(places: Places) -> dict[str, Any]:
    """GeoParquet's metadata."""
    crs = importlib.import_module("rasterio.crs").CRS.from_epsg(4326)
    column = {
        "encoding": "WKB",
        "geometry_types": list(places.geometry_types),
        "crs": crs.to_dict(projjson=True),
        "orientation": "counterclockwise",
        "edges": "planar",
        "bbox": list(places.bbox or ()),
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
