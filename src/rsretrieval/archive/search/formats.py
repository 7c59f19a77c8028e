"""Answers as a file of any format."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.search.results import Answer, Results, table, to_csv, to_geojson, to_json
from rsretrieval.archive.search.sheet import to_png
from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import write_whole
from rsretrieval.lazy import needs

log = logging.getLogger(__name__)
LAYER = "answers"
UTC = 100  # as GDAL counts zones


def to_gpkg(results: Sequence[Results]) -> bytes:
    """A GeoPackage of one layer, ``answers``, of multipolygons in EPSG:4326.

    Raises:
        ArchiveError: if there are answers, and none has a place.
        ImportError: if pyogrio is not installed.
    """
    rows = [(result.query, answer) for result in results for answer in result.answers]
    answers = [answer for _, answer in rows]
    without = sum(answer.wkb is None for answer in answers)
    if answers and without == len(answers):
        raise ArchiveError(
            f"none of the {len(answers)} answers has a place on earth, since the pictures they are of have none, and a "
            "GeoPackage would be empty on a map: take json or csv"
        )
    if without:
        log.warning("%d of %d answers have no place, and no geometry in the GeoPackage", without, len(answers))
    fields = _fields(rows)
    content = io.BytesIO()
    needs("pyogrio.raw", "archive").write(
        content, np.array([answer.wkb for answer in answers], object), list(fields.values()), list(fields),
        layer=LAYER, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True, crs="EPSG:4326",
        gdal_tz_offsets={"datetime": np.full(len(rows), UTC)},
    )  # fmt: skip
    return content.getvalue()


def _fields(rows: Sequence[tuple[str, Answer]]) -> dict[str, NDArray[Any]]:
    taken = [None if answer.datetime is None else answer.datetime.replace(tzinfo=None) for _, answer in rows]
    return {
        "rank": np.array([answer.rank for _, answer in rows], np.int32),
        "id": np.array([answer.id for _, answer in rows], object),
        "source": np.array([answer.source for _, answer in rows], object),
        "score": np.array([np.nan if answer.score is None else answer.score for _, answer in rows], np.float64),
        "z": np.array([np.nan if answer.z is None else answer.z for _, answer in rows], np.float64),
        "query": np.array([query for query, _ in rows], object),
        "datetime": np.array(taken, "datetime64[ms]"),
    }


FORMATS: dict[str, Callable[[Sequence[Results]], str | bytes]] = {
    "table": table, "json": to_json, "geojson": to_geojson, "csv": to_csv, "gpkg": to_gpkg, "png": to_png,
}  # fmt: skip
"""Name to what makes the content; texts can go to a terminal."""
BINARY = ("gpkg", "png")


def check_format(name: str) -> None:
    """Refuse a format that there is none of.

    Raises:
        ArchiveError: naming those there are.
    """
    if name not in FORMATS:
        raise ArchiveError(f"there is no format '{name}': give one of {', '.join(FORMATS)}")


def write(results: Sequence[Results], file: Path, format: str | None = None) -> None:
    """Write answers to one or several queries, whole or not at all.

    Args:
        results: of each query.
        file: to write or replace.
        format: a name of :data:`FORMATS`; None for the ending of the file's name.

    Raises:
        ArchiveError: for another format, or what :func:`to_gpkg` refuses.
        OSError: if the file cannot be written.
    """
    name = format or file.suffix.removeprefix(".").lower()
    check_format(name)
    content = FORMATS[name](results)
    data = content.encode() if isinstance(content, str) else content
    write_whole(file, partial(_save, data=data))


def _save(file: Path, data: bytes) -> None:
    file.write_bytes(data)
