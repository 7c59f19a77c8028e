"""STAC items, made by pystac, of 1.0 and 1.1."""

import json
import logging
import socket
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from band_files import enlarged, read, write_raster

from rsretrieval.archive.rasters.stac import _gdal_name, is_stac_item, read_stac
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError

RNG = np.random.default_rng(17)
TAKEN = datetime(2024, 5, 1, 10, 30, tzinfo=timezone(timedelta(hours=2)))
LANDSAT = {"scale": 0.0000275, "offset": -0.2, "nodata": 0}  # Collection 2, level 2
COLOURS = ("red", "green", "blue")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network is used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def values_of(*shape: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return RNG.integers(1, 255, shape).astype(dtype)


def asset(
    href: Path | str, *bands: dict[str, Any], roles: Any = ("data",), kind: str = "image/tiff", **fields: Any
) -> Any:
    described = {"eo:bands": list(bands)} if bands else {}
    return pystac.Asset(str(href), media_type=kind, roles=list(roles), extra_fields=described | fields)


def write_item(file: Path, assets: dict[str, Any], version: str = "1.0.0", **properties: Any) -> Path:
    """An item with links to a catalogue that is nowhere."""
    taken = None if "start_datetime" in properties else TAKEN
    collection = properties.pop("collection", None)
    item = pystac.Item("an-item", None, None, taken, properties, collection=collection, assets=assets)
    content = item.to_dict(include_self_link=False)
    content["stac_version"] = version
    content["links"] = [{"rel": rel, "href": "https://stac.invalid/"} for rel in ("root", "parent", "collection")]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def single_bands(folder: Path, of_raster: dict[str, Any], version: str = "1.0.0", **properties: Any) -> Any:
    """An item of four bands in a file each, the near infrared twice as coarse; gives it and the bands' values."""
    assets, stored = {}, {}
    for number, name in enumerate((*COLOURS, "nir08")):
        stored[name] = values_of(*((4, 4) if name == "nir08" else (8, 8))) * 200
        stored[name][0, 0] = 0
        href = f"./bands/SR_B{number}.TIF"
        write_raster(folder / href, stored[name], 60 if name == "nir08" else 30)
        if version == "1.0.0":
            fields = {"raster:bands": [of_raster]}
            assets[f"B{number}"] = asset(href, {"name": f"SR_B{number}", "common_name": name}, **fields)
        else:
            prefixed = {f"raster:{key}" if key != "nodata" else key: value for key, value in of_raster.items()}
            band = {"name": f"SR_B{number}", "eo:common_name": name, **prefixed}
            assets[f"B{number}"] = asset(href, bands=[band])
    assets["qa"] = asset("./bands/QA.TIF", {"name": "QA"})
    assets["thumbnail"] = asset("./t.png", roles=("thumbnail",), kind="image/png")
    return write_item(folder / "item.json", assets, version, **properties), stored


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_landsat_becomes_surface_reflectance_by_scale_and_offset(tmp_path: Path, version: str) -> None:
    item, stored = single_bands(tmp_path, LANDSAT, version, collection="landsat-c2-l2")
    scene = read_stac(item)
    values = read(scene.place)
    assert values.dtype == np.float32
    for got, colour in zip(values, COLOURS, strict=True):
        wanted = stored[colour] * 0.0000275 - 0.2  # 8,000 becomes 0.02
        wanted[0, 0] = np.nan
        np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert (scene.bands, scene.scale) == (("SR_B0", "SR_B1", "SR_B2"), "minmax 0 0.2")
    assert scene.files == tuple(str(tmp_path / f"bands/SR_B{number}.TIF") for number in range(3))
    assert scene.datetime == datetime(2024, 5, 1, 8, 30, tzinfo=UTC)
    assert scene.datetime_origin == "STAC datetime"


def test_bands_by_key_name_and_common_name_on_one_grid(tmp_path: Path) -> None:
    item, stored = single_bands(tmp_path, LANDSAT)
    scene = read_stac(item, "NIR08 sr_b2 B0")
    assert scene.bands == ("SR_B3", "SR_B2", "SR_B0")
    values = read(scene.place)
    np.testing.assert_allclose(values[0], enlarged(stored["nir08"], 2, 0) * 0.0000275 - 0.2, atol=1e-6)
    np.testing.assert_allclose(values[1][1:], stored["blue"][1:] * 0.0000275 - 0.2, atol=1e-6)
    np.testing.assert_allclose(values[2][1:], stored["red"][1:] * 0.0000275 - 0.2, atol=1e-6)
    with pytest.raises(ArchiveError, match=r"item\.json' has no band and no asset 'pan'; there are B0 \(SR_B0 = red\)"):
        read_stac(item, "B0 pan")


def test_the_scale_is_that_of_reflectance_only_where_the_item_says_as_much(tmp_path: Path) -> None:
    item, _ = single_bands(tmp_path / "1", LANDSAT, collection="landsat-c2-l1")
    assert read_stac(item).scale == "minmax 0 0.3558"
    item, _ = single_bands(tmp_path / "2", LANDSAT, **{"processing:level": "L1C"})
    assert read_stac(item).scale == "minmax 0 0.3558"
    item, stored = single_bands(tmp_path / "3", {"nodata": 0, "scale": 1, "offset": 0})
    scene = read_stac(item)
    assert scene.scale is None
    np.testing.assert_array_equal(read(scene.place), [stored[colour] for colour in COLOURS])
    file = write_raster(tmp_path / "4/heat.tif", values_of(4, 4), 30)
    warm = asset(file, {"name": "ST", "common_name": "lwir11"}, **{"raster:bands": [{"scale": 0.5, "offset": 149}]})
    assert read_stac(write_item(tmp_path / "4/item.json", {"heat": warm})).scale is None


def test_without_names_visual_comes_first_as_the_file_that_it_is(tmp_path: Path) -> None:
    item, _ = single_bands(tmp_path, LANDSAT)
    content = json.loads(item.read_text())
    rgb = values_of(3, 8, 8, dtype="uint8")
    file = write_raster(tmp_path / "TCI.tif", rgb, 30)
    names = [{"name": name, "common_name": name} for name in COLOURS]
    content["assets"]["visual"] = {"href": file.as_uri(), "type": "image/tiff", "eo:bands": names, "roles": ["visual"]}
    item.write_text(json.dumps(content))
    scene = read_stac(item)
    assert (scene.place, scene.scale, scene.bands, scene.files) == (str(file), None, COLOURS, (str(file),))
    assert read_stac(item, "red green blue").bands == ("SR_B0", "SR_B1", "SR_B2")  # and not the preview's
    content["assets"]["visual"]["raster:bands"] = [{"nodata": 5}] * 3
    item.write_text(json.dumps(content))
    np.testing.assert_array_equal(read(read_stac(item).place), rgb)
    assert read_stac(item).place.startswith("<VRT")


def test_several_bands_in_one_asset(tmp_path: Path) -> None:
    stored = values_of(4, 6, 6, dtype="uint8")
    file = write_raster(tmp_path / "naip.tif", stored, 1, photometric="MINISBLACK")  # or the fourth is alpha
    names = [{"name": name.title(), "common_name": name} for name in ("nir", "blue", "green", "red")]
    item = write_item(
        tmp_path / "item.json", {"image": asset(file, *names), "metadata": asset("m.xml", kind="text/xml")}
    )
    np.testing.assert_array_equal(read(read_stac(item).place), stored[[3, 2, 1]])
    np.testing.assert_array_equal(read(read_stac(item, "Nir red").place), stored[[0, 3]])
    scene = read_stac(item, "image")
    assert (scene.place, scene.bands) == (str(file), ("Nir", "Blue", "Green", "Red"))


def test_the_only_raster_is_taken_though_nothing_is_said_of_its_bands(tmp_path: Path) -> None:
    stored = values_of(2, 6, 6)
    file = write_raster(tmp_path / "a.tif", stored, 1)
    preview = asset("p.tif", roles=("overview",))
    item = write_item(tmp_path / "item.json", {"cog": asset(file), "preview": preview})
    assert (read_stac(item).place, read_stac(item).bands) == (str(file), ("cog:1", "cog:2"))
    item = write_item(tmp_path / "scaled.json", {"cog": asset(file, **{"raster:scale": 0.5, "nodata": "nan"})}, "1.1.0")
    np.testing.assert_allclose(read(read_stac(item).place), stored * 0.5)


def test_of_one_band_at_several_resolutions_the_finest_is_taken(tmp_path: Path) -> None:
    assets, stored = {}, {}
    for metres in (20, 10, 60):
        for colour in COLOURS:
            stored[colour, metres] = values_of(120 // metres, 120 // metres)
            file = write_raster(tmp_path / f"{colour}{metres}.tif", stored[colour, metres], metres)
            band = {"name": colour, "eo:common_name": colour}
            assets[f"{colour}_{metres}m"] = asset(file, bands=[band], gsd=metres)
    item = write_item(tmp_path / "item.json", assets, "1.1.0")
    np.testing.assert_array_equal(read(read_stac(item).place), [stored[colour, 10] for colour in COLOURS])
    for some in assets.values():
        del some.extra_fields["gsd"]
    item = write_item(tmp_path / "item.json", assets, "1.1.0")
    with pytest.raises(ArchiveError, match=r"'red' is in several assets \(red_20m, red_10m, red_60m\): name the asset"):
        read_stac(item)
    np.testing.assert_array_equal(read(read_stac(item, "red_20m").place)[0], stored["red", 20])


def test_an_offset_that_was_taken_off_already_is_left_out_and_named(tmp_path: Path, caplog: Any) -> None:
    of_raster = {"scale": 0.0001, "offset": -0.1, "nodata": 0}
    for applied, offset in ((True, 0.0), (False, -0.1)):
        caplog.clear()
        item, stored = single_bands(tmp_path, of_raster, **{"earthsearch:boa_offset_applied": applied})
        with caplog.at_level(logging.WARNING):
            values = read(read_stac(item).place)
        np.testing.assert_allclose(values[0][1:], stored["red"][1:] * 0.0001 + offset, atol=1e-6)
        assert ("was taken off already" in caplog.text) == applied


def test_the_time_is_the_start_where_there_is_no_other(tmp_path: Path) -> None:
    file = write_raster(tmp_path / "a.tif", values_of(4, 4), 1)
    span = {"start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-02-01T00:00:00Z"}
    scene = read_stac(write_item(tmp_path / "item.json", {"a": asset(file)}, **span))
    assert (scene.datetime, scene.datetime_origin) == (datetime(2020, 1, 1, tzinfo=UTC), "STAC start_datetime")


def test_what_is_no_item_is_refused_with_advice(tmp_path: Path) -> None:
    catalogue = pystac.Catalog("a", "b").to_dict()
    file = tmp_path / "x.json"
    for content in (catalogue, {"type": "FeatureCollection", "features": []}, {"type": "Feature"}, [1]):
        file.write_text(json.dumps(content))
        assert not is_stac_item(file)
        with pytest.raises(ArchiveError, match=r"x\.json' is no STAC item.*give the files of the items"):
            read_stac(file)
    file.write_text("{")
    assert not is_stac_item(file)
    assert not is_stac_item(tmp_path)
    assert not is_stac_item(tmp_path / "none.json")
    file.write_text(json.dumps({"type": "Feature", "stac_version": "1.0.0"}))
    assert is_stac_item(file)
    with pytest.raises(ArchiveError, match=r"x\.json' is not understood as a STAC item"):
        read_stac(file)
    numbered = write_item(tmp_path / "numbered.json", {"a": asset("a.tif", **{"eo:bands": [0, 1, 2]})})  # STAC 0.6
    with pytest.raises(ArchiveError, match=r"numbered\.json' is not understood as a STAC item"):
        read_stac(numbered)


def test_what_cannot_be_chosen_or_read_is_refused_with_the_assets(tmp_path: Path) -> None:
    pair = {"a": asset("a.tif"), "b": asset("b.tif", {"name": "B1", "common_name": "red"})}
    item = write_item(tmp_path / "item.json", pair)
    with pytest.raises(ArchiveError, match=r"neither an asset 'visual'.*name bands of a \(a\); b \(B1 = red\)"):
        read_stac(item)
    with pytest.raises(BrokenImageError, match=r"b\.tif' cannot be opened"):
        read_stac(item, "b")
    broken = {"a": asset("a.tif", **{"raster:bands": [{"scale": "much"}]}), "b": asset("ssh://x/b.tif")}
    item = write_item(tmp_path / "item.json", broken)
    with pytest.raises(ArchiveError, match=r"item\.json', asset a: scale 'much' is no number"):
        read_stac(item, "a")
    with pytest.raises(ArchiveError, match=r"asset b: 'ssh://x/b\.tif' cannot be read; possible are paths, file, http"):
        read_stac(item, "b")
    apart = {
        "red": asset(write_raster(tmp_path / "r.tif", values_of(4, 4), 10)),
        "nir": asset(write_raster(tmp_path / "n.tif", values_of(4, 4), 20)),
    }
    with pytest.raises(ArchiveError, match=r"r\.tif' and .*n\.tif' do not lie on one footprint"):
        read_stac(write_item(tmp_path / "apart.json", apart), "red nir")


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("https://host/a.tif?sig=1&x=2", "/vsicurl/https://host/a.tif?sig=1&x=2"),
        ("s3://bucket/folder/a.tif", "/vsis3/bucket/folder/a.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("/data/a.tif", "/data/a.tif"),
        ("/vsizip/a.zip/b.tif", "/vsizip/a.zip/b.tif"),
    ],
)
def test_what_is_elsewhere_is_read_by_gdal(href: str, name: str) -> None:
    assert _gdal_name(href, "") == name
