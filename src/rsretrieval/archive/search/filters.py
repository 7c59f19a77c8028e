"""Which rows of an archive may answer: by place, and by a condition in SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.embeddings import ArchiveError
from rsretrieval.embeddings.rows import degrees_and_pixels
from rsretrieval.lazy import needs

COLUMNS = "id, source, datetime, datetime_origin, west, south, east, north, width, height"
"""That a condition may name: of an index too that filters natively. Degrees, pixels, UTC."""
_ROW = "_row"
_CLOSED = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
}
"""Settings of DuckDB under which a condition reads the table that it is given, and nothing else."""


class Selection(NamedTuple):
    """The rows that may answer.

    Attributes:
        rows: ``(n,)`` their numbers, ascending; None for all.
        sql: the same as a condition.
        words: the same for people.
    """

    rows: NDArray[np.int64] | None = None
    sql: str | None = None
    words: str = ""


class Filters:
    """Conditions on the rows of an archive.

    Args:
        columns: of :func:`filter_columns`.
    """

    def __init__(self, columns: pa.Table) -> None:
        self._columns = columns

    @cached_property
    def _database(self) -> Any:  # noqa: ANN401 - a module without types
        """In memory, and without a way out."""
        database = needs("duckdb", "archive").connect(config=_CLOSED)
        database.execute("SET GLOBAL TimeZone = 'UTC'")  # of days and times that name none
        database.execute("SET lock_configuration = true")
        return database

    def __call__(self, bbox: str | Sequence[float] | None, where: str | None) -> Selection:
        """The rows that meet both conditions.

        Args:
            bbox: west, south, east, north in degrees: rows that share a point with it, and never one without a place.
            where: a condition in DuckDB's SQL over :data:`COLUMNS`.

        Raises:
            ArchiveError: if one of them is not understood.
            ImportError: if DuckDB is not installed.
        """
        if bbox is None and where is None:
            return Selection()
        duckdb = needs("duckdb", "archive")
        parts, words = [], []
        with self._database.cursor() as session:
            rows = session.from_arrow(self._columns)
            if bbox is not None:
                box = parse_bbox(bbox)
                parts.append(intersects(box))
                words.append(f"in the box {', '.join(f'{side:g}' for side in box)}")
                rows = rows.filter(duckdb.SQLExpression(parts[-1]))
            if where is not None:
                parts.append(where)
                words.append(f"where {where}")
            chosen = _numbers(duckdb, rows, where)
        return Selection(chosen, " AND ".join(f"({part}\n)" for part in parts), " and ".join(words))


def _numbers(duckdb: Any, rows: Any, where: str | None) -> NDArray[np.int64]:  # noqa: ANN401 - a module without types
    """Of the rows that meet a condition."""
    try:
        if where is not None:
            condition = duckdb.SQLExpression(where)
            types = [str(kind) for kind in rows.select(condition).types]
            if types != ["BOOLEAN"]:
                raise ArchiveError(f"the condition '{where}' is not true or false, but {', '.join(types)}: {_ADVICE}")
            rows = rows.filter(condition)
        return np.asarray(np.sort(rows.select(_ROW).fetchnumpy()[_ROW]), np.int64)
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0].rstrip("!.")
        raise ArchiveError(f"the condition '{where}' cannot be used ({reason}): {_ADVICE}") from error


_ADVICE = f"give one condition over the columns {COLUMNS}, such as \"datetime > '2024-06-01' AND width >= 224\""


def filter_columns(information: pa.Table) -> pa.Table:
    """:data:`COLUMNS` and the number of each row, of all rows of an archive."""
    columns: dict[str, Any] = {
        name: information.column(name) for name in ("id", "source", "datetime", "datetime_origin")
    }
    return pa.table({**columns, **degrees_and_pixels(information), _ROW: np.arange(len(information))})


def parse_bbox(bbox: str | Sequence[float]) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees, of four numbers or of a text with commas or spaces between them.

    Raises:
        ArchiveError: saying what is wrong with them.

    Example:
        >>> parse_bbox("170, -20, -170, 10")
        (170.0, -20.0, -170.0, 10.0)
    """
    values = bbox.replace(",", " ").split() if isinstance(bbox, str) else list(bbox)
    form = "give west,south,east,north in degrees, such as -74,40,-73,41"
    try:
        west, south, east, north = map(float, values)
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"the box '{bbox}' is not of four numbers: {form}") from error
    if not all(math.isfinite(side) for side in (west, south, east, north)):
        raise ArchiveError(f"the box '{bbox}' has a side that is no finite number: {form}")
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise ArchiveError(f"the box '{bbox}' is beyond 180 degrees of longitude or 90 of latitude: {form}")
    if south > north:
        raise ArchiveError(f"the box '{bbox}' has its south, {south:g}, above its north, {north:g}: {form}")
    return west, south, east, north


def intersects(box: tuple[float, float, float, float]) -> str:
    """The condition that a row shares a point with a box; each may cross the antimeridian (west above east).

    On the circle of longitudes two spans meet where one begins within the other.
    """
    west, south, east, north = box
    span = east - west + (360 if east < west else 0)
    row_in_box = f"((west - ({west!r})) % 360 + 360) % 360 <= {span!r}"
    own_span = "(east - west + CASE WHEN east < west THEN 360 ELSE 0 END)"
    box_in_row = f"((({west!r}) - west) % 360 + 360) % 360 <= {own_span}"
    return f"south <= {north!r} AND north >= {south!r} AND ({row_in_box} OR {box_in_row})"
