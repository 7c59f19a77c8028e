"""Corners as GDAL and PROJ have them, and metres on the ground; polygons as the standards write them."""

import itertools
import logging
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.features import is_valid_geom
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window

from rsretrieval.archive.rasters import Footprint, Raster, Tile, is_raster, open_raster
from rsretrieval.archive.rasters.places import Place
from rsretrieval.embeddings import ArchiveError
from rsretrieval.embeddings.wkb import from_wkb, to_wkb

TILE = Tile(3, 5, 7, 4, 7, 4)
UTM = ("EPSG:32631", Affine(10, 0, 5e5, 0, -10, 4.6e6))


def file(folder: Path, crs: object = None, transform: Affine | None = None, **more: Any) -> Path:
    """A raster of 40 x 30 pixels."""
    path = folder / "raster.tif"
    place = {"crs": crs} | ({"transform": transform} if transform is not None else {})
    profile = {"driver": "GTiff", "width": 40, "height": 30, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **place, **more) as dataset:
        dataset.write(np.ones((1, 30, 40), np.uint8))
    return path


def rings(footprint: Footprint | None) -> list[list[list[float]]]:
    """The outer rings, after a check of what holds for every footprint."""
    assert footprint is not None
    geometry = from_wkb(footprint.wkb)
    assert is_valid_geom(geometry)
    several = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for ring, *holes in several:
        assert not holes
        assert ring[0] == ring[-1]
        assert area(ring) > 0  # counter-clockwise
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
    return [ring for (ring,) in several]


def area(ring: list[list[float]]) -> float:
    return sum(x * v - u * y for (x, y), (u, v) in itertools.pairwise(ring)) / 2


def by_gdal(path: Path, tile: Tile) -> set[tuple[float, float]]:
    """A window's corners in degrees, by its own geotransform and GDAL's transformation of a geometry."""
    with rasterio.open(path) as dataset:
        transform = dataset.window_transform(Window(*tile[:4]))
        ring = [transform @ corner for corner in [(0, 0), (tile.width, 0), (tile.width, tile.height), (0, tile.height)]]
        polygon = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        geometry = transform_geom(dataset.crs, "EPSG:4326", polygon)
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return {tuple(position) for part in parts for position in part[0]}


def check_equal(ring: list[list[float]], expected: set[tuple[float, float]]) -> None:
    assert len(ring) == 5
    for longitude, latitude in expected:
        assert any(abs(x - longitude) < 1e-9 and abs(y - latitude) < 1e-9 for x, y in ring)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        UTM,
        ("EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 50)),
        ("EPSG:4326", Affine(0.01, 0, 10, 0, 0.01, 50)),  # rows go north
        ("EPSG:3857", Affine(30, 0, 1e6, 0, -30, 8e6)),
        ("EPSG:2263", Affine(2, 0, 1e6, 0, -2, 2e5)),  # feet
        ("EPSG:27700", Affine(25, 0, 4e5, 0, -25, 3e5)),  # another datum
        (UTM[0], Affine.translation(5e5, 4.6e6) @ Affine.rotation(33) @ Affine.scale(10, -10)),
    ],
    ids=["UTM", "degrees", "south-up", "Mercator", "feet", "OSGB36", "rotated"],
)
def test_corners(tmp_path: Path, crs: str, transform: Affine) -> None:
    path = file(tmp_path, crs, transform)
    assert is_raster(path)
    with open_raster(path) as raster:
        for tile in (TILE, Tile(0, 0, 40, 30, 4, 3), Tile(39, 29, 1, 1, 1, 1)):
            footprint = raster.footprint(tile)
            (ring,) = rings(footprint)
            check_equal(ring, by_gdal(path, tile))
            assert footprint is not None
            xs, ys = zip(*ring, strict=True)
            assert footprint.bbox == (min(xs), min(ys), max(xs), max(ys))


def test_bounds(tmp_path: Path) -> None:
    """The box of corners lies in GDAL's box of the densified border, and is as good as it."""
    path = file(tmp_path, *UTM)
    with open_raster(path) as raster, rasterio.open(path) as dataset:
        footprint = raster.footprint(Tile(0, 0, 40, 30, 40, 30))
        assert footprint is not None
        assert footprint.bbox == pytest.approx(transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds), abs=1e-6)


def control(crs: str, transform: Affine) -> dict[str, Any]:
    corners = [(0, 0), (0, 40), (30, 0), (30, 40)]
    points = [GroundControlPoint(row, col, *(transform @ (col, row))) for row, col in corners]
    return {"gcps": points, "crs": crs}


def test_ground_control_points_on_a_plane_are_a_geotransform(tmp_path: Path) -> None:
    affine = UTM[1] @ Affine.rotation(12)
    (tmp_path / "points").mkdir()
    expected = by_gdal(file(tmp_path, UTM[0], affine), TILE)
    path = file(tmp_path / "points", **control(UTM[0], affine))
    assert is_raster(path)
    with open_raster(path) as raster:
        check_equal(rings(raster.footprint(TILE))[0], expected)
        assert raster.resolution() == pytest.approx((10, 10), rel=1e-3)


def test_rational_polynomials(tmp_path: Path) -> None:
    """The other way: corners put through the polynomials by hand are the window's pixels again.

    Image coordinates of RPCs count from the centre of the first pixel (GDAL's RFC 22).
    """
    line, sample = [0.01, 0.02, -1.0, 0.05] + [0.0] * 16, [0.0, 1.0, 0.01, -0.03] + [0.0] * 16
    line[7] = 0.004  # latitude x height, whose square there is none of
    one = [1.0] + [0.0] * 19
    rpcs = RPC(
        height_off=1500.0, height_scale=500.0, lat_off=45.0, lat_scale=0.002, long_off=10.0, long_scale=0.003,
        line_off=15.0, line_scale=15.0, samp_off=20.0, samp_scale=20.0,
        line_num_coeff=line, line_den_coeff=one, samp_num_coeff=sample, samp_den_coeff=one,
    )  # fmt: skip
    path = file(tmp_path)
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = rpcs
    assert is_raster(path)
    with open_raster(path) as raster:
        (ring,) = rings(raster.footprint(TILE))
        resolution = raster.resolution()
    pixels = set()
    for longitude, latitude in ring:
        p, q, h = (latitude - 45) / 0.002, (longitude - 10) / 0.003, 0.0
        terms = [1, q, p, h, q * p, q * h, p * h, q * q, p * p, h * h] + [0] * 10
        row, column = (scale * np.dot(numbers, terms) + scale + 0.5 for scale, numbers in ((15, line), (20, sample)))
        assert (row, column) == pytest.approx((round(row), round(column)), abs=1e-3)
        pixels.add((round(column), round(row)))
    assert pixels == {(3, 5), (10, 5), (10, 9), (3, 9)}
    assert resolution == pytest.approx((11.8, 14.8), rel=0.02)  # 0.003 and 0.002 degrees in 20 and 15 pixels at 45 N


@pytest.mark.parametrize(
    ("crs", "transform", "resolution", "tolerance"),
    [
        (*UTM, (10, 10), 1e-3),
        ("EPSG:4326", Affine(1 / 3600, 0, 10, 0, -1 / 3600, 60), (15.5, 30.9), 4e-3),
        ("EPSG:4326", Affine(1 / 3600, 0, 10, 0, -1 / 3600, 0), (30.92, 30.71), 1e-3),
        ("EPSG:3857", Affine(10, 0, 0, 0, -10, 8399737.89), (5, 5), 3e-3),  # 60 degrees north
        ("EPSG:2263", Affine(10, 0, 1e6, 0, -10, 2e5), (3.048, 3.048), 1e-3),
        (UTM[0], UTM[1] @ Affine.rotation(40), (10, 10), 1e-3),
        ("EPSG:3413", Affine(1000, 0, -20e3, 0, -1000, 15e3), (1030, 1030), 5e-3),  # the pole in the middle
    ],
    ids=["UTM", "arc-second at 60 N", "arc-second at 0 N", "Mercator at 60 N", "feet", "rotated", "pole"],
)
def test_metres_on_the_ground(
    tmp_path: Path, crs: str, transform: Affine, resolution: tuple[float, float], tolerance: float
) -> None:
    with open_raster(file(tmp_path, crs, transform)) as raster:
        assert raster.resolution() == pytest.approx(resolution, rel=tolerance)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32601", Affine(5000, 0, 1.6e5, 0, -5000, 1e6)),  # UTM's zone 1 begins at 180 degrees west
        ("EPSG:4326", Affine(0.5, 0, 170, 0, -0.5, 10)),  # goes on to 190
        ("EPSG:4326", Affine(0.5, 0, -190, 0, -0.5, 10)),
        ("EPSG:4326", Affine(0.5, 0, 530, 0, -0.5, 10)),
    ],
)
def test_across_the_antimeridian(tmp_path: Path, crs: str, transform: Affine) -> None:
    path = file(tmp_path, crs, transform)
    tile = Tile(0, 0, 40, 30, 40, 30)
    with open_raster(path) as raster:
        footprint = raster.footprint(tile)
        east, west = rings(footprint)
    assert footprint is not None
    assert max(x for x, _ in east) == 180
    assert min(x for x, _ in west) == -180
    assert 150 < footprint.bbox[0] == min(x for x, _ in east)
    assert -150 > footprint.bbox[2] == max(x for x, _ in west)
    assert (footprint.bbox[1], footprint.bbox[3]) == (min(y for _, y in east + west), max(y for _, y in east + west))
    theirs = {(x % 360, y) for x, y in by_gdal(path, tile)}
    ours = {(x % 360, y) for x, y in east + west}
    for (
        longitude,
        latitude,
    ) in theirs:  # GDAL cuts where the window's straight side is, we where that of the footprint is
        off = min(math.dist((longitude, latitude), other) for other in ours)
        assert off < (1e-3 if longitude == 180 else 1e-9)
    middle = (min(y for _, y in theirs) + max(y for _, y in theirs)) / 2
    whole = sorted(theirs, key=lambda corner: math.atan2(corner[1] - middle, corner[0] - 180))  # around a point within
    assert area(east) + area(west) == pytest.approx(area([list(corner) for corner in [*whole, whole[0]]]), rel=1e-3)


@pytest.mark.parametrize(
    ("left", "right"), [(-180, -175), (175, 180), (180, 185), (-185, -180), (-180, 180), (0, 360), (-190, 190), (0, 5)]
)
def test_beside_the_antimeridian_and_around_the_earth(tmp_path: Path, left: float, right: float) -> None:
    """What ends at 180 degrees is not cut; a world is whole."""
    with open_raster(file(tmp_path, "EPSG:4326", Affine((right - left) / 40, 0, left, 0, -1, 30))) as raster:
        footprint = raster.footprint(Tile(0, 0, 40, 30, 40, 30))
        found = rings(footprint)
    assert footprint is not None
    expected = {(180, 185): (-180, -175), (-185, -180): (175, 180), (0, 360): (-180, 180), (-190, 190): (-180, 180)}
    west, east = expected.get((left, right), (left, right))
    assert footprint.bbox == pytest.approx((west, 0, east, 30))
    assert len(found) == (2 if (left, right) == (0, 360) else 1)
    assert sum(map(area, found)) == pytest.approx(30 * min(360, right - left))


def polar(tile: Tile, crs: str = "EPSG:3413") -> tuple[Footprint, float]:
    """The footprint of a window of a grid of 100 km with the pole at (20, 15), and the sum of its areas."""
    affine = Affine(1e5, 0, -20e5, 0, -1e5, 15e5)
    place = Place("polar", lambda c, r: (affine.a * c + affine.c, affine.e * r + affine.f), crs)
    footprint = place.footprint(*tile[:4])
    assert footprint is not None
    return footprint, sum(map(area, rings(footprint)))


def test_a_pole() -> None:
    """Within, on a corner, on a side; a square of 10 pixels beside it for comparison."""
    within, square = polar(Tile(15, 10, 10, 10, 1, 1))
    assert within.bbox[0::2] == (-180, 180)
    assert within.bbox[3] == 90
    distance = 90 - within.bbox[1]
    assert distance == pytest.approx(math.hypot(5, 5) * 1e5 / 111e3, rel=0.05)
    assert square == pytest.approx(360 * distance)  # all four corners are as far from the pole
    corner, quarter = polar(Tile(20, 15, 5, 5, 1, 1))
    assert corner.bbox == pytest.approx((-45, 90 - distance, 45, 90))  # the meridian of 45 W points down
    assert quarter < 90 * distance
    quarters = [polar(Tile(left, top, 5, 5, 1, 1))[1] for left in (15, 20) for top in (10, 15)]
    assert quarters == pytest.approx([quarter] * 4)
    side, half = polar(Tile(20, 10, 5, 10, 1, 1))
    assert side.bbox == pytest.approx((-45, 90 - distance, 135, 90))
    assert half == pytest.approx(square / 2, rel=0.2)
    assert polar(Tile(15, 10, 10, 10, 1, 1), "EPSG:3031")[0].bbox == pytest.approx(
        (-180, -90, 180, distance - 90), rel=0.01
    )


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def footprints(raster: Raster) -> list[Footprint | None]:
    return [raster.footprint(tile) for tile in (TILE, TILE)]


def test_without_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = file(tmp_path)
    assert not is_raster(path)
    with open_raster(path) as raster:
        assert footprints(raster) == [None, None]
        assert raster.resolution() is None
        assert not raster.is_georeferenced
    assert not warnings_of(caplog)


@pytest.mark.parametrize(
    ("crs", "transform", "message"),
    [
        (None, UTM[1], "it has no coordinate reference system, and so no place on earth"),
        (UTM[0], None, "it has no geotransform, and so no place on earth"),
        ("EPSG:4326", UTM[1], "longitude 500030, latitude 4.59995e\\+06 is impossible"),
        (UTM[0], Affine(1e12, 0, 1e15, 0, -1e12, 1e15), "GDAL cannot bring its pixels to EPSG:4326"),
        (rasterio.CRS.from_wkt('LOCAL_CS["local",UNIT["metre",1]]'), UTM[1], "GDAL cannot bring its pixels to EPSG"),
    ],
    ids=["no CRS", "no geotransform", "wrong CRS", "far off", "local"],
)
def test_a_place_that_is_none(
    tmp_path: Path, crs: object, transform: Affine | None, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = file(tmp_path, crs, transform)
    assert is_raster(path)
    with open_raster(path, "pond.tif") as raster:
        assert raster.is_georeferenced
        assert footprints(raster) == [None, None]
    (said,) = warnings_of(caplog)
    assert re.match(f"pond.tif: ({message})", said)


# --- WKB.

NUMBER = st.floats(allow_nan=False)
POLYGON = st.lists(st.lists(st.lists(NUMBER, min_size=2, max_size=2), max_size=5), max_size=3)


@given(geometry=st.one_of(
    POLYGON.map(lambda rings: {"type": "Polygon", "coordinates": rings}),
    st.lists(POLYGON, max_size=3).map(lambda polygons: {"type": "MultiPolygon", "coordinates": polygons}),
))  # fmt: skip
def test_wkb_there_and_back(geometry: dict[str, Any]) -> None:
    content = to_wkb(geometry)
    assert from_wkb(content) == geometry
    for cut in {0, 1, len(content) // 2, len(content) - 1}:
        with pytest.raises(ArchiveError, match=r"a geometry (of|ends)"):
            from_wkb(content[:cut])
    with pytest.raises(ArchiveError, match=f"ends at byte {len(content)} of {len(content) + 1}"):
        from_wkb(content + b"\0")


def test_wkb_by_hand() -> None:
    ring = [[1.0, 2.0], [3.0, 2.0], [3.0, 4.0], [1.0, 2.0]]
    numbers = [number for position in ring for number in position]
    for order, sign in (("<", b"\1"), (">", b"\0")):
        polygon = sign + struct.pack(f"{order}III8d", 3, 1, 4, *numbers)
        assert from_wkb(polygon) == {"type": "Polygon", "coordinates": [ring]}
        several = sign + struct.pack(f"{order}II", 6, 1) + polygon
        assert from_wkb(several) == {"type": "MultiPolygon", "coordinates": [[ring]]}
    assert to_wkb({"type": "Polygon", "coordinates": [ring]}) == b"\1" + struct.pack("<III8d", 3, 1, 4, *numbers)
    for content in (b"\1" + struct.pack("<I2d", 1, 0, 0), b"\1" + struct.pack("<II", 1003, 0)):
        with pytest.raises(ArchiveError, match=r"WKB's type (1|1003) is no footprint"):
            from_wkb(content)
    with pytest.raises(ArchiveError, match="type 'Point' is no footprint"):
        to_wkb({"type": "Point", "coordinates": [0, 0]})
