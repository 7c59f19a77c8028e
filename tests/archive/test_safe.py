"""Sentinel-2 products in SAFE folders, made here with lossless JPEG 2000 files."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from band_files import enlarged, read, write_raster

from rsretrieval.archive.rasters.raster import open_raster
from rsretrieval.archive.rasters.safe import BANDS, is_safe, read_safe
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError, Rendering

SIDES = {10: 24, 20: 12, 60: 4}  # pixels at so many metres
FINEST = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20, "B09": 60}
FINEST |= {"B10": 60, "B11": 20, "B12": 20}
STEM = "T32TPR_20230115T101329"
START, SENSED = "2023-01-15T10:13:29.024Z", "2023-01-15T10:17:02.500Z"


def stored(band: str, metres: int) -> np.ndarray[Any, Any]:
    """Values of a band at a resolution; other ones at each, and some that are no data."""
    values = np.random.default_rng([BANDS.index(band), metres]).integers(1, 6000, (SIDES[metres],) * 2)
    values[:2, :1] = 0
    return values.astype(np.uint16)


def metadata(level: str, offsets: dict[int, int] | None, quantification: str = "10000") -> str:
    of = {"2A": ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET"), "1C": ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET")}
    name, offset = of[level]
    added = "".join(f'<{offset} band_id="{band}">{value}</{offset}>' for band, value in (offsets or {}).items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><n1:Level-{level}_User_Product '
        f'xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd"><n1:General_Info>'
        f"<Product_Info><PRODUCT_START_TIME>{START}</PRODUCT_START_TIME><Datatake>"
        "<DATATAKE_SENSING_START>2023-01-15T10:13:30Z</DATATAKE_SENSING_START></Datatake></Product_Info>"
        f'<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST><{name} unit="none">{quantification}</{name}>'
        f"<AOT_QUANTIFICATION_VALUE>1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>"
        f"<OFFSETS>{added}</OFFSETS></Product_Image_Characteristics></n1:General_Info></n1:Level-{level}_User_Product>"
    )


def product(folder: Path, level: str = "2A", offsets: dict[int, int] | None = None, bands: Any = None) -> Path:
    """A product of the layout since 2016; level 2A has each band at its own and at all coarser resolutions."""
    safe = folder / f"S2A_MSIL{level}_20230115T101329_N0509_R022_T32TPR_20230115T120000.SAFE"
    granule = safe / "GRANULE" / f"L{level}_T32TPR_A039527_20230115T101329"
    for band in bands or (b for b in BANDS if level == "1C" or b != "B10"):
        for metres in [m for m in SIDES if m >= FINEST[band]] if level == "2A" else [FINEST[band]]:
            name = f"R{metres}m/{STEM}_{band}_{metres}m.jp2" if level == "2A" else f"{STEM}_{band}.jp2"
            write_raster(granule / "IMG_DATA" / name, stored(band, metres), metres, driver="JP2OpenJPEG")
    (safe / f"MTD_MSIL{level}.xml").write_text(metadata(level, offsets))
    (granule / "MTD_TL.xml").write_text(f"<Tile><SENSING_TIME>{SENSED}</SENSING_TIME></Tile>")
    return safe


@pytest.fixture(scope="module")
def level_2a(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = product(tmp_path_factory.mktemp("2a"), "2A", {number: -1000 - number for number in range(13)})
    write_raster(folder / "GRANULE/x.tif", stored("B02", 60), 60)  # no granule
    for name in ("SCL_20m", "TCI_10m"):
        file = next((folder / "GRANULE").glob("L2A*")) / f"IMG_DATA/R20m/{STEM}_{name}.jp2"
        write_raster(file, stored("B02", 20), 20, driver="JP2OpenJPEG")
    return folder


@pytest.fixture(scope="module")
def level_1c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return product(tmp_path_factory.mktemp("1c"), "1C")


def reflectance(band: str, metres: int, finest: int, offset: int) -> np.ndarray[Any, Any]:
    return (enlarged(stored(band, metres), metres // finest, 0) + offset) / 10000


def test_true_colour_of_level_2a_is_reflectance_with_the_offset_of_each_band(level_2a: Path) -> None:
    scene = read_safe(level_2a)
    values = read(scene.place)
    assert values.dtype == np.float32
    for got, band in zip(values, ("B04", "B03", "B02"), strict=True):
        wanted = (stored(band, 10) + (-1000.0 - BANDS.index(band))) / 10000
        wanted[stored(band, 10) == 0] = np.nan
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert (scene.bands, scene.scale) == (("B04", "B03", "B02"), "minmax 0 0.2")
    assert [Path(file).name for file in scene.files] == [f"{STEM}_{band}_10m.jp2" for band in ("B04", "B03", "B02")]
    assert all(Path(file).is_file() for file in scene.files)
    assert scene.datetime == datetime(2023, 1, 15, 10, 17, 2, 500000, UTC)
    assert scene.datetime_origin == "SAFE SENSING_TIME"


@pytest.mark.parametrize("names", ["B8A B11 B01", "B02, B05", "B09", "b12 B01"])
def test_bands_of_all_resolutions_lie_on_the_finest_grid_among_them(level_2a: Path, names: str) -> None:
    bands = names.upper().replace(",", "").split()
    finest = min(FINEST[band] for band in bands)
    scene = read_safe(level_2a, names)
    values = read(scene.place)
    assert values.shape == (len(bands), SIDES[finest], SIDES[finest])
    for got, band in zip(values, bands, strict=True):
        np.testing.assert_allclose(
            got, reflectance(band, FINEST[band], finest, -1000 - BANDS.index(band)), atol=2e-6, err_msg=band
        )
    with rasterio.open(scene.place) as dataset:
        assert dataset.transform.a == finest
        assert dataset.crs.to_epsg() == 32632


def test_level_1c_without_offsets_is_of_an_older_baseline(level_1c: Path) -> None:
    scene = read_safe(level_1c / "MTD_MSIL1C.xml", "B10 B04")
    values = read(scene.place)
    np.testing.assert_allclose(values[0], reflectance("B10", 60, 10, 0), atol=1e-6)
    np.testing.assert_allclose(values[1], reflectance("B04", 10, 10, 0), atol=1e-6)
    assert scene.scale == "minmax 0 0.3558"


def test_level_1c_with_offsets_and_another_quantification(tmp_path: Path) -> None:
    safe = product(tmp_path, "1C", bands=["B02"])
    (safe / "MTD_MSIL1C.xml").write_text(metadata("1C", {1: -200}, "1000"))
    wanted = (stored("B02", 10) - 200.0) / 1000
    wanted[stored("B02", 10) == 0] = np.nan
    np.testing.assert_allclose(read(read_safe(safe, "blue").place)[0], wanted, atol=1e-6)


def test_common_names_name_the_same_bands(level_2a: Path) -> None:
    assert read_safe(level_2a, "red green blue").place == read_safe(level_2a).place
    assert read_safe(level_2a, "nir08 swir22 coastal").bands == ("B8A", "B12", "B01")


def test_a_window_becomes_the_picture_worked_out_by_hand(level_2a: Path) -> None:
    scene = read_safe(level_2a)
    with open_raster(scene.place, "a product") as raster:
        values = raster.read(Tile(0, 1, 3, 2, 3, 2))
    assert values is not None
    picture = Rendering.parse(scene.scale)(values)
    for place, band in enumerate(("B04", "B03", "B02")):
        part = stored(band, 10)[1:3, :3].astype(float)
        wanted = np.rint(np.clip((part - 1000 - BANDS.index(band)) / 2000, 0, 1) * 255)  # 0.2 becomes 255
        wanted[part == 0] = 0
        np.testing.assert_array_equal(picture[..., place], wanted)


def test_old_names_and_several_granules(tmp_path: Path) -> None:
    safe = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20160905T104813_R002_V20160905T005712_20160905T010424.SAFE"
    tiles = ["T53HLA", "T53HMA"]
    for number, tile in enumerate(tiles):
        granule = safe / "GRANULE" / f"S2A_OPER_MSI_L1C_TL_SGS__20160905T073438_A006291_{tile}_N02.04"
        file = granule / "IMG_DATA" / f"S2A_OPER_MSI_L1C_TL_SGS__20160905T073438_A006291_{tile}_B04.jp2"
        write_raster(file, stored("B04", 10) + number, 10, driver="JP2OpenJPEG")
    (safe / "S2A_OPER_MTD_SAFL1C_PDMC_20160905T104813_R002_V20160905T005712.xml").write_text(metadata("1C", None))
    with pytest.raises(ArchiveError, match=r"has 2 granules.*T53HLA_N02\.04; .*T53HMA_N02\.04"):
        read_safe(safe)
    granules = sorted((safe / "GRANULE").iterdir())
    assert all(map(is_safe, granules))
    for number, granule in enumerate(granules):
        scene = read_safe(granule, "B04")
        assert read(scene.place)[0][5, 5] == pytest.approx((int(stored("B04", 10)[5, 5]) + number) / 10000, abs=1e-6)
        assert (scene.datetime, scene.datetime_origin) == (
            datetime(2023, 1, 15, 10, 13, 29, 24000, UTC), "SAFE PRODUCT_START_TIME",
        )  # fmt: skip


def test_a_time_that_is_none_is_named_and_the_next_is_taken(tmp_path: Path, caplog: Any) -> None:
    safe = product(tmp_path, "1C", bands=["B04"])
    next((safe / "GRANULE").glob("*/MTD_TL.xml")).write_text("<a><SENSING_TIME>yesterday</SENSING_TIME></a>")
    with caplog.at_level(logging.WARNING):
        scene = read_safe(safe, "B04")
    assert "SENSING_TIME 'yesterday' is not understood" in caplog.text
    assert scene.datetime_origin == "SAFE PRODUCT_START_TIME"
    text = (safe / "MTD_MSIL1C.xml").read_text()
    (safe / "MTD_MSIL1C.xml").write_text(text.replace(START, "-").replace("2023-01-15T10:13:30Z", ""))
    scene = read_safe(safe, "B04")
    assert (scene.datetime, scene.datetime_origin) == (None, "")


def test_what_is_a_product(level_2a: Path, tmp_path: Path, monkeypatch: Any) -> None:
    granule = next((level_2a / "GRANULE").glob("L2A*"))
    for path in (level_2a, level_2a / "MTD_MSIL2A.xml", str(level_2a), granule, tmp_path / "S2A_MSIL2A_2023.SAFE.zip"):
        assert is_safe(path)
    (tmp_path / "renamed").mkdir()
    assert not is_safe(tmp_path / "renamed")
    (tmp_path / "renamed" / "MTD_MSIL1C.xml").write_text("")
    assert is_safe(tmp_path / "renamed")
    for path in (tmp_path, granule / "IMG_DATA", granule / "MTD_TL.xml", tmp_path / "a.zip", tmp_path / "a.tif"):
        assert not is_safe(path)
    monkeypatch.chdir(level_2a)
    assert is_safe(".")
    assert read_safe(".").place == read_safe(level_2a).place


def test_what_is_missing_or_broken_is_refused_by_name(tmp_path: Path) -> None:
    safe = product(tmp_path, "1C", {3: -1000}, bands=["B04", "B03"])
    with pytest.raises(ArchiveError, match=r"has no band B02, SCL; there are B03, B04: name some of these"):
        read_safe(safe, "B04 B02 SCL")
    with pytest.raises(ArchiveError, match=r"MTD_MSIL1C\.xml' gives offsets, and none for B03"):
        read_safe(safe, "B04 B03")
    for text, reason in (
        (metadata("1C", {13: 0}), "RADIO_ADD_OFFSET is not understood"),
        (metadata("1C", None, "many"), "not understood .*many"),
        (metadata("1C", None, "0"), "0 is not above 0"),
        ("<a/>", "no QUANTIFICATION_VALUE"),
        ("<a>", "cannot be read as XML"),
    ):
        (safe / "MTD_MSIL1C.xml").write_text(text)
        with pytest.raises(ArchiveError, match=rf"MTD_MSIL1C\.xml'.*{reason}"):
            read_safe(safe, "B04")
    (safe / "MTD_MSIL1C.xml").write_text(metadata("1C", None))
    next(safe.glob("GRANULE/*/IMG_DATA/*B04.jp2")).write_bytes(b"cut off")
    with pytest.raises(BrokenImageError, match=r"B04\.jp2' cannot be opened"):
        read_safe(safe, "B04")
    (safe / "MTD_MSIL1C.xml").unlink()
    for path in (safe, safe / "MTD_MSIL1C.xml"):
        with pytest.raises(ArchiveError, match=r"\.SAFE' has no MTD_MSIL1C\.xml or MTD_MSIL2A\.xml"):
            read_safe(path)
    (safe / "MTD_MSIL1C.xml").write_text(metadata("1C", None))
    shutil.rmtree(safe / "GRANULE")
    with pytest.raises(ArchiveError, match=r"has 0 granules.*unpack the whole product"):
        read_safe(safe)
    with pytest.raises(ArchiveError, match=r"nowhere\.SAFE' has no MTD"):
        read_safe(tmp_path / "nowhere.SAFE")
    with pytest.raises(ArchiveError, match=r"\.zip' is packed: unpack it"):
        read_safe(tmp_path / "S2A_MSIL2A_20230115.zip")
