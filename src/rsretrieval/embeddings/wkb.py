"""Polygons as well-known binary and back.

ISO 19125-1 (OGC 06-103r4, 8.2): a byte for the order of bytes, a code for the type, counts, and pairs of doubles.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from rsretrieval.embeddings.errors import ArchiveError

Ring = Sequence[Sequence[float]]
"""Closed: the first position again at the end; each position is a longitude and a latitude in degrees."""
POLYGON, MULTIPOLYGON = 3, 6


def to_wkb(geometry: dict[str, Any]) -> bytes:
    """Little-endian WKB of a GeoJSON geometry.

    Args:
        geometry: a ``Polygon`` or ``MultiPolygon``; of positions the first two numbers are taken.

    Raises:
        ArchiveError: for another type.
    """
    if geometry["type"] == "Polygon":
        return _polygon(geometry["coordinates"])
    if geometry["type"] == "MultiPolygon":
        polygons = geometry["coordinates"]
        return struct.pack("<BII", 1, MULTIPOLYGON, len(polygons)) + b"".join(map(_polygon, polygons))
    raise ArchiveError(f"a geometry of type '{geometry['type']}' is no footprint: give a Polygon or a MultiPolygon")


def from_wkb(content: bytes) -> dict[str, Any]:
    """The GeoJSON geometry of WKB of either order of bytes.

    Raises:
        ArchiveError: if it is damaged, or is no polygon or multipolygon of two dimensions.
    """
    try:
        geometry, end = _geometry(content, 0)
    except struct.error as error:
        raise ArchiveError(
            f"a geometry of {len(content)} bytes is cut off ({error}): write the archive anew"
        ) from error
    if end != len(content):
        raise ArchiveError(f"a geometry ends at byte {end} of {len(content)}: write the archive anew")
    return geometry


def _polygon(rings: Sequence[Ring]) -> bytes:
    parts = [struct.pack("<BII", 1, POLYGON, len(rings))]
    for ring in rings:
        parts.append(struct.pack("<I", len(ring)))
        parts += (struct.pack("<2d", *position[:2]) for position in ring)
    return b"".join(parts)


def _geometry(content: bytes, start: int) -> tuple[dict[str, Any], int]:
    """The geometry at a byte, and the byte after it."""
    order = "<" if content[start : start + 1] == b"\1" else ">"
    code, count = struct.unpack_from(f"{order}II", content, start + 1)
    start += 9
    if code == MULTIPOLYGON:
        polygons = []
        for _ in range(count):
            polygon, start = _geometry(content, start)
            polygons.append(polygon["coordinates"])
        return {"type": "MultiPolygon", "coordinates": polygons}, start
    if code != POLYGON:
        raise ArchiveError(f"a geometry of WKB's type {code} is no footprint: polygons (3) and multipolygons (6) are")
    rings = []
    for _ in range(count):
        (length,) = struct.unpack_from(f"{order}I", content, start)
        numbers = struct.unpack_from(f"{order}{2 * length}d", content, start + 4)
        rings.append([list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)])
        start += 4 + 16 * length
    return {"type": "Polygon", "coordinates": rings}, start
