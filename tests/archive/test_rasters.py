"""Values of windows: as the whole file has them, averaged, masked, of every driver; and one scale for a raster."""

import logging
import os
import re
import tracemalloc
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.transform import from_origin
from tiny import examples

from rsretrieval.archive.rasters import Length, Raster, Tile, Tiling, is_raster, open_raster
from rsretrieval.images import BrokenImageError, Rendering, RenderingError, Scale

WHOLE = Tile(0, 0, 40, 30, 40, 30)
RANDOM = np.random.default_rng(0)
PLACE = {"crs": "EPSG:32631", "transform": from_origin(5e5, 4.6e6, 10, 10)}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Rasterio warns of files without a place when they are written; of those that are read nothing may be left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def noise(bands: int = 1, dtype: str = "uint8", height: int = 30, width: int = 40) -> NDArray[Any]:
    """``(bands, height, width)``, none of which is 0."""
    return RANDOM.integers(1, 200, (bands, height, width)).astype(dtype)


def write(path: Path, values: NDArray[Any], driver: str = "GTiff", **more: Any) -> Path:
    count, height, width = values.shape
    profile = {"driver": driver, "count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **profile, **(PLACE | more)) as dataset:
        dataset.write(values)
    return path


def read(raster: Raster, tile: Tile = WHOLE, bands: list[int] | None = None) -> NDArray[Any]:
    values = raster.read(tile, bands)
    assert values is not None
    return values


def check_windows(path: Path | str, expected: NDArray[Any]) -> None:
    """Windows of the file against slices of all of it."""
    with open_raster(path) as raster:
        assert (raster.bands, raster.height, raster.width) == expected.shape
        assert raster.dtype == expected.dtype
        for tile in raster.tiles(Tiling(Length(16), Length(5))):
            rows, columns = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
            values = read(raster, tile)
            assert not np.ma.isMaskedArray(values)
            np.testing.assert_array_equal(values, np.moveaxis(expected[:, rows, columns], 0, -1))


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint8"), (12, "uint16"), (2, "int16"), (4, "float32")])
def test_geotiff(tmp_path: Path, bands: int, dtype: str) -> None:
    values = noise(bands, dtype)
    path = write(tmp_path / "a.tif", values, photometric="minisblack")
    if bands == 4:
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * 3
    check_windows(path, values)
    with open_raster(path) as raster:
        chosen = [bands, 1]
        np.testing.assert_array_equal(read(raster, WHOLE, chosen), np.moveaxis(values[[bands - 1, 0]], 0, -1))
        for wrong in (0, bands + 1):
            with pytest.raises(RenderingError, match=f"no band {wrong}: give numbers from 1 to {bands}"):
                raster.read(WHOLE, [wrong])


def test_png_with_a_world_file(tmp_path: Path) -> None:
    values = noise(3)
    path = write(tmp_path / "a.png", values, "PNG", crs=None, transform=None)
    Path(f"{path}.aux.xml").unlink(missing_ok=True)
    assert not is_raster(path)
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n500005\n4599995\n")
    assert is_raster(path)
    check_windows(path, values)


def test_jpeg_is_a_raster_by_its_world_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", noise(3), "JPEG", crs=None, transform=None)
    assert not is_raster(path)
    (tmp_path / "a.wld").write_text("10\n0\n0\n-10\n500005\n4599995\n")
    assert is_raster(path)
    for name, content in {"a.txt": b"a pond", "empty.tif": b"", "b.tif": b"II*\0" + b"\0" * 40}.items():
        (tmp_path / name).write_bytes(content)
        assert not is_raster(tmp_path / name)
    assert not is_raster(tmp_path)
    assert not is_raster(tmp_path / "none.tif")


def test_jpeg2000(tmp_path: Path) -> None:
    values = noise(3, "uint16")
    try:
        path = write(tmp_path / "a.jp2", values, "JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    except rasterio.errors.RasterioError:
        pytest.skip("this GDAL has no JP2OpenJPEG")
    assert is_raster(path)
    check_windows(path, values)


def test_the_text_of_a_vrt(tmp_path: Path) -> None:
    """Two files beside each other; a scale that is stated is left, one that is applied is applied."""
    parts = [write(tmp_path / f"{name}.tif", noise(1, "uint16")) for name in "ab"]
    sources = "".join(
        f"<{kind}><SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand>"
        '<SrcRect xOff="0" yOff="0" xSize="40" ySize="30"/>'
        f'<DstRect xOff="{40 * n}" yOff="0" xSize="40" ySize="30"/>{applied}</{kind}>'
        for n, (path, kind, applied) in enumerate(
            [(parts[0], "SimpleSource", ""), (parts[1], "ComplexSource", "<ScaleOffset>7</ScaleOffset>")]
        )
    )
    text = (
        '<VRTDataset rasterXSize="80" rasterYSize="30"><VRTRasterBand dataType="UInt16" band="1"><Scale>0.5</Scale>'
        f"{sources}</VRTRasterBand></VRTDataset>"
    )
    first, second = (rasterio.open(path).read() for path in parts)
    check_windows(text, np.concatenate([first, second + 7], axis=2))
    (tmp_path / "c.vrt").write_text(text)
    check_windows(tmp_path / "c.vrt", np.concatenate([first, second + 7], axis=2))


def test_an_integer_factor_is_the_mean_of_whole_blocks(tmp_path: Path) -> None:
    values = noise(3, "float32")
    blocks = values.reshape(3, 6, 5, 8, 5).mean((2, 4))
    with open_raster(write(tmp_path / "a.tif", values)) as raster:
        tiling = Tiling(Length(4), gsd=50.0)  # 50 m of 10 m
        tiles = list(raster.tiles(tiling))
        assert {(tile.width, tile.height, tile.out_width, tile.out_height) for tile in tiles} == {(20, 20, 4, 4)}
        assert [(tile.left, tile.top) for tile in tiles] == [(0, 0), (20, 0), (0, 10), (20, 10)]
        for tile in tiles:
            rows, columns = slice(tile.top // 5, tile.top // 5 + 4), slice(tile.left // 5, tile.left // 5 + 4)
            np.testing.assert_allclose(read(raster, tile), np.moveaxis(blocks[:, rows, columns], 0, -1), rtol=1e-5)


def test_overviews_are_used(tmp_path: Path) -> None:
    """The overview is made to hold other values than the file, which tells where a window is read from."""
    path = write(tmp_path / "a.tif", noise(1), tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2], Resampling.nearest)
    with rasterio.open(path, "r+", overview_level=0) as overview:
        overview.write(np.full((1, 15, 20), 250, np.uint8))
    with open_raster(path) as raster:
        assert (read(raster, Tile(0, 0, 40, 30, 20, 15)) == 250).all()
        assert read(raster).max() < 250


def test_growing_is_smooth(tmp_path: Path) -> None:
    """A ramp stays one: cubic interpolation is exact for it, away from the border."""
    ramp = np.broadcast_to(10.0 * np.arange(40, dtype=np.float32), (1, 30, 40))
    with open_raster(write(tmp_path / "a.tif", ramp)) as raster:
        values = read(raster, Tile(10, 10, 10, 10, 40, 40))[..., 0]
    centres = 10 + (np.arange(40) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(values, np.broadcast_to(10 * centres, (40, 40)), atol=0.01)


# --- Masks.


def masked_file(folder: Path, kind: str) -> tuple[Path, NDArray[Any], NDArray[np.bool_]]:
    """A file of three bands whose upper left corner of 17 x 11 pixels has no data; values and where they are valid."""
    values = noise(3, "float32" if kind == "NaN" else "uint8")
    valid = np.ones((30, 40), bool)
    valid[:11, :17] = False
    path = folder / "a.tif"
    if kind in ("no-data value", "NaN"):
        values[:, ~valid] = 0 if kind == "no-data value" else np.nan
        return write(path, values, nodata=0 if kind == "no-data value" else None), values, valid
    alpha = np.where(valid, 90, 0).astype(np.uint8)[None]  # half transparent is valid
    if kind == "alpha":
        write(path, np.concatenate([values, alpha]), photometric="RGB", alpha="yes")
    elif kind == "alpha of two bands":
        write(path, np.concatenate([values[:1], alpha]), alpha="yes")
        return path, values[:1], valid
    elif kind == "alpha of many bands":
        values = np.concatenate([values, values, values])
        write(path, np.concatenate([values, alpha]), photometric="minisblack")
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * 8 + [ColorInterp.alpha]
        with rasterio.open(path) as dataset:
            assert MaskFlags.alpha not in dataset.mask_flag_enums[0]  # or the test is for nothing
    else:
        write(path, values)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=kind == "internal mask"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(valid)
        assert Path(f"{path}.msk").exists() == (kind == ".msk")
    return path, values, valid


KINDS = ["no-data value", "NaN", "alpha", "alpha of two bands", "alpha of many bands", ".msk", "internal mask"]


@pytest.mark.parametrize("kind", KINDS)
def test_masks(tmp_path: Path, kind: str) -> None:
    path, values, valid = masked_file(tmp_path, kind)
    with open_raster(path) as raster:
        assert raster.bands == len(values)
        whole = read(raster)
        assert np.ma.isMaskedArray(whole)
        np.testing.assert_array_equal(np.ma.getmaskarray(whole), np.broadcast_to(~valid[..., None], whole.shape))
        np.testing.assert_array_equal(np.ma.compressed(whole), np.moveaxis(values, 0, -1)[valid].ravel())
        assert raster.read(Tile(0, 0, 17, 11, 17, 11)) is None
        assert raster.read(Tile(2, 2, 12, 8, 3, 2)) is None
        assert not np.ma.isMaskedArray(read(raster, Tile(17, 11, 9, 9, 9, 9)))
        if kind not in ("NaN", "alpha of many bands"):
            check_averages_of_valid_pixels(raster, values, valid)
        if values.dtype == np.uint8 and raster.bands == 3:
            picture = Rendering()(whole)
            np.testing.assert_array_equal(picture, np.where(valid[..., None], np.moveaxis(values, 0, -1), 0))


def check_averages_of_valid_pixels(raster: Raster, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """No value of a pixel without data comes into the mean; a block of such alone is masked."""
    shrunk = read(raster, Tile(0, 0, 40, 30, 8, 6))
    for row, column in np.ndindex(6, 8):
        block = slice(5 * row, 5 * row + 5), slice(5 * column, 5 * column + 5)
        if not valid[block].any():
            assert np.ma.getmaskarray(shrunk)[row, column].all()
        else:
            assert not np.ma.getmaskarray(shrunk)[row, column].any()
            mean = values[(slice(None), *block)][:, valid[block]].mean(1)
            np.testing.assert_allclose(shrunk[row, column], mean, atol=0.51)


def test_each_band_has_its_own_no_data(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 3, (3, 30, 40)).astype(np.uint8)
    with open_raster(write(tmp_path / "a.tif", values, nodata=0)) as raster:
        np.testing.assert_array_equal(np.ma.getmaskarray(read(raster)), np.moveaxis(values == 0, 0, -1))
        np.testing.assert_array_equal(np.ma.getmaskarray(read(raster, WHOLE, [2])), values[1, :, :, None] == 0)


@pytest.mark.parametrize("kind", ["no-data value", "alpha", ".msk"])
def test_growing_takes_no_value_from_where_there_is_none(tmp_path: Path, kind: str) -> None:
    path, values, valid = masked_file(tmp_path, kind)
    values[:, valid] = 150
    masked = np.concatenate([values, np.where(valid, 255, 0)[None]]) if kind == "alpha" else values
    with rasterio.open(path, "r+") as dataset:
        dataset.write(masked.astype(np.uint8))
    with open_raster(path) as raster:
        grown = read(raster, Tile(10, 5, 12, 12, 48, 48))
        assert set(np.ma.compressed(grown).tolist()) == {150}
        assert 0.2 < np.ma.getmaskarray(grown).mean() < 0.35  # 7 x 6 of 12 x 12


def test_nan_spoils_the_mean_and_is_no_data(tmp_path: Path) -> None:
    path, _, valid = masked_file(tmp_path, "NaN")
    with open_raster(path) as raster:
        shrunk = read(raster, Tile(0, 0, 40, 30, 8, 6))
        blocks = valid.reshape(6, 5, 8, 5)
        mask = np.ma.getmaskarray(shrunk)
        assert mask[~blocks.any((1, 3))].all()
        assert not mask[blocks.all((1, 3))].any()
        assert np.isfinite(np.ma.compressed(shrunk)).all()


def test_a_palette(tmp_path: Path) -> None:
    colours = {0: (10, 20, 30, 255), 1: (250, 0, 90, 255), 2: (0, 0, 0, 0), 3: (7, 8, 9, 255)}
    indices = RANDOM.integers(0, 4, (1, 30, 40)).astype(np.uint8)
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", "GTiff", 40, 30, 1, dtype="uint8", **PLACE) as dataset:
        dataset.write_colormap(1, colours)
        dataset.write(indices)
    with rasterio.open(path) as dataset:
        table = np.array([dataset.colormap(1)[n] for n in range(4)])
    with open_raster(path) as raster:
        assert (raster.bands, raster.dtype) == (3, np.uint8)
        values = read(raster)
        np.testing.assert_array_equal(np.ma.getdata(values), table[indices[0]][..., :3])
        hidden = table[indices[0]][..., 3] == 0
        np.testing.assert_array_equal(np.ma.getmaskarray(values), np.broadcast_to(hidden[..., None], values.shape))
        np.testing.assert_array_equal(np.ma.getdata(read(raster, WHOLE, [3, 1])), table[indices[0]][..., [2, 0]])
        assert {tuple(colour) for colour in np.ma.getdata(read(raster, Tile(0, 0, 40, 30, 7, 7))).reshape(-1, 3)} <= {
            tuple(colour) for colour in table[:, :3].tolist()
        }


def test_bands_of_several_types(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{kind}.tif", noise(1, kind)) for kind in ("uint8", "int16", "float32")]
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n}"><SimpleSource><SourceFilename>{path}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, (path, kind) in enumerate(zip(parts, ("Byte", "Int16", "Float32"), strict=True), 1)
    )
    expected = np.concatenate([rasterio.open(path).read() for path in parts], dtype=np.float32)
    check_windows(f'<VRTDataset rasterXSize="40" rasterYSize="30">{bands}</VRTDataset>', expected)


# --- One scale for the whole raster.


def test_percentiles_of_the_whole_raster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = (RANDOM.gamma(2, 300, (4, 300, 400))).astype(np.uint16) + 1
    values[3] *= 20  # near infrared, which is no part of the picture
    values[:, :50] = 0
    path = write(tmp_path / "a.tif", values, nodata=0, photometric="minisblack")
    caplog.set_level(logging.INFO, "rsretrieval")
    with open_raster(path, "pond.tif") as raster:
        limits = raster.limits(Scale.parse("percentile 2 98"))
        low, high = np.percentile(values[:3, 50:], (2, 98))
        assert (limits.rule, limits.low, limits.high) == ("minmax", low, high)
        (record,) = caplog.records
        assert re.match(r"pond\.tif: 'percentile 2 98' of the whole raster is 'minmax \S+ \S+'", record.getMessage())
        assert raster.limits(Scale.parse("percentile 2 98"), [4]).high == np.percentile(values[3, 50:], 98)
        caplog.clear()
        rendering = Rendering(limits)
        tiles = [Tile(left, 60, 80, 80, 80, 80) for left in (0, 80)]
        both = np.concatenate([rendering(read(raster, tile)) for tile in tiles], axis=1)
        np.testing.assert_array_equal(both, rendering(read(raster, Tile(0, 60, 160, 80, 160, 80))))
        assert both.min() == 0
        assert both.max() == 255
        assert not caplog.records  # of clipping, which percentiles ask for


def test_percentiles_of_a_large_raster_come_from_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsretrieval.archive.rasters.limits.SAMPLE", 5000)
    values = RANDOM.normal(1000, 200, (1, 300, 400)).astype(np.float32)
    with open_raster(write(tmp_path / "a.tif", values)) as raster:
        limits = raster.limits(Scale.parse("percentile 10 90"))
        assert [limits.low, limits.high] == pytest.approx(np.percentile(values, (10, 90)), rel=0.03)
        assert limits.low not in np.percentile(values, (10, 90))


def test_the_range_of_the_whole_raster_is_exact(tmp_path: Path) -> None:
    values = noise(3, "int16", 1100, 1500)
    values[:, 1099, 1499] = 3000  # in the last window
    values[1, 1030, 5], values[2, 7, 7] = -50, -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999, photometric="minisblack")
    with open_raster(path) as raster:
        assert raster.limits(Scale.parse("minmax")) == Scale("minmax", -50, 3000)
        assert raster.limits(Scale.parse("minmax"), [1]) == Scale("minmax", 1, 3000)


@pytest.mark.parametrize("scale", ["dtype", "minmax 0 100", "minmax", "percentile 2 98"])
def test_scales_that_stay(tmp_path: Path, scale: str) -> None:
    parsed = Scale.parse(scale)
    with open_raster(write(tmp_path / "a.tif", noise(3))) as raster:
        assert raster.limits(parsed) is parsed  # 8 bits
    with open_raster(write(tmp_path / "b.tif", noise(3, "uint16"))) as raster:
        assert (raster.limits(parsed) is parsed) == (scale in ("dtype", "minmax 0 100"))


def test_limits_at_the_edge(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.zeros((1, 30, 40), np.float32)
    values[0, 0, :3] = 5, np.inf, np.nan
    path = write(tmp_path / "a.tif", values)
    with open_raster(path, "pond.tif") as raster:
        assert raster.limits(Scale.parse("minmax")) == Scale("minmax", 0, 5)
        assert raster.limits(Scale.parse("percentile 2 98")) == Scale("minmax", 0, 5)
        assert "pond.tif: the percentiles of 'percentile 2 98' are both 0: its whole range is taken" in caplog.messages
    with open_raster(write(tmp_path / "b.tif", np.full((1, 30, 40), 7, np.uint16))) as raster:
        assert (Rendering(raster.limits(Scale.parse("minmax")))(read(raster)) == 0).all()
    for scale in ("minmax", "percentile 2 98"):
        with (
            open_raster(write(tmp_path / "c.tif", np.zeros((1, 30, 40), np.uint16), nodata=0), "c.tif") as raster,
            pytest.raises(BrokenImageError, match=r"c\.tif: it has no value at all"),
        ):
            raster.limits(Scale.parse(scale))


def test_fixed_limits_that_are_given_still_warn(caplog: pytest.LogCaptureFixture) -> None:
    Scale("minmax", 0, 1, clips=True)(np.array([[9]], np.uint16))
    assert not caplog.records
    Scale("minmax", 0, 1)(np.array([[9]], np.uint16))
    assert "lie beyond it" in caplog.text


# --- What is damaged, large, or read by many.


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("GTiff", {}),
        ("GTiff", {"compress": "lzw", "tiled": True, "blockxsize": 64, "blockysize": 64}),
        ("GTiff", {"compress": "jpeg"}),
        ("PNG", {}),
        ("JPEG", {}),
        ("JP2OpenJPEG", {}),
    ],
    ids=["strips", "tiles", "jpeg in TIFF", "PNG", "JPEG", "JPEG 2000"],
)
@pytest.mark.parametrize("size", [64, 300])
def test_a_file_that_is_cut_off(tmp_path: Path, driver: str, options: dict[str, Any], size: int) -> None:
    path = write(tmp_path / "a.file", noise(3, "uint8", 300, 300), driver, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_raster(path, "pond") as raster:
        last = list(raster.tiles(Tiling(Length(size))))[-1]
        message = (
            f"pond: the window of {size} x {size} pixels at column {300 - size}, row {300 - size} cannot be read: "
        )
        with pytest.raises(BrokenImageError, match=f"^{message}.*(rror|failed|libjpeg)"):
            raster.read(last)


def test_no_raster(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"a pond")
    for place in (tmp_path / "a.tif", tmp_path / "none.tif", tmp_path, "<VRTDataset", "<VRTDataset/>"):
        with pytest.raises(BrokenImageError, match=r"^pond: GDAL cannot open it: "):
            open_raster(place, "pond")


def test_a_file_of_several_rasters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = noise(3), noise(3)
    for number, values in enumerate((first, second)):
        more = {"APPEND_SUBDATASET": "YES" if number else "NO"}
        write(tmp_path / "a.gpkg", values, "GPKG", RASTER_TABLE=f"pond{number}", **more)
        write(tmp_path / "a.tif", values, **more)
    message = r"pond: it has no band of its own; give one of the rasters in it: GPKG:\S+:pond0, GPKG:\S+:pond1"
    with pytest.raises(RenderingError, match=message):
        open_raster(tmp_path / "a.gpkg", "pond")
    check_windows(f"GTIFF_DIR:2:{tmp_path / 'a.tif'}", second)
    caplog.clear()
    check_windows(tmp_path / "a.tif", first)
    assert "of the rasters in it, only the first is read: GTIFF_DIR:1:" in caplog.text


def test_no_warning_of_rasterio_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(), crs=None, transform=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_raster(path)
        with open_raster(path) as raster:
            assert not raster.is_georeferenced


def test_tags(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise())
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2024:05:01 10:30:07")
        dataset.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2024-05-01 10:30:07")
    with open_raster(path) as raster:
        assert raster.tags["TIFFTAG_DATETIME"] == "2024:05:01 10:30:07"
        assert raster.tags["ACQUISITIONDATETIME"] == "2024-05-01 10:30:07"


def test_several_threads(tmp_path: Path) -> None:
    values = noise(3, "uint16", 200, 200)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with open_raster(path) as raster, ThreadPoolExecutor(8) as threads:
        tiles = list(raster.tiles(Tiling(Length(24), Length(8))))
        places = threads.map(raster.footprint, tiles)
        for tile, window, place in zip(tiles, threads.map(raster.read, tiles), places, strict=True):
            rows, columns = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
            np.testing.assert_array_equal(window, np.moveaxis(values[:, rows, columns], 0, -1))
            assert place == raster.footprint(tile)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """20,000 x 20,000 pixels, of which hardly any are in the file: 400 MB that must not be held at once.

    The cache of GDAL is left as it is, 5 % of the memory; so it is the arrays and the process that are measured.
    """
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 20_000, "height": 20_000, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", **profile, **PLACE, tiled=True, SPARSE_OK=True, compress="deflate") as dataset:
        dataset.write(np.full((1, 100, 100), 9, np.uint8), window=rasterio.windows.Window(9950, 9950, 100, 100))
    assert os.stat(path).st_size < 3e6
    with open_raster(path) as raster:
        tracemalloc.start()
        tiles = raster.tiles(Tiling(Length(256), Length(16), gsd=40.0))
        shown = {tile: raster.read(tile) is not None for tile in tiles}
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(shown) == 21**2  # windows of 1,024 pixels every 960
    for tile, is_shown in shown.items():
        assert is_shown == all(start < 10_050 and start + 1024 > 9950 for start in tile[:2])
    assert peak < 5e6


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    left=st.integers(0, 39), top=st.integers(0, 29), width=st.integers(1, 40), height=st.integers(1, 30),
    out=st.tuples(st.integers(1, 60), st.integers(1, 60)), valid=st.floats(0, 1),
)  # fmt: skip
def test_whatever_window(left: int, top: int, width: int, height: int, out: tuple[int, int], valid: float) -> None:
    """Of the size that was asked for, within the range of valid values of the window; None only without any."""
    tile = Tile(left, top, min(width, 40 - left), min(height, 30 - top), *out)
    random = np.random.default_rng(int(valid * 1000))
    values = np.where(random.random((30, 40)) < valid, random.integers(100, 200, (30, 40)), 0).astype(np.uint8)
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=40, height=30, count=1, dtype="uint8", nodata=0, **PLACE) as dataset:
            dataset.write(values[None])
        with open_raster(memory.name) as raster:
            found = raster.read(tile)
    window = values[top : top + tile.height, left : left + tile.width]
    grows = (out[0] >= tile.width and out[1] >= tile.height) and out != tile[2:4]
    inside = window[window > 0]
    if found is None:
        assert (window == 0).any() if grows else inside.size == 0
        return
    assert found.shape == (out[1], out[0], 1)
    assert 0 not in np.ma.compressed(found)
    if not grows:
        assert inside.min() - 1 <= np.ma.compressed(found).min()
        assert np.ma.compressed(found).max() <= inside.max() + 1
    if out == tile[2:4]:
        np.testing.assert_array_equal(np.ma.filled(found, 0)[..., 0], window)
