"""Where a raster's pixels lie on earth, and what they measure there."""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsretrieval.embeddings.wkb import to_wkb
from rsretrieval.lazy import needs

log = logging.getLogger(__name__)
Numbers = NDArray[np.float64]
Points = list[tuple[float, float]]
Locate = Callable[[Numbers, Numbers], tuple[Any, Any]]
WGS84 = "EPSG:4326"
SEMI_MAJOR, FLATTENING = 6378137.0, 1 / 298.257223563
"""Of WGS84, the first in metres."""
STEPS = 8
"""Points a side of a footprint by which its way around the earth is followed: one of 360 degrees has a direction."""
NOISE = 1e-10
"""Degrees by which a corner may miss the antimeridian."""


class Footprint(NamedTuple):
    """Where on earth a window lies, in degrees of EPSG:4326.

    Attributes:
        wkb: a polygon, counter-clockwise and closed; across the antimeridian a multipolygon cut at 180 degrees
            (RFC 7946, 3.1.9). Longitude first.
        bbox: west, south, east, north; west is above east across the antimeridian (RFC 7946, 5.3).
    """

    wkb: bytes
    bbox: tuple[float, float, float, float]


class Place:
    """The way from pixels to longitude and latitude.

    Args:
        name: of the raster, for messages.
        locate: columns and rows, counted from the upper left corner of the first pixel, to coordinates.
        crs: of these; None for EPSG:4326.
    """

    def __init__(self, name: str, locate: Locate, crs: object = None) -> None:
        self.name, self._locate, self._crs = name, locate, crs
        self._said = False

    def at(self, columns: Numbers, rows: Numbers) -> tuple[Numbers, Numbers] | None:
        """Longitudes and latitudes in degrees by GDAL and PROJ; None where they give none, said once a raster.

        Longitudes are as PROJ gives them, and so may be beyond 180 degrees. Latitudes beyond a pole by less than a
        degree, as grids around pixel centres have them, are moved onto it.
        """
        try:
            longitudes, latitudes = self._transformed(columns, rows)
            reason = _impossible(longitudes, latitudes)
        except ImportError:
            raise
        except Exception as error:  # GDAL's kinds
            reason = f"GDAL cannot bring its pixels to {WGS84} ({textwrap.shorten(str(error), 200)})"
        if reason is None:
            return longitudes, np.clip(latitudes, -90, 90)
        if not self._said:
            log.warning("%s: %s: tiles there have no place on earth", self.name, reason)
        self._said = True
        return None

    def _transformed(self, columns: Numbers, rows: Numbers) -> tuple[Numbers, Numbers]:
        xs, ys = self._locate(columns, rows)
        if self._crs is not None:
            xs, ys = needs("rasterio.warp", "archive").transform(self._crs, WGS84, list(xs), list(ys))
        return np.asarray(xs, np.float64), np.asarray(ys, np.float64)

    def resolution(self, column: float, row: float) -> tuple[float, float] | None:
        """Metres on the ground from a pixel to the next one in x and in y; None where it has no place.

        A pixel, its right and its lower neighbour are put into geocentric coordinates by WGS84's radius of curvature in
        the prime vertical (IOGP Guidance Note 7-2, method EPSG:9602), and their distances taken, so that degrees, feet,
        Mercator's scale, a rotation and the poles all come out as metres on the ground.
        """
        found = self.at(np.array([column, column + 1, column]), np.array([row, row, row + 1]))
        if found is None:
            return None
        longitudes, latitudes = np.radians(found)
        squared = FLATTENING * (2 - FLATTENING)  # eccentricity
        radius = SEMI_MAJOR / np.sqrt(1 - squared * np.sin(latitudes) ** 2)
        points = np.stack(
            [
                radius * np.cos(latitudes) * np.cos(longitudes),
                radius * np.cos(latitudes) * np.sin(longitudes),
                radius * (1 - squared) * np.sin(latitudes),
            ]
        )
        x, y = (float(np.linalg.norm(points[:, n] - points[:, 0])) for n in (1, 2))
        return (x, y) if min(x, y) > 0 else None

    def footprint(self, left: float, top: float, width: float, height: float) -> Footprint | None:
        """The four corners of a window in pixels, joined by straight lines; None without a place.

        A window around a pole becomes all that lies between its corners and the pole.
        """
        share = np.arange(STEPS) / STEPS
        zeros, ones = np.zeros(STEPS), np.ones(STEPS)
        across = np.concatenate([share, ones, 1 - share, zeros])
        down = np.concatenate([zeros, share, ones, 1 - share])
        found = self.at(left + width * across, top + height * down)
        return None if found is None else _footprint(_ring(*found))


def place_of(dataset: Any, name: str) -> Place | None:  # noqa: ANN401 - rasterio has no types
    """The place of a raster by its geotransform, else by ground control points, else by rational polynomials.

    Ground control points go by GDAL's polynomial of the order that their number allows; rational polynomials (RPCs) at
    the mean height that they state, since there is no elevation model.

    Args:
        dataset: of rasterio.
        name: for messages.

    Returns:
        None without any, or if only the coordinate reference system is missing, which is said.
    """
    transform = needs("rasterio.transform", "archive")
    points, crs = dataset.gcps
    if not dataset.transform.is_identity:
        if dataset.crs:
            return Place(name, _affine(dataset.transform), dataset.crs)
    elif points and crs:
        try:
            by_points = transform.GCPTransformer(points)
        except Exception as error:  # GDAL's kinds
            log.warning("%s: its %d ground control points place nothing: %s", name, len(points), error)
            return None
        return Place(name, lambda columns, rows: by_points.xy(rows, columns, offset="ul"), crs)
    elif dataset.rpcs:
        height = dataset.rpcs.height_off
        log.info("%s: placed by rational polynomials at their mean height of %g m above the ellipsoid", name, height)
        by_rpcs = transform.RPCTransformer(dataset.rpcs, RPC_PIXEL_ERROR_THRESHOLD=1e-4)
        return Place(name, lambda columns, rows: by_rpcs.xy(rows, columns, [height] * len(rows), offset="ul"))
    if is_georeferenced(dataset):
        missing = "geotransform" if dataset.crs else "coordinate reference system"
        log.warning("%s: it has no %s, and so no place on earth: its tiles get no footprint", name, missing)
    return None


def is_georeferenced(dataset: Any) -> bool:  # noqa: ANN401 - rasterio has no types
    """Whether a raster says anything of its place."""
    return bool(dataset.crs or not dataset.transform.is_identity or dataset.gcps[0] or dataset.rpcs)


def _affine(transform: Any) -> Locate:  # noqa: ANN401 - of the package affine
    a, b, c, d, e, f = transform[:6]
    return lambda columns, rows: (a * columns + b * rows + c, d * columns + e * rows + f)


def _impossible(longitudes: Numbers, latitudes: Numbers) -> str | None:
    """Why these are no place on earth."""
    if not np.isfinite([longitudes, latitudes]).all():
        return f"some of its pixels have no coordinates in {WGS84}"
    if np.abs(latitudes).max() > 91 or np.abs(longitudes).max() > 720:
        return (
            f"longitude {longitudes[0]:g}, latitude {latitudes[0]:g} is impossible, so that its coordinates are not in "
            "the coordinate reference system that it states"
        )
    return None


def _ring(longitudes: Numbers, latitudes: Numbers) -> Points:
    """The corners of a window, not closed, with longitudes that go on beyond 180 degrees.

    Args:
        longitudes: ``(4 * STEPS,)``, along the border from a corner on.
        latitudes: the same.
    """
    at_pole = (
        np.abs(latitudes) > 90 - 1e-9
    )  # a grid in degrees has a whole side there, others one point of no longitude
    lone = np.flatnonzero(at_pole & ~np.roll(at_pole, 1) & ~np.roll(at_pole, -1))
    order = np.roll(np.arange(len(longitudes)), -int(lone[0]) if len(lone) else 0)
    order = order[1:] if len(lone) else np.append(order, 0)
    way = np.unwrap(longitudes[order], period=360)
    corners = [(float(x), float(latitudes[n])) for x, n in zip(way, order, strict=True) if n % STEPS == 0]
    if len(lone) or abs(way[-1] - way[0]) > 180:  # the pole lies on the border, or within
        pole = math.copysign(90, latitudes[order[0]])
        return [*corners, (float(way[-1]), pole), (float(way[0]), pole)]
    return corners[:-1]


def _footprint(corners: Points) -> Footprint:
    """The footprint of a ring, not closed, whose longitudes go on beyond 180 degrees."""
    longitudes = [x for x, _ in corners]
    turn = -360 * math.floor((min(longitudes) + 180 + NOISE) / 360)
    corners = [(_snapped(x + turn), y) for x, y in corners]
    if sum(x * v - u * y for (x, y), (u, v) in zip(corners, corners[1:] + corners[:1], strict=True)) < 0:
        corners.reverse()
    west, east = min(x for x, _ in corners), max(x for x, _ in corners)
    south, north = min(y for _, y in corners), max(y for _, y in corners)
    if east - west > 360 + NOISE:  # more than once around the earth
        west, east, corners = -180, 180, [(-180, south), (180, south), (180, north), (-180, north)]
    if east <= 180:
        polygon = {"type": "Polygon", "coordinates": [_closed(corners)]}
        return Footprint(to_wkb(polygon), (west, south, east, north))
    beyond = [(x - 360, y) for x, y in _cut(corners, -1)]
    halves = {"type": "MultiPolygon", "coordinates": [[_closed(_cut(corners, 1))], [_closed(beyond)]]}
    sides = (-180.0, 180.0) if east - west >= 360 - NOISE else (west, east - 360)
    return Footprint(to_wkb(halves), (sides[0], south, sides[1], north))


def _snapped(longitude: float) -> float:
    nearest = 180.0 * round(longitude / 180)
    return nearest if abs(longitude - nearest) < NOISE else longitude


def _closed(corners: Points) -> Points:
    return [*corners, corners[0]]


def _cut(corners: Points, sign: int) -> Points:
    """What lies west (``sign`` 1) or east (-1) of 180 degrees (Sutherland and Hodgman, CACM 17, 1974)."""
    ring: Points = []
    for (x, y), (u, v) in zip(corners, corners[1:] + corners[:1], strict=True):
        if sign * (180 - x) >= 0:
            ring.append((x, y))
        if (180 - x) * (180 - u) < 0:
            ring.append((180.0, y + (v - y) * (180 - x) / (u - x)))
    return ring
