"""Semantic localisation: windows and means against loops, a scene kept beside itself, and files on a map."""

import itertools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from rsretrieval import Retriever, cli
from rsretrieval.archive.pieces import Reader
from rsretrieval.embeddings import ArchiveError
from rsretrieval.localization.grid import mean_scores, windows
from rsretrieval.localization.heat import Heat, Smoothing, SmoothingError, heat_map, peaks
from rsretrieval.localization.scene import SceneWindows, embed_windows, open_scene

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (30, 40, 190)}


def write_scene(file: Path, width: int = 300, height: int = 200, **more: Any) -> NDArray[np.uint8]:
    """Noise over stripes of colour; gives ``(H, W, 3)``."""
    rng = np.random.default_rng(0)
    stripes = np.repeat(np.array(list(COLOURS.values())), width // 3 + 1, axis=0)[:width]
    values = (stripes[None] + rng.integers(0, 30, (height, width, 3))).astype(np.uint8)
    form = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", **more}
    with rasterio.open(file, "w", **form) as content:
        content.write(np.moveaxis(values, -1, 0))
    return values


@pytest.mark.parametrize(
    ("width", "height", "scales"),
    [(50, 31, [8, 16]), (700, 300, [256, 512]), (10, 12, [16]), (64, 64, [64]), (9, 5, [2, 3])],
)
def test_windows_of_two_grids_cover_every_pixel(width: int, height: int, scales: list[int]) -> None:
    places = windows(width, height, scales)
    assert len({tuple(place) for place in places.tolist()}) == len(places)
    for scale in scales:
        side = min(scale, width), min(scale, height)
        of_scale = [p for p in places.tolist() if (p[2] - p[0], p[3] - p[1]) == side]
        covered = np.zeros((height, width), int)
        for left, top, right, bottom in of_scale:
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            covered[top:bottom, left:right] += 1
        assert covered.min() >= 1
    side = scales[0]
    whole = itertools.product(range(0, width - side + 1, side), range(0, height - side + 1, side))
    half = itertools.product(range(side // 2, width - side + 1, side), range(side // 2, height - side + 1, side))
    assert {*whole, *half} <= {(left, top) for left, top, *_ in places.tolist()}


@pytest.mark.parametrize("shrink", [1, 2, 3, 8])
def test_means_are_those_of_a_loop(shrink: int) -> None:
    width, height = 61, 47
    places = windows(width, height, [8, 20])
    scores = np.random.default_rng(1).random(len(places)).astype(np.float32)
    sums, counts = np.zeros((height, width)), np.zeros((height, width))
    for (left, top, right, bottom), score in zip(places, scores, strict=True):
        sums[top:bottom, left:right] += score
        counts[top:bottom, left:right] += 1
    found = mean_scores(places, scores, (width, height), shrink)
    assert found.shape == (height // shrink, width // shrink)
    middle = shrink // 2
    np.testing.assert_allclose(
        found, (sums / counts)[middle::shrink, middle::shrink][: len(found), : found.shape[1]], 1e-5
    )


def test_where_no_window_lies_there_is_no_mean() -> None:
    found = mean_scores(np.array([[1, 0, 3, 1]]), np.array([2.0], np.float32), (4, 2))
    np.testing.assert_array_equal(found, [[np.nan, 2, 2, np.nan], [np.nan] * 4])
    with pytest.raises(ValueError, match=r"scales=\[1\]: give sides"):
        windows(5, 5, [1])


def test_a_scene_is_embedded_once(tmp_path: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    values = write_scene(tmp_path / "scene.tif")
    scene = embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [64, 128], progress=False)
    places = scene.places.tolist()
    crops = [Image.fromarray(values[top:bottom, left:right]) for left, top, right, bottom in places]
    np.testing.assert_allclose(scene.vectors, retriever.encode_images(crops).numpy(), atol=1e-5)
    assert places == windows(300, 200, [64, 128]).tolist()
    assert scene.folder.parent == tmp_path / "scene.tif.localize"

    def unread(*_: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "load", unread)
        again = embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [64, 128], progress=False)
        np.testing.assert_array_equal(again.vectors, scene.vectors)
        with pytest.raises(AssertionError, match="read again"):
            embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [64], progress=False)
    write_scene(tmp_path / "scene.tif", 301)
    changed = embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [64, 128], progress=False)
    assert changed.folder != scene.folder


def test_an_interrupted_scene_goes_on(tmp_path: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path / "scene.tif")
    load, count = Reader.load, 0

    def until(limit: int) -> Any:
        def loaded(self: Reader, piece: Any) -> Any:
            nonlocal count
            count += 1
            if count > limit:
                raise KeyboardInterrupt
            return load(self, piece)

        return loaded

    total = len(windows(300, 200, [32]))
    assert total > 70
    monkeypatch.setattr(Reader, "load", until(70))
    with pytest.raises(KeyboardInterrupt):
        embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [32], progress=False)
    count = 0
    monkeypatch.setattr(Reader, "load", until(total))
    scene = embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [32], progress=False)
    assert count == total - 64  # the first batch was kept
    assert len(scene.vectors) == total


def test_windows_without_data_are_left_out(tmp_path: Path, retriever: Retriever) -> None:
    values = write_scene(tmp_path / "scene.tif", nodata=0)
    values[:, 150:] = 0
    with rasterio.open(tmp_path / "scene.tif", "r+") as content:
        content.write(np.moveaxis(values, -1, 0))
    scene = embed_windows(open_scene(retriever, str(tmp_path / "scene.tif")), [50], progress=False)
    assert scene.places[:, 0].max() < 150
    heat = heat_map(scene, scene.vectors[0], Smoothing("none"))
    assert heat.valid[:, :150].all()
    assert not heat.valid[:, 225:].any()
    (tmp_path / "empty.tif").write_bytes((tmp_path / "scene.tif").read_bytes())
    with rasterio.open(tmp_path / "empty.tif", "r+") as content:
        content.write(np.zeros((3, 200, 300), np.uint8))
    with pytest.raises(ArchiveError, match="has no pixel with data"):
        embed_windows(open_scene(retriever, str(tmp_path / "empty.tif")), [50], progress=False)


def planted(width: int = 400, height: int = 300) -> SceneWindows:
    """A scene in which the windows around column 250, row 100 are those that a query means."""
    places = windows(width, height, [40, 80])
    distance = np.hypot((places[:, 0] + places[:, 2]) / 2 - 250, (places[:, 1] + places[:, 3]) / 2 - 100)
    angle = np.minimum(distance / 100, 1.5)
    return SceneWindows(places, np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32), width, height, Path())


@pytest.mark.parametrize("most_pixels", [4_000_000, 10_000])
def test_what_is_meant_is_the_peak(most_pixels: int) -> None:
    heat = heat_map(planted(), np.array([1, 0], np.float32), Smoothing("median", 31), most_pixels)
    assert heat.shrink == (1 if most_pixels > 120_000 else 4)
    (best, *others) = peaks(heat, radius=60, least=0)
    assert abs(best.x - 250) <= 20
    assert abs(best.y - 100) <= 20
    assert best.value > 0.9
    assert all(np.hypot(other.x - best.x, other.y - best.y) > 55 for other in others)
    assert [peak.value for peak in others] == sorted((peak.value for peak in others), reverse=True)
    assert len(peaks(heat, 60, most=2, least=0)) == 2
    assert all(peak.value >= 0.8 for peak in peaks(heat, 10, least=0.8))


def test_scores_become_eight_bits_from_the_least_to_the_largest() -> None:
    scene = SceneWindows(
        np.array([[0, 0, 2, 2], [2, 0, 4, 2], [4, 0, 6, 2]]), np.eye(3, dtype=np.float32), 6, 2, Path()
    )
    heat = heat_map(scene, np.array([0.5, 0.1, 0.3], np.float32), Smoothing("none"))
    assert heat.values[0].tolist() == [255, 255, 0, 0, 127, 127]
    assert (heat.low, heat.high) == pytest.approx((0.1, 0.5))
    flat = heat_map(scene, np.zeros(3, np.float32), Smoothing("none"))
    assert not flat.values.any()
    assert peaks(flat, 1) == []


def test_a_plateau_has_one_peak_in_its_middle() -> None:
    values = np.zeros((40, 60), np.uint8)
    values[10:21, 20:41] = 200
    found = peaks(Heat(values, np.ones_like(values, bool), 2, 0, 1), radius=60)
    assert [(peak.x, peak.y) for peak in found] == [(61, 31)]


def test_smoothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 80)).astype(np.uint8)
    np.testing.assert_array_equal(Smoothing.parse("median 9")(noise, 1), cv2.medianBlur(noise, 9))
    np.testing.assert_array_equal(Smoothing.parse("median 27")(noise, 3), cv2.medianBlur(noise, 9))
    np.testing.assert_array_equal(Smoothing.parse("gaussian 9")(noise, 1), cv2.GaussianBlur(noise, (9, 9), 1.7))
    np.testing.assert_array_equal(Smoothing.parse("none")(noise, 1), noise)
    assert Smoothing() == Smoothing.parse("median 251")
    for wrong in ("median 250", "mean 3", "median", ""):
        with pytest.raises(SmoothingError, match=rf"'{wrong}' is unknown: give 'median 251'"):
            Smoothing.parse(wrong)
    with pytest.raises(SmoothingError, match="a median of 301 is not possible: 255"):
        Smoothing("median", 301)(noise, 1)


def test_the_command_writes_a_map(
    tmp_path: Path, entry: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    place = {"crs": "EPSG:32631", "transform": from_origin(447000, 5413000, 2, 2)}
    write_scene(tmp_path / "scene.tif", **place)
    to = tmp_path / "out"
    args = ["localize", str(tmp_path / "scene.tif"), "a red roof", "--model", entry, "--to", str(to)]
    cli.main([*args, "--scales=[40, 80]", "--smooth=median 21", "--peaks=3"])
    said = capsys.readouterr().out.splitlines()
    features = json.loads((to / "peaks.geojson").read_text())["features"]
    assert 1 <= len(features) <= 3
    assert said[0].split() == ["column", "row", "value"]
    assert said[1].split()[:2] == [str(features[0]["properties"][name]) for name in ("x", "y")]
    with rasterio.open(to / "heat.tif") as heat, rasterio.open(tmp_path / "scene.tif") as scene:
        assert (heat.crs, heat.bounds, heat.shape) == (scene.crs, scene.bounds, scene.shape)
        assert heat.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        first = features[0]["properties"]
        assert heat.read(1)[first["y"], first["x"]] / 255 == pytest.approx(first["value"], abs=1e-3)
        x, y = scene.xy(first["y"], first["x"])
    (longitude,), (latitude,) = rasterio.warp.transform("EPSG:32631", "EPSG:4326", [x], [y])
    assert features[0]["geometry"]["coordinates"] == pytest.approx([longitude, latitude], abs=1e-6)
    assert first["query"] == "a red roof"
    for name in ("heat.png", "overlay.png"):
        with Image.open(to / name) as picture:
            assert picture.size == (300, 200)
    assert "windows kept in" in said[-3]


def test_a_picture_without_a_place_has_no_map(tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    noise = np.random.default_rng(3).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "scene.png")
    cli.main(["localize", str(tmp_path / "scene.png"), "a road", "--model", entry, "--to", str(tmp_path / "out"),
              "--scales=[60]", "--smooth=none"])  # fmt: skip
    features = json.loads((tmp_path / "out" / "peaks.geojson").read_text())["features"]
    assert all(feature["geometry"] is None for feature in features)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"heat.png", "overlay.png", "peaks.geojson"}
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(tmp_path / "two" / name)
    with pytest.raises(ArchiveError, match=r"is 2 files, the first of kind 'picture': give one scene"):
        cli.main(["localize", str(tmp_path / "two"), "a road", "--model", entry])
