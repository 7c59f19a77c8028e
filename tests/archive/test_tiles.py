"""Every pixel covered, no tile twice, all inside; at the size and the scale that were asked for."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import examples

from rsretrieval.archive.rasters import Length, Tile, Tiling, open_raster
from rsretrieval.archive.rasters.tiles import starts
from rsretrieval.embeddings import ArchiveError

FUZZ = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIDE = st.integers(1, 90)
GRIDS = {  # a coordinate reference system, and a geotransform: x, pixel's width, rotation, y, rotation, pixel's height
    "UTM": ("EPSG:32631", (5e5, 10, 0, 4.6e6, 0, -10)),
    "degrees": ("EPSG:4326", (10, 0.25, 0, 80, 0, -0.25)),
    "degrees to the pole": ("EPSG:4326", (10, 0.5, 0, 90, 0, -0.5)),
    "Mercator": ("EPSG:3857", (0, 1e5, 0, 1.2e7, 0, -1e5)),
    "feet, rotated": ("EPSG:2263", (1e6, 20, 6, 2e5, 6, -20)),
}


def empty(width: int, height: int, grid: str) -> str:
    """A raster without pixels, as a VRT."""
    crs, numbers = GRIDS[grid]
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{crs}</SRS><GeoTransform>'
        f'{",".join(map(str, numbers))}</GeoTransform><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    )


def check_exactly_once(tiles: list[Tile], width: int, height: int) -> None:
    """The slow way: paint each tile."""
    canvas = np.zeros((height, width), int)
    for tile in tiles:
        assert min(tile[:2]) >= 0
        assert min(tile[2:]) >= 1
        assert tile.left + tile.width <= width
        assert tile.top + tile.height <= height
        canvas[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] += 1
    assert canvas.min() >= 1
    assert len(set(tiles)) == len({tile[:4] for tile in tiles}) == len(tiles)


@FUZZ
@given(length=st.integers(1, 300), tile=st.integers(1, 90), data=st.data())
def test_starts(length: int, tile: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, tile))
    found = starts(length, tile, stride)
    covered = {pixel for start in found for pixel in range(start, start + tile)}
    assert covered >= set(range(length))
    assert len(set(found)) == len(found)
    assert found[:-1] == [number * stride for number in range(len(found) - 1)]
    assert found[-1] == (length - tile if tile < length else 0)


def test_starts_by_hand() -> None:
    assert starts(10, 4, 4) == [0, 4, 6]
    assert starts(12, 4, 4) == [0, 4, 8]
    assert starts(10, 4, 3) == [0, 3, 6]
    assert starts(4, 4, 1) == [0]
    assert starts(3, 4, 4) == [0]
    for stride in (0, 5):
        with pytest.raises(ValueError, match="the stride must be 1 to 4"):
            starts(10, 4, stride)


@FUZZ
@given(width=SIDE, height=SIDE, size=st.integers(1, 40), data=st.data())
def test_pixels(width: int, height: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    tiles = list(Tiling(Length(size), Length(overlap)).tiles(width, height))
    check_exactly_once(tiles, width, height)
    side = {"width": min(size, width), "height": min(size, height)}
    assert all((tile.width, tile.height) == (side["width"], side["height"]) == tile[4:] for tile in tiles)
    stride = size - overlap
    across, down = (1 + max(0, math.ceil((length - size) / stride)) for length in (width, height))
    assert len(tiles) == across * down
    assert tiles == sorted(tiles, key=lambda tile: (tile.top, tile.left))


@settings(FUZZ, max_examples=examples(40))
@given(
    grid=st.sampled_from(sorted(GRIDS)),
    width=SIDE,
    height=SIDE,
    share=st.floats(0.03, 1.5),
    overlap=st.floats(0, 0.9),
    units=st.sampled_from(["m m", "px px gsd", "m m gsd", "m px gsd"]),
    size=st.integers(1, 64),
)
def test_metres(grid: str, width: int, height: int, share: float, overlap: float, units: str, size: int) -> None:
    with open_raster(empty(width, height, grid)) as raster:
        middle = raster.resolution()
        assert middle is not None
        metres = share * max(width * middle[0], height * middle[1])
        first, second = units.split()[:2]
        gsd = metres / size if "gsd" in units else None
        tiling = Tiling(
            Length(float(size) if first == "px" else metres, first),  # type: ignore[arg-type]
            Length(float(int(size * overlap)) if second == "px" else metres * overlap, second),  # type: ignore[arg-type]
            gsd,
        )
        tiles = list(raster.tiles(tiling))
        check_exactly_once(tiles, width, height)
        for tile in tiles:
            resolution = raster.resolution(tile.top + tile.height / 2)
            assert resolution is not None
            side = metres / resolution[0]
            assert tile.width == min(width, max(1, round(side)))
            if gsd is None:
                assert tile[4:] == tile[2:4]
            else:
                assert tile.out_width == max(1, round(size * tile.width / max(1, round(side))))
                assert tile.height == height or tile.out_height == size


def test_a_scale_by_hand() -> None:
    """224 pixels of 5 m are 112 of 10 m; a raster of 100 rows is 200 of them high."""
    with open_raster(empty(300, 100, "UTM")) as raster:
        tiles = list(raster.tiles(Tiling(Length(224), Length(24), 5.0)))
        assert tiles == [Tile(left, 0, 112, 100, 224, 200) for left in (0, 100, 188)]
        assert list(raster.tiles(Tiling(Length(1120, "m"), Length(120, "m"), 5.0))) == tiles
        whole = [Tile(left, 0, 112, 100, 112, 100) for left in (0, 100, 188)]
        assert list(raster.tiles(Tiling(Length(1120, "m"), Length(120, "m")))) == whole


def test_degrees_take_wider_windows_to_the_north() -> None:
    """At 60 degrees north a degree of longitude is half of one of latitude."""
    with open_raster(empty(200, 280, "degrees")) as raster:  # 80 to 10 degrees north
        tiles = list(raster.tiles(Tiling(Length(10), gsd=110_000)))  # about 40 rows
        widths = {tile.top: tile.width for tile in tiles}
        assert [widths[top] for top in sorted(widths)] == sorted(widths.values(), reverse=True)
        for tile in tiles:
            latitude = 80 - 0.25 * (tile.top + tile.height / 2)
            assert tile.width / tile.height == pytest.approx(1 / math.cos(math.radians(latitude)), rel=0.04)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("224", Length(224, "px")),
        (" 224px ", Length(224, "px")),
        ("500 m", Length(500, "m")),
        ("0.5m", Length(0.5, "m")),
        (".5m", Length(0.5, "m")),
        ("64.0", Length(64, "px")),
    ],
)
def test_a_length(text: str, length: Length) -> None:
    assert Length.parse(text) == length == Length.parse(str(length))


@pytest.mark.parametrize("text", ["", "m", "-5", "5 km", "2.5", "2.5px", "1e3m", "nan", "inf", "5mm", "5 5"])
def test_no_length(text: str) -> None:
    with pytest.raises(ArchiveError, match=r"is not understood: give .*pixels, such as 224 or 224px, or metres"):
        Length.parse(text)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Tiling(Length(0)), "tiles of 0px are not possible"),
        (lambda: Tiling(Length(8), Length(8)), "overlap of 8px leaves nothing of tiles of 8px"),
        (lambda: Tiling(Length(80, "m"), Length(90, "m")), "overlap of 90m leaves nothing"),
        (lambda: Tiling(Length(8), Length(90, "m"), 10.0), "overlap of 90m leaves nothing of tiles of 8px"),
        (lambda: Tiling(Length(8), gsd=0.0), "ground sampling distance of 0 m is not possible"),
        (lambda: Tiling(Length(8), gsd=math.nan), "ground sampling distance of nan m is not possible"),
        (lambda: next(Tiling(Length(8), gsd=1.0).tiles(9, 9)), "at 1 m a pixel take a raster that knows its place"),
        (lambda: next(Tiling(Length(8, "m")).tiles(9, 9)), "tiles of 8m with an overlap of 0px take a raster that"),
        (lambda: next(Tiling(Length(8), Length(50, "m")).tiles(9, 9, lambda _: (5.0, 5.0))), "overlap of 50m leaves"),
    ],
)
def test_what_does_not_go_together(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        build()


def test_a_raster_without_a_place_is_named() -> None:
    text = '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    with open_raster(text, "pond.tif") as raster:
        with pytest.raises(ArchiveError, match=r"pond\.tif: tiles of 8px .* at 3 m a pixel take a raster"):
            next(raster.tiles(Tiling(Length(8), gsd=3.0)))
        assert len(list(raster.tiles(Tiling(Length(8))))) == 4
