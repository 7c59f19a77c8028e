"""Parts of the server by themselves: maps of a picture, pictures of rows, what tables say, terms of a query."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import png, write_raster
from PIL import Image
from served import encoded, serve

from rsretrieval import Retriever
from rsretrieval.archive import ArchiveError, Options, build_index, embed
from rsretrieval.archive.pictures import picture
from rsretrieval.archive.search.query import Query
from rsretrieval.images import BrokenImageError
from rsretrieval.recent import Recent
from rsretrieval.serve import heat, pictures, settings
from rsretrieval.serve.pictures import Pictures
from rsretrieval.serve.snapshot import Snapshot
from rsretrieval.serve.terms import (
    UnknownKeyError,
    id_of,
    key_of,
    opened_picture,
    picture_term,
    picture_vector,
    pooled,
)  # fmt: skip
from rsretrieval.serve.told import told


def test_windows_cover_a_picture() -> None:
    for width, height in ((96, 96), (97, 60), (31, 180)):
        for takes_tokens in (False, True):
            places = heat.places(width, height, tokens=takes_tokens)
            covered = np.zeros((height, width), int)
            for left, top, right, bottom in places.tolist():
                assert right - left == bottom - top
                covered[top:bottom, left:right] += 1
            assert covered.min() >= 1
    assert len(heat.places(90, 90, tokens=False)) == 18
    assert heat.places(90, 90, tokens=True).tolist() == [[0, 0, 90, 90]]
    grid = heat.cells(np.array([[10, 20, 40, 50]]), 9)
    assert grid.tolist()[:4] == [[10, 20, 20, 30], [20, 20, 30, 30], [30, 20, 40, 30], [10, 30, 20, 40]]


def test_a_map_is_high_where_the_query_is() -> None:
    places = heat.places(120, 120, tokens=False)
    right = (places[:, 0] + places[:, 2]) / 2 > 60
    vectors = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    found = Image.open(io.BytesIO(heat.png(places, vectors, np.array([1, 0], np.float32), (120, 120))))
    alpha = np.asarray(found)[..., 3].astype(int)
    assert alpha[:, 90:].min() > alpha[:, :30].max() + 100
    cut = heat.cut(Image.fromarray(np.arange(14400, dtype=np.uint32).reshape(120, 120).astype(np.uint8)), places)
    assert [part.size for part in cut] == [(side, side) for side in (places[:, 2] - places[:, 0]).tolist()]


def test_pictures_without_a_map() -> None:
    assert "less than" in str(heat.looked_into(500, 23))
    assert "times as long" in str(heat.looked_into(700, 100))
    assert heat.looked_into(600, 100) is None


def test_a_model_without_tokens_is_asked_by_windows(archive: Path, retriever: Retriever) -> None:
    with serve(archive, retriever) as client:
        service: Any = client.app.app.state.service  # type: ignore[attr-defined]
        place = f"/api/items/{key_of('harbour_0.png')}/heatmap?text=ships"
        by_tokens = client.get(place).content
        service._maps = Recent(64)
        service._takes_tokens = False
        by_windows = client.get(place)
        assert by_windows.status_code == 200
        assert by_windows.content != by_tokens
        (found, *_), *_ = service._maps._values.values()
        assert len(found) == 4 * 3 + 4 * 3


@pytest.fixture(scope="module")
def wide(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a raster of 12 bits, and of a table and a picture."""
    folder = tmp_path_factory.mktemp("wide")
    values = np.random.default_rng(0).integers(0, 4096, (3, 160, 200)).astype(np.uint16)
    write_raster(folder / "images" / "wide.tif", values)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    (folder / "images" / "one.png").write_bytes(png(pixels))
    table = pa.table({"image": [png(pixels[:40]), png(pixels[40:])], "name": ["a", "b"]})
    pq.write_table(table, folder / "images" / "table.parquet")
    embed(model, str(folder / "images"), str(folder / "archive"), options=Options(scale="percentile 2 98"), workers=1)
    build_index(folder / "archive", sample=2)
    return folder / "archive"


def test_pictures_are_those_of_the_archive(wide: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    now = Snapshot.open(wide, retriever)
    monkeypatch.setattr(pictures, "OPEN", 1)  # each is closed when another is read
    for side in (500, 30):
        for row in now.information.to_pylist():
            expected = picture(now.folder, now.about, row["source"], row["pixel_bbox"], side)
            found = now.pictures.picture(row["source"], row["pixel_bbox"], side)
            assert found.size == expected.size
            assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= (0 if side == 500 else 80)
    with pytest.raises(ArchiveError, match="no longer hold"):
        now.pictures.picture("table.parquet::c", (0, 0, 9, 9))


def test_thumbnails_take_so_much_memory(wide: Path, retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf: Pictures = Snapshot.open(wide, retriever).pictures
    first = shelf.thumbnail("a", "one.png", (0, 0, 120, 90))
    assert shelf.thumbnail("a", "one.png", (0, 0, 120, 90)) is first
    monkeypatch.setattr(pictures, "THUMBNAIL_BYTES", len(first) + 10)
    shelf = Snapshot.open(wide, retriever).pictures
    shelf.thumbnail("a", "one.png", (0, 0, 120, 90))
    second = shelf.thumbnail("b", "table.parquet::a", (0, 0, 120, 40))
    assert list(shelf._small._values) == ["b"]
    assert shelf._small.total == len(second)


def test_what_tables_and_names_say(tmp_path: Path) -> None:
    image = encoded(Image.new("RGB", (4, 4)))
    rows = {
        "image": [image] * 3,
        "filename": ["a.png", "b.png", "a.png"],
        "captions": [["one"], ["two", "three"], ["four"]],
        "scene": ["beach", "park", "beach"],
    }
    pq.write_table(pa.table(rows), tmp_path / "named.parquet")
    pq.write_table(pa.table({"image": [image], "captions": [7]}), tmp_path / "nameless.parquet")
    pq.write_table(pa.table({"image": [image], "filename": ["a.png"], "captions": [7]}), tmp_path / "wrong.parquet")
    sources = ["named.parquet::a.png", "named.parquet::b.png", "named.parquet::c.png", "nameless.parquet::0",
               "wrong.parquet::a.png", "gone.parquet::a.png", "sub/airport_12.jpg", "plain.tif",
               "hf://datasets/o/n/x.parquet::pond_3.png"]  # fmt: skip
    said = told(sources, tmp_path)
    assert said["named.parquet::a.png"] == (("one", "four"), "beach")
    assert said["named.parquet::b.png"] == (("two", "three"), "park")
    assert said["named.parquet::c.png"] == said["gone.parquet::a.png"] == said["plain.tif"] == ((), None)
    assert said["wrong.parquet::a.png"] == said["nameless.parquet::0"] == ((), None)
    assert said["sub/airport_12.jpg"] == ((), "airport")
    assert said["hf://datasets/o/n/x.parquet::pond_3.png"] == ((), "pond")


def test_keys_and_pictures_as_parts_of_an_address() -> None:
    for id_ in ("a", "ä/b c.tif#0,0,9,9", "x" * 300, "<script>"):
        assert id_of(key_of(id_)) == id_
    for wrong in ("", "a", "YQ==", "YR", "_-", "é", "Y Q", "YQ\n"):
        if wrong != "":
            with pytest.raises(UnknownKeyError):
                id_of(wrong)
    vector = np.random.default_rng(0).normal(size=64).astype(np.float32)
    vector /= np.linalg.norm(vector)
    assert picture_vector(picture_term(vector), 64) @ vector > 0.999
    for wrong in ("", "AAAA", picture_term(vector)[:-2], "!", "A" * 86):
        with pytest.raises(ArchiveError, match="drop the picture again"):
            picture_vector(wrong, 64)
    both = Query("", "both", np.array([[1, 0], [0, 1]], np.float32))
    assert pooled(both) == pytest.approx([0.5**0.5, 0.5**0.5])


def test_the_largest_picture_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsretrieval.serve.terms.LIMITS", settings.Limits(upload_pixels=100))
    assert opened_picture(encoded(Image.new("L", (10, 10)))).mode == "RGB"
    with pytest.raises(BrokenImageError, match="10 x 11 pixels, and 100 are read"):
        opened_picture(encoded(Image.new("RGB", (10, 11))))
