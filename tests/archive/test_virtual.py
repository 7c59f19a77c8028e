"""Bands of several files as one raster, against NumPy."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from band_files import NORTH, WEST, enlarged, read, write_raster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import from_origin
from tiny import examples

from rsretrieval.archive.rasters.raster import open_raster
from rsretrieval.archive.rasters.scenes import BandFile, names_of
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.archive.rasters.virtual import scene, stack
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError

FUZZ = settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
RNG = np.random.default_rng(17)


def numbers(size: int, least: int = 1, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return RNG.integers(least, 250, (size, size)).astype(dtype)


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, list[tuple[int, str, float, float, float | None, int]]]:
    """Side of the finest grid, and of each band: factor, type, scale, offset, stated no-data, seed."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 6]), min_size=1, max_size=3))
    bands = [
        (
            factor,
            draw(st.sampled_from(["uint8", "uint16", "int16", "float32"])),
            draw(st.sampled_from([1.0, 0.0001, 2.75e-05, 3.0])),
            draw(st.sampled_from([0.0, -0.1, 149.0])),
            draw(st.sampled_from([None, 0.0, 7.0])),
            draw(st.integers(0, 99)),
        )
        for factor in [1, *factors]
    ]
    return draw(st.sampled_from([6, 12, 18])), bands


def check(band: Any, values: Any, stored: Any, scaled: bool) -> None:
    """``stored``: what the file holds, resampled, NaN where there is no data."""
    factor, dtype, scale, offset, nodata, _ = band
    empty = np.isnan(stored)
    assert (np.isnan(values[empty]) if scaled else values[empty] == nodata).all()
    slack = np.full(stored.shape, 1e-5 * abs(scale) * 12 + 1e-5 * abs(offset))
    if factor > 1 and (scale, offset) == (1, 0):
        # means of stored integers are rounded, and GDAL moves them off the value that is no data
        slack += 0.5 * (dtype != "float32") + (0 if nodata is None else 1.0 * (abs(stored - nodata) <= 1))
    assert (abs(values - (stored * scale + offset)) <= slack)[~empty].all()


@given(layers())
@FUZZ
def test_every_value_is_the_one_of_its_file_resampled_scaled_and_masked(case: Any) -> None:
    side, bands = case
    scaled = any((scale, offset) != (1, 0) for _, _, scale, offset, _, _ in bands)
    with tempfile.TemporaryDirectory() as folder:
        sources, expected = [], []
        for number, (factor, dtype, scale, offset, nodata, seed) in enumerate(bands):
            values = np.random.default_rng(seed).integers(0, 12, (side // factor, side // factor)).astype(dtype)
            file = write_raster(Path(folder) / f"{number}.tif", values, 10 * factor)
            sources.append(BandFile(str(file), 1, f"b{number}", scale, offset, nodata))
            expected.append(enlarged(values, factor, nodata))
        place = stack(sources)
        got = read(place)
        assert got.dtype == ("float32" if scaled else np.result_type(*(dtype for _, dtype, *_ in bands)))
        for band, values, wanted in zip(bands, got, expected, strict=True):
            check(band, values, wanted, scaled)
        top, left = side // 3, side // 2 - 1
        part = read(place, window=((top, side - 1), (left, side)))
        np.testing.assert_array_equal(part, got[:, top : side - 1, left:side])


def test_no_data_of_a_coarse_band_does_not_bleed_into_its_neighbours(tmp_path: Path) -> None:
    coarse = np.full((6, 6), 2000, np.uint16)
    coarse[2:4, 2:4] = 0
    fine = write_raster(tmp_path / "fine.tif", np.full((12, 12), 1000, np.uint16), 10)
    file = write_raster(tmp_path / "coarse.tif", coarse, 20)
    values = read(stack([BandFile(str(fine), 1, "a", 1e-4, -0.1, 0), BandFile(str(file), 1, "b", 1e-4, -0.1, 0)]))
    empty = np.zeros((12, 12), bool)
    empty[5:7, 5:7] = True  # what lies a quarter of a coarse pixel from a valid one has its value
    np.testing.assert_array_equal(np.isnan(values[1]), empty)
    np.testing.assert_allclose(values[1][~empty], 0.1, atol=1e-6)  # 2000 · 0.0001 - 0.1, whatever lies beside
    np.testing.assert_allclose(values[0], 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_no_data_that_is_nan_stays_no_data(tmp_path: Path, scale: float) -> None:
    coarse = np.arange(36, dtype=np.float32).reshape(6, 6)
    wanted = enlarged(coarse, 2) * scale
    coarse[2:4, 2:4] = np.nan
    fine = write_raster(tmp_path / "fine.tif", np.ones((12, 12), np.float32), 10)
    file = write_raster(tmp_path / "coarse.tif", coarse, 20, nodata=np.nan)
    values = read(stack([BandFile(str(fine), 1, "a"), BandFile(str(file), 1, "b", scale)]))[1]
    away = np.ones((12, 12), bool)
    away[3:9, 3:9] = False
    assert np.isnan(values[5:7, 5:7]).all()
    np.testing.assert_allclose(values[away], wanted[away], rtol=1e-6)


def test_resampling_can_be_the_nearest(tmp_path: Path) -> None:
    coarse = numbers(3)
    files = [write_raster(tmp_path / "a.tif", numbers(6), 10), write_raster(tmp_path / "b.tif", coarse, 20)]
    values = read(stack([BandFile(str(file)) for file in files], "nearest"))
    np.testing.assert_array_equal(values[1], coarse.repeat(2, 0).repeat(2, 1))


def test_names_order_and_place_are_those_of_the_bands_and_the_finest_file(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "three & <more>.tif", np.stack([numbers(6), numbers(6), numbers(6)]), 10)
    values = read(str(file))
    coarse = write_raster(tmp_path / "coarse.tif", numbers(2), 30)
    place = stack([BandFile(str(coarse), 1, "c"), BandFile(str(file), 3, "third"), BandFile(str(file), 1, "first")])
    with rasterio.open(place) as dataset:
        assert dataset.descriptions == ("c", "third", "first")
        assert dataset.crs.to_epsg() == 32632
        assert dataset.transform == from_origin(WEST, NORTH, 10, 10)
        np.testing.assert_array_equal(dataset.read([2, 3]), values[[2, 0]])


def test_a_file_as_it_is_stays_a_file_and_anything_else_becomes_a_vrt(tmp_path: Path, monkeypatch: Any) -> None:
    file = write_raster(tmp_path / "a.tif", np.stack([numbers(4), numbers(4)]), 10, nodata=0)
    monkeypatch.chdir(tmp_path)
    whole = [BandFile("a.tif", 1, "x", nodata=0), BandFile("a.tif", 2, "y")]
    taken = scene(whole, None, None, "nowhere")
    assert taken.place == str(file)
    assert (taken.files, taken.bands, taken.datetime_origin) == ((str(file),), ("x", "y"), "")
    swapped = scene(whole[::-1], None, None, "")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(read(swapped.place), read(str(file))[::-1])
    for other in (BandFile(str(file), 2, nodata=3), BandFile(str(file), 2, scale=2.0)):
        assert scene([whole[0].__class__(str(file)), other], None, None, "").place.startswith("<VRTDataset")


def test_masks_and_transparency_of_the_dataset_are_kept(tmp_path: Path) -> None:
    alpha = np.zeros((4, 4), np.uint8)
    alpha[:, 1:] = 255
    rgba = np.stack([numbers(4, dtype="uint8"), numbers(4, dtype="uint8"), numbers(4, dtype="uint8"), alpha])
    file = write_raster(tmp_path / "rgba.tif", rgba, 20, photometric="RGB", alpha="YES")
    fine = write_raster(tmp_path / "fine.tif", numbers(8, dtype="uint8"), 10)
    with open_raster(stack([BandFile(str(file), 3), BandFile(str(file), 1)])) as raster:
        values = raster.read(Tile(0, 0, 4, 4, 4, 4))
    assert isinstance(values, np.ma.MaskedArray)
    np.testing.assert_array_equal(values.mask, np.repeat(alpha[..., None] == 0, 2, 2))
    np.testing.assert_array_equal(values.data[:, 1:], np.moveaxis(rgba[[2, 0]], 0, 2)[:, 1:])
    with rasterio.open(stack([BandFile(str(fine)), BandFile(str(file), 1)])) as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, alpha.repeat(2, 0).repeat(2, 1) > 0)
    assert scene([BandFile(str(file), band) for band in (1, 2, 3)], None, None, "").place == str(file)


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, col / 10, 50 - row / 10) for row in (0, 4) for col in (0, 4)]
    files = [tmp_path / "vv.tif", tmp_path / "vh.tif"]
    for file in files:
        write_raster(file, numbers(4), 10, crs="EPSG:4326", transform=rasterio.Affine.identity(), gcps=points)
    with rasterio.open(stack([BandFile(str(file)) for file in files])) as dataset:
        kept, crs = dataset.gcps
        assert [(point.row, point.col, point.x, point.y) for point in kept] == [
            (point.row, point.col, point.x, point.y) for point in points
        ]
        assert crs.to_epsg() == 4326


def test_rational_polynomials_are_kept(tmp_path: Path) -> None:
    rows, columns = [0.0, 0.0, -1.0] + [0.0] * 17, [0.0, 1.0] + [0.0] * 18
    one = [1.0] + [0.0] * 19
    rpc = RPC(0.0, 500.0, 48.0, 0.1, one, rows, 2.0, 2.0, 11.0, 0.1, one, columns, 2.0, 2.0, 1.0, 0.5)
    file = write_raster(tmp_path / "a.tif", numbers(4), 10, crs=None, transform=None, rpcs=rpc)
    with rasterio.open(stack([BandFile(str(file), 1, "a", 2.0)])) as dataset:
        assert dataset.rpcs.to_dict() == rpc.to_dict()


@pytest.mark.parametrize(
    ("size", "pixel", "options"),
    [
        (6, 10.0, {"crs": "EPSG:32633"}),
        (6, 10.0, {"transform": from_origin(WEST + 1, NORTH, 10, 10)}),
        (3, 21.0, {}),
        (5, 10.0, {}),
    ],
)
def test_files_of_another_place_are_refused_by_name(tmp_path: Path, size: int, pixel: float, options: Any) -> None:
    first = write_raster(tmp_path / "first.tif", numbers(6), 10)
    other = write_raster(tmp_path / "other.tif", numbers(size), pixel, **options)
    with pytest.raises(ArchiveError, match=r"(?s)first\.tif.*other\.tif.*one footprint.*EPSG:32632"):
        stack([BandFile(str(first)), BandFile(str(other))])


def test_what_cannot_be_a_band_is_refused_by_name(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", numbers(4), 10)
    with pytest.raises(ArchiveError, match=r"a\.tif' has 1 bands, and band 2 is asked for"):
        stack([BandFile(str(file), 2)])
    waves = write_raster(tmp_path / "waves.tif", numbers(4).astype(np.complex64), 10)
    with pytest.raises(ArchiveError, match=r"complex64 are no picture .*waves\.tif"):
        stack([BandFile(str(waves))])
    with pytest.raises(BrokenImageError, match=r"nothing\.tif' cannot be opened"):
        stack([BandFile(str(tmp_path / "nothing.tif"))])
    with pytest.raises(ArchiveError, match="no band is named"):
        names_of(" , ")
    assert names_of("B04,B03 B02") == ["B04", "B03", "B02"]
    assert names_of(None) == []


def test_a_mean_that_equals_no_data_is_a_value(tmp_path: Path) -> None:
    """A quarter of the way from 6 to 10 is 7, which stands for no data in the file."""
    coarse = np.tile(np.array([6, 10], np.float32), (6, 3))
    fine = write_raster(tmp_path / "fine.tif", np.ones((12, 12), np.uint8), 10)
    file = write_raster(tmp_path / "coarse.tif", coarse, 20)
    values = read(stack([BandFile(str(fine), 1, "a", 0.5), BandFile(str(file), 1, "b", 1.0, 0.0, 7.0)]))[1]
    wanted = enlarged(coarse, 2, 7.0)
    assert (wanted == 7).any()
    assert not np.isnan(wanted).any()
    np.testing.assert_allclose(values, wanted, atol=1e-5)
