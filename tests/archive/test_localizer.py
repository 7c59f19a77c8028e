"""Maps by tokens, from coarse to fine, and of classes; figures over annotated scenes."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import torch
from pairs import write_transformers_pair
from PIL import Image
from rasterio.transform import from_origin
from test_localization import write_scene

from rsretrieval import Retriever, cli
from rsretrieval.embeddings import ArchiveError
from rsretrieval.localization import classes
from rsretrieval.localization.cells import embed_cells
from rsretrieval.localization.evaluation import read_cases
from rsretrieval.localization.grid import windows
from rsretrieval.localization.heat import Smoothing, SmoothingError
from rsretrieval.localization.localizer import PRESETS, Localizer, Method, MethodError, method_of
from rsretrieval.localization.scene import embed_windows, open_scene
from rsretrieval.metrics import localization_figures
from rsretrieval.models.tokens import TokensError, cell_vectors

PLACE = {"crs": "EPSG:32631", "transform": from_origin(447000, 5413000, 2, 2)}


def test_a_scene_has_the_cells_of_its_windows(tmp_path: Path, retriever: Retriever) -> None:
    values = write_scene(tmp_path / "scene.tif", 130, 64)
    scene = open_scene(retriever, str(tmp_path / "scene.tif"))
    cells = embed_cells(scene, progress=False)
    sums: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for left in (0, 32, 64, 66):  # half over each other, the last moved inside
        pixels = torch.from_numpy(values[:, left : left + 64]).movedim(-1, 0)
        for number, vector in enumerate(cell_vectors(retriever.model, pixels[None])[0]):
            row, column = divmod(number, 4)
            place = (left + 16 * column, 16 * row, left + 16 * column + 16, 16 * row + 16)
            sums.setdefault(place, []).append(vector)
    assert {tuple(place) for place in cells.places.tolist()} == set(sums)
    for place, vector in zip(cells.places.tolist(), cells.vectors, strict=True):
        np.testing.assert_allclose(vector, torch.stack(sums[tuple(place)]).mean(0), atol=2e-3)  # half precision
    again = embed_cells(scene, progress=False)
    np.testing.assert_array_equal(again.vectors, cells.vectors)
    assert again.folder != embed_windows(scene, [64], progress=False).folder


def test_cells_of_scenes_smaller_than_the_model_sees_and_without_data(tmp_path: Path, retriever: Retriever) -> None:
    values = write_scene(tmp_path / "scene.tif", 200, 50, nodata=0)
    values[:, 60:] = 0
    with rasterio.open(tmp_path / "scene.tif", "r+") as content:
        content.write(np.moveaxis(values, -1, 0))
    cells = embed_cells(open_scene(retriever, str(tmp_path / "scene.tif")), progress=False)
    places = cells.places
    assert (places[:, 2] - places[:, 0]).tolist().count(12) > 0  # 50 pixels are four cells of 12 or 13
    assert places[:, 3].max() == 50
    assert places[:, 0].max() < 100  # windows of no data alone have none
    values[:] = 0
    (tmp_path / "empty.tif").write_bytes((tmp_path / "scene.tif").read_bytes())
    with rasterio.open(tmp_path / "empty.tif", "r+") as content:
        content.write(np.moveaxis(values, -1, 0))
    with pytest.raises(ArchiveError, match="has no pixel with data"):
        embed_cells(open_scene(retriever, str(tmp_path / "empty.tif")), progress=False)


def test_fine_windows_lie_in_the_best_coarse_ones(tmp_path: Path, retriever: Retriever) -> None:
    write_scene(tmp_path / "scene.tif", 400, 300)
    scene = open_scene(retriever, str(tmp_path / "scene.tif"))
    localizer = Localizer(scene, Method((100,), (25, 50), Smoothing("none")), progress=False)
    query = localizer.windows.vectors[3]
    found = localizer.windows_for(query)
    coarse = windows(400, 300, [100])
    scores = localizer.windows.vectors @ query
    best = coarse[np.argsort(scores)[-4:]].tolist()  # 15 % of 19 and more
    centres = (found.places[len(coarse) :, :2] + found.places[len(coarse) :, 2:]) / 2
    assert len(centres) > 50
    for x, y in centres.tolist():
        assert any(left <= x < right and top <= y < bottom for left, top, right, bottom in best)
    chosen = {tuple(place) for place in found.places.tolist()}
    for left, top, right, bottom in windows(400, 300, [25, 50]).tolist():
        x, y = (left + right) / 2, (top + bottom) / 2
        inside = any(one[0] <= x < one[2] and one[1] <= y < one[3] for one in best)
        assert inside == ((left, top, right, bottom) in chosen)
    every = embed_windows(scene, [25, 50], progress=False)  # goes on from what was kept of some
    kept = {tuple(place): vector for place, vector in zip(every.places.tolist(), every.vectors, strict=True)}
    for place, vector in zip(found.places[len(coarse) :].tolist(), found.vectors[len(coarse) :], strict=True):
        np.testing.assert_array_equal(vector, kept[tuple(place)])
    assert localizer.heat(query).values.max() == 255
    assert localizer.reach == 25
    with pytest.raises(MethodError, match="fine ones are each query's own"):
        classes.class_map(localizer, {"a": "a road"})


def test_ways_to_make_a_map() -> None:
    assert method_of() == PRESETS["paper"] == Method((256, 512, 768), (), Smoothing("median", 251))
    assert method_of("tiles", "coarse_to_fine", smooth="none") == Method((512,), (128, 256), Smoothing("none", 1))
    assert method_of("tokens", scales=[300]) == Method((), smoothing=None, side=300)
    assert method_of("tiles", None, [40, 80]).scales == (40, 80)
    for wrong, message in (
        (("tiles", "best"), "there is no preset 'best': give one of paper"),
        (("tokens", "paper"), "the preset 'paper' is of tiles"),
        (("tokens", None, [0]), "give sides of windows of 2 pixels or more"),
        (("tiles", "coarse_to_fine", [256]), "coarse windows are larger than the fine ones of coarse_to_fine"),
        (("tokens", None, [10, 20]), "tokens are taken from windows of one size"),
    ):
        with pytest.raises(MethodError, match=message):
            method_of(*wrong)
    with pytest.raises(SmoothingError):
        method_of(smooth="a little")


def test_classes_by_line() -> None:
    assert classes.named_queries(["a: b: c", "road"]) == {"a": "b: c", "road": "road"}
    for lines in (["a", "a: b"], ["other"]):
        with pytest.raises(MethodError, match="comes twice"):
            classes.named_queries(lines)
    with pytest.raises(MethodError, match="255 classes are more than the 254"):
        classes.named_queries([str(number) for number in range(255)])


def planted(retriever: Retriever, monkeypatch: pytest.MonkeyPatch, scene: Path, bank: Any) -> Localizer:
    """A scene whose left third is what the first query means, the middle the second, the right neither."""
    vectors = np.eye(4, retriever.model.embed_dim, dtype=np.float32)
    monkeypatch.setattr(retriever, "encode_texts", lambda texts: torch.from_numpy(vectors[: len(texts)]))
    monkeypatch.setattr(classes, "bank_of", lambda *_: bank)
    localizer = Localizer(open_scene(retriever, str(scene)), Method((20,), smoothing=Smoothing("none")), progress=False)
    third = np.minimum((localizer.windows.places[:, 0] + 10) // 100, 2)
    localizer.windows = localizer.windows._replace(vectors=vectors[third])
    return localizer


@pytest.mark.parametrize("with_bank", [True, False])
def test_each_place_has_its_class_or_none(
    *, with_bank: bool, tmp_path: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "scene.tif", **PLACE)
    bank = np.eye(8, retriever.model.embed_dim, k=2, dtype=np.float32)[[0, 0, 1, 1, 2, 3, 4, 5]]  # none of both classes
    localizer = planted(retriever, monkeypatch, tmp_path / "scene.tif", bank if with_bank else None)
    found = classes.class_map(localizer, {"red": "a", "green": "b"}, least_z=0.5)
    assert found.values.shape == (200, 300)
    assert (found.values[:, :90] == 1).all()
    assert (found.values[:, 115:185] == 2).all()
    assert (found.values[:, 215:] == 0).all()
    shares = found.shares()
    assert list(shares) == ["other", "red", "green"]
    assert sum(shares.values()) == pytest.approx(1)
    assert ("bank of 8 texts" in found.against) is with_bank
    everywhere = classes.class_map(localizer, {"red": "a", "green": "b"}, least_z=-10)
    assert everywhere.shares()["other"] == 0
    sheet = classes.with_legend(classes.picture_of(found, (150, 100)), found)
    assert sheet.getpixel((10, 50)) == classes.colours(2)[1]
    assert sheet.height > 100 + 3 * classes.LINE


def test_the_command_writes_classes(
    tmp_path: Path, entry: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    write_scene(tmp_path / "scene.tif", **PLACE)
    (tmp_path / "classes.txt").write_text("road: a grey road\n\na harbour\n")
    args = ["localize", str(tmp_path / "scene.tif"), "--model", entry, "--to", str(tmp_path / "out")]
    cli.main([*args, "--queries", str(tmp_path / "classes.txt"), "--method", "tokens", "--min_z=-9"])
    said = capsys.readouterr().out.splitlines()
    assert [line.split("%")[1].strip() for line in said[:3]] == ["other", "road", "a harbour"]
    assert "no bank of texts" in said[3]
    with rasterio.open(tmp_path / "out" / "classes.tif") as content, rasterio.open(tmp_path / "scene.tif") as scene:
        assert (content.crs, content.bounds) == (scene.crs, scene.bounds)
        counts = np.bincount(content.read(1).ravel(), minlength=3)
        assert content.tags(1)["class_2"] == "a harbour"
        assert content.colormap(1)[1][:3] == classes.colours(2)[1]
    for line, count in zip(said[:3], counts, strict=True):
        assert float(line.split("%")[0]) == pytest.approx(100 * count / counts.sum(), abs=0.06)
    with pytest.raises(MethodError, match="--queries takes the place of the query"):
        cli.main([*args[:2], "a road", *args[2:], "--queries", str(tmp_path / "classes.txt")])
    with pytest.raises(SystemExit):
        cli.main(args)
    assert "arguments are required: query" in capsys.readouterr().err


def test_tokens_of_a_model_without_are_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    folder = write_transformers_pair(tmp_path / "siglip", "siglip")
    write_scene(tmp_path / "scene.tif")
    with pytest.raises(TokensError, match=rf"^'{folder}' with --method tokens: .*take --method tiles$"):
        cli.main(["localize", str(tmp_path / "scene.tif"), "a road", "--model", str(folder), "--method", "tokens"])


def test_the_command_writes_peaks_as_a_geopackage(tmp_path: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyogrio  # type: ignore[import-untyped]

    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    write_scene(tmp_path / "scene.tif", **PLACE)
    args = ["localize", str(tmp_path / "scene.tif"), "a road", "--model", entry, "--scales=[40]", "--smooth=none"]
    for form in ("gpkg", "geojson"):
        cli.main([*args, "--to", str(tmp_path / "out"), "--peaks_format", form])
    features = json.loads((tmp_path / "out" / "peaks.geojson").read_text())["features"]
    meta, _, points, fields = pyogrio.raw.read(tmp_path / "out" / "peaks.gpkg", layer="peaks")
    assert meta["crs"] == "EPSG:4326"
    found = [np.frombuffer(point[5:], "<f8").tolist() for point in points]
    np.testing.assert_allclose(found, [one["geometry"]["coordinates"] for one in features])
    for name, values in zip(meta["fields"], fields, strict=True):
        assert list(values) == [one["properties"][name] for one in features]


def write_cases(folder: Path) -> list[Any]:
    (folder / "annotations").mkdir(parents=True)
    (folder / "imgs").mkdir()
    for name, width in (("0.jpg", 300), ("1.png", 240)):
        noise = np.random.default_rng(width).integers(0, 256, (200, width, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "imgs" / name)
    square = [[40.4, 30.2], [110.9, 30.2], [110.9, 90.7], [40.4, 90.7]]
    cases: list[Any] = [
        {"caption": "a grey road.\n", "jpg_name": "0.jpg", "points": [square]},
        {"caption": "a harbour", "jpg_name": "1.jpg", "points": [square, [[150, 100], [200, 100], [200, 150]]]},
        {"caption": "a red roof", "jpg_name": "0.jpg", "points": [square]},
    ]
    (folder / "annotations" / "anno.json").write_text(json.dumps(cases))
    return cases


@pytest.mark.parametrize("jpeg", [False, True])
def test_figures_over_annotated_scenes(
    *, jpeg: bool, tmp_path: Path, entry: str, retriever: Retriever, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    cases = write_cases(tmp_path / "slt")
    args = ["localize-eval", str(tmp_path / "slt"), "--model", entry, "--to", str(tmp_path / "out"), f"--jpeg={jpeg}"]
    cli.main([*args, "--scales=[40, 80]", "--smooth=median 21"])
    rows = [line.split(",") for line in (tmp_path / "out" / "figures.csv").read_text().splitlines()]
    wanted = []
    for case, name in zip(cases, ("0.jpg", "1.png", "0.jpg"), strict=True):
        scene = open_scene(retriever, str(tmp_path / "slt" / "imgs" / name))
        heat = Localizer(scene, method_of(scales=[40, 80], smooth="median 21"), progress=False).heat(
            case["caption"].strip()
        )
        assert heat.shrink == 1
        values = heat.values
        if jpeg:
            cv2.imwrite(str(tmp_path / "map.jpg"), values)
            values = cv2.imread(str(tmp_path / "map.jpg"), cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
        wanted.append(localization_figures(values, [np.array(region) for region in case["points"]]))
    assert [row[:3] for row in rows[1:4]] == [
        [f"{'010'[n]}.{'jpg' if n != 1 else 'png'}", str(n), cases[n]["caption"].strip()] for n in range(3)
    ]
    np.testing.assert_allclose([[float(v) for v in row[3:]] for row in rows[1:4]], wanted, atol=6e-5)
    assert [row[:2] for row in rows[4:]] == [["0.jpg", "mean"], ["1.png", "mean"], ["all", "mean"]]
    np.testing.assert_allclose([float(v) for v in rows[-1][3:]], np.mean(wanted, axis=0), atol=6e-5)
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["image", "cases", "Rsu", "Ras", "Rda", "Rmi"]
    assert [line.split()[:2] for line in said[1:4]] == [["0.jpg", "2"], ["1.png", "1"], ["all", "3"]]
    assert said[3].split()[2:] == [f"{float(v):.4f}" for v in rows[-1][3:]]
    with Image.open(tmp_path / "out" / "cases.png") as picture:
        assert picture.size == (3 * 480, 320)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is no JSON"),
        ("{}", "is no list of cases"),
        ('[{"caption": "a"}]', r"anno.json', case 0 needs caption, jpg_name and points"),
        ('[{"caption": " ", "jpg_name": "0.jpg", "points": [[[0, 0], [1, 0], [1, 1]]]}]', "case 0 needs a caption"),
        ('[{"caption": "a", "jpg_name": "0.jpg", "points": [[[0, 0], [1, 0]]]}]', "a region of three points"),
        ('[{"caption": "a", "jpg_name": "9.jpg", "points": [[[0, 0], [1, 0], [1, 1]]]}]', "case 0: there is no image"),
    ],
)  # fmt: skip
def test_annotations_that_are_none(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "anno.json").write_text(content)
    Image.new("RGB", (9, 9)).save(tmp_path / "0.jpg")
    with pytest.raises(ArchiveError, match=message):
        read_cases(tmp_path)
    with pytest.raises(ArchiveError, match=r"there is no anno\.json in"):
        read_cases(tmp_path / "elsewhere")
