"""The answers to a query, and the formats they are read in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rsretrieval.embeddings.wkb import from_wkb

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Answer:
    """A row of the archive.

    Attributes:
        rank: from 1.
        id: of the row.
        source: the file, relative to the archive's root.
        score: the cosine; less the row's bias with a correction for hubs; from 0 to 1 of a composed query. None of a
            row that answers no query.
        z: the cosine against those of the model's bank of queries with this row, in their standard deviations; None
            without a bank of that kind, and of composed queries and of vectors.
        pixel_bbox: left, top, right, bottom in pixels of the file.
        bbox: west, south, east, north in degrees; None without a place.
        wkb: its outline in EPSG:4326, or None.
        datetime: when it was taken, in UTC, or None.
        folded: ids of its near-duplicates that are not answers of their own.
    """

    rank: int
    id: str
    source: str
    score: float | None
    z: float | None
    pixel_bbox: tuple[int, int, int, int]
    bbox: Box | None = None
    wkb: bytes | None = field(default=None, repr=False)
    datetime: datetime | None = None
    folded: tuple[str, ...] = ()

    @property
    def geometry(self) -> dict[str, Any] | None:
        """The outline as GeoJSON."""
        return None if self.wkb is None else from_wkb(self.wkb)

    def row(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        own = {name: value for name, value in vars(self).items() if name != "wkb"}
        taken = None if self.datetime is None else self.datetime.isoformat()
        return {**own, "geometry": self.geometry, "datetime": taken, "folded": list(self.folded)}


@dataclass(frozen=True)
class Results:
    """What an archive has for a query.

    Attributes:
        query: in words.
        answers: the best first.
        note: why they are fewer than were wanted; empty if they are not.
        folder: of the archive.
        about: what the archive says of itself.
    """

    query: str
    answers: tuple[Answer, ...]
    note: str = ""
    folder: Path = field(default=Path(), repr=False)
    about: dict[str, Any] = field(default_factory=dict, repr=False)

    def table(self) -> str:
        """As aligned text; see :func:`table`."""
        return table([self])

    def to_json(self) -> str:
        """As a list of rows; see :func:`to_json`."""
        return to_json([self])

    def to_geojson(self) -> str:
        """As a FeatureCollection; see :func:`to_geojson`."""
        return to_geojson([self])

    def to_csv(self) -> str:
        """As comma-separated values; see :func:`to_csv`."""
        return to_csv([self])

    def write(self, path: str | Path, format: str | None = None) -> None:
        """Write them to a file, whole or not at all.

        Args:
            path: the file.
            format: ``table``, ``json``, ``geojson``, ``csv``, ``gpkg`` or ``png``; None for that of the file's name.

        Raises:
            ArchiveError: for another format, or a GeoPackage of answers without a place.
        """
        from rsretrieval.archive.search.formats import write

        write([self], Path(path), format)


def table(results: Sequence[Results]) -> str:
    """Aligned text, for people: rank, score, z, time and place where there are any, and id."""
    blocks = []
    for result in results:
        lines = [result.query] if len(results) > 1 else []
        if result.answers:
            lines += _aligned([_cells(answer) for answer in result.answers])
        blocks.append("\n".join([*lines, *([result.note] if result.note and len(results) > 1 else [])]))
    return _printable("\n\n".join(blocks)) + "\n"


def _cells(answer: Answer) -> dict[str, str]:
    place = "" if answer.bbox is None else "{1:.5f} {0:.5f}".format(*middle(answer.bbox))
    return {
        "rank": str(answer.rank),
        "score": "" if answer.score is None else f"{answer.score:.4f}",
        "z": "" if answer.z is None else f"{answer.z:+.2f}",
        "taken": "" if answer.datetime is None else f"{answer.datetime:%Y-%m-%d}",
        "latitude, longitude": place,
        "near": f"+{len(answer.folded)}" if answer.folded else "",
        "id": answer.id.replace("\n", "?"),
    }


def _aligned(rows: Sequence[dict[str, str]]) -> list[str]:
    """Lines of the columns that have anything, the last of them to the left."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [dict(zip(names, names, strict=True)), *rows]
    return ["  ".join([*(f"{line[name]:>{widths[name]}}" for name in names[:-1]), line[names[-1]]]) for line in lines]


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def middle(bbox: Box) -> tuple[float, float]:
    """Longitude and latitude of the centre of a box; of one across the antimeridian too.

    Example:
        >>> middle((170.0, 0.0, -178.0, 2.0))
        (176.0, 1.0)
    """
    west, south, east, north = bbox
    longitude = (west + (east + 360 if east < west else east)) / 2
    return (longitude - 360 if longitude > 180 else longitude), (south + north) / 2


def to_json(results: Sequence[Results]) -> str:
    """A JSON list of rows, each with its ``query``."""
    rows = [{"query": result.query, **answer.row()} for result in results for answer in result.answers]
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def to_geojson(results: Sequence[Results]) -> str:
    """A FeatureCollection (RFC 7946); the geometry of a row without a place is null."""
    features = []
    for result in results:
        for answer in result.answers:
            row = {"query": result.query, **answer.row()}
            geometry, bbox = row.pop("geometry"), row.pop("bbox")
            feature = {"type": "Feature", "geometry": geometry, "properties": row}
            features.append(feature if bbox is None else {**feature, "bbox": list(bbox)})
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(results: Sequence[Results]) -> str:
    """A header and a row an answer; empty where something is not known, ``folded`` as a JSON list."""
    sides = (("left", "top", "right", "bottom"), ("west", "south", "east", "north"))
    names = ("query", "rank", "id", "source", "score", "z", "datetime", *sides[0], *sides[1], "folded")
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, names, lineterminator="\n")
    writer.writeheader()
    for result in results:
        for answer in result.answers:
            row = {"query": result.query, **answer.row()}
            row |= dict(zip(sides[0], row["pixel_bbox"], strict=True))
            row |= dict(zip(sides[1], row["bbox"] or [None] * 4, strict=True))
            row["folded"] = json.dumps(row["folded"], ensure_ascii=False) if row["folded"] else None
            writer.writerow({name: row[name] for name in names})
    return content.getvalue()
