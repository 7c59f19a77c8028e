"""Answers in every format, read by others."""

import csv
import io
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
from PIL import Image
from searched import outline

from rsretrieval.archive.search.formats import check_format, write
from rsretrieval.archive.search.results import Answer, Results, middle, table
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError

BOX = (179.0, -1.0, 180.0, 1.0)
ANSWERS = (
    Answer(
        1, "a é.tif#0,0,9,9", "a é.tif", 0.75, 2.5, (0, 0, 9, 9), BOX, outline(BOX),
        datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC), ("b,1", 'c"2'),
    ),
    Answer(2, "b\x1b[2J\n.png", "b.png", -0.25, None, (1, 2, 3, 4)),
)  # fmt: skip
FIRST = Results("two ships", ANSWERS)
NONE = Results("a dragon", (), "there is no answer")
ALONE = Results("no place", ANSWERS[1:])


def test_table() -> None:
    assert FIRST.table().splitlines() == [
        "rank    score      z       taken  latitude, longitude  near  id",
        "   1   0.7500  +2.50  2024-05-06    0.00000 179.50000    +2  a é.tif#0,0,9,9",
        f"   2  -0.2500{' ' * 48}b?[2J?.png",
    ]
    assert ALONE.table().splitlines() == ["rank    score  id", "   2  -0.2500  b?[2J?.png"]
    assert NONE.table() == "\n"
    lines = table([ALONE, NONE]).splitlines()
    assert lines == ["no place", *ALONE.table().splitlines(), "", "a dragon", "there is no answer"]
    assert middle((170.0, 0.0, -160.0, 2.0)) == (-175, 1)


def test_json() -> None:
    first, second = json.loads(FIRST.to_json())
    ring = [[179, -1], [180, -1], [180, 1], [179, 1], [179, -1]]
    assert first == {
        "query": "two ships", "rank": 1, "id": "a é.tif#0,0,9,9", "source": "a é.tif", "score": 0.75, "z": 2.5,
        "pixel_bbox": [0, 0, 9, 9], "bbox": [179, -1, 180, 1], "datetime": "2024-05-06T07:08:09.500000+00:00",
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "folded": ["b,1", 'c"2'],
    }  # fmt: skip
    assert (second["z"], second["geometry"], second["bbox"], second["datetime"], second["folded"]) == (
        None, None, None, None, [],
    )  # fmt: skip
    assert second["id"] == ANSWERS[1].id
    assert json.loads(NONE.to_json()) == []


def test_geojson(tmp_path: Path) -> None:
    write([FIRST, ALONE], tmp_path / "a.geojson")
    collection = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    first, second, third = collection["features"]
    assert {feature["type"] for feature in collection["features"]} == {"Feature"}
    assert (first["geometry"], first["bbox"]) == (ANSWERS[0].geometry, [179, -1, 180, 1])
    assert (second["geometry"], "bbox" in second) == (None, False)
    assert first["properties"] == {
        key: value for key, value in json.loads(FIRST.to_json())[0].items() if key not in ("geometry", "bbox")
    }
    assert [f["properties"]["query"] for f in (first, second, third)] == ["two ships", "two ships", "no place"]
    _, _, geometry, (scores,) = pyogrio.raw.read(tmp_path / "a.geojson", columns=["score"])
    assert scores.tolist() == [0.75, -0.25, -0.25]
    assert [None if wkb is None else wkb for wkb in geometry] == [ANSWERS[0].wkb, None, None]


def test_csv() -> None:
    first, second = csv.DictReader(io.StringIO(FIRST.to_csv()))
    assert first == {
        "query": "two ships", "rank": "1", "id": "a é.tif#0,0,9,9", "source": "a é.tif", "score": "0.75", "z": "2.5",
        "datetime": "2024-05-06T07:08:09.500000+00:00", "left": "0", "top": "0", "right": "9", "bottom": "9",
        "west": "179.0", "south": "-1.0", "east": "180.0", "north": "1.0", "folded": '["b,1", "c\\"2"]',
    }  # fmt: skip
    assert (second["id"], second["z"], second["west"], second["folded"]) == (ANSWERS[1].id, "", "", "")
    assert NONE.to_csv().splitlines() == [FIRST.to_csv().splitlines()[0]]


def test_geopackage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.gpkg"
    FIRST.write(file)
    assert "1 of 2 answers have no place" in caplog.text
    assert pyogrio.list_layers(file).tolist() == [["answers", "MultiPolygon"]]
    meta, _, geometry, fields = pyogrio.raw.read(file)
    assert meta["crs"] == "EPSG:4326"
    names = meta["fields"].tolist()
    assert names == ["rank", "id", "source", "score", "z", "query", "datetime"]
    row = dict(zip(names, (values[0] for values in fields), strict=True))
    assert (row["rank"], row["id"], row["source"], row["query"]) == (1, "a é.tif#0,0,9,9", "a é.tif", "two ships")
    assert (row["score"], row["z"]) == (0.75, 2.5)
    assert geometry[0][9:] == ANSWERS[0].wkb  # the polygon in a multipolygon
    assert geometry[1] is None
    with sqlite3.connect(file) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT rank, z, datetime, geom IS NULL FROM answers ORDER BY rank").fetchall()
        assert rows == [(1, 2.5, "2024-05-06T07:08:09.500Z", 0), (2, None, None, 1)]
        layer = database.execute("SELECT table_name, data_type, srs_id, min_x, max_y FROM gpkg_contents").fetchall()
        assert layer == [("answers", "features", 4326, 179, 1)]
        assert database.execute("SELECT count(*) FROM rtree_answers_geom").fetchone() == (1,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gpkg"]


def test_geopackage_without_places(tmp_path: Path) -> None:
    before = b"what was there"
    (tmp_path / "a.gpkg").write_bytes(before)
    with pytest.raises(ArchiveError, match=r"none of the 1 answers has a place on earth.* take json or csv"):
        ALONE.write(tmp_path / "a.gpkg")
    assert (tmp_path / "a.gpkg").read_bytes() == before
    NONE.write(tmp_path / "a.gpkg")
    assert pyogrio.read_info(tmp_path / "a.gpkg")["features"] == 0


def test_contact_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[Any, ...]] = []

    def picture(*given: Any) -> Image.Image:
        asked.append(given)
        if given[2] == "b.png":
            raise BrokenImageError("b.png is cut off")
        return Image.new("L", (448, 224), 255 if given[2] == "white" else 100)

    monkeypatch.setattr("rsretrieval.archive.pictures.picture", picture)
    answers = tuple(Answer(n, f"{n}" * 90, "grey", 0.5, None, (0, 0, 9, 9)) for n in range(1, 7))
    several = Results("six " * 90, answers, "", tmp_path, {"root": "."})
    write([Results("one", ANSWERS[1:], "", tmp_path, {}), several, NONE], tmp_path / "a.png")
    assert asked[1] == (tmp_path, {"root": "."}, "grey", (0, 0, 9, 9), 224)
    assert "is grey on the sheet, since it cannot be read: b.png is cut off" in caplog.text
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    part = 2 * 8 + 18
    assert sheet.shape == (part + 250 + part + 2 * 250 + part + 18, 5 * 232 + 8)
    assert (sheet[part : part + 224, 8:232] == 0xCC).all()
    second = part + 250 + part
    pictures = sheet[second : second + 500]
    for place in range(6):
        top, left = 250 * (place // 5), 8 + 232 * (place % 5)
        assert (pictures[top + 56 : top + 168, left : left + 224] == 100).all()
        assert (pictures[top : top + 56, left : left + 224] == 255).all()
        assert pictures[top + 226 : top + 242, left : left + 224].min() < 99  # rank, score, id
        assert (pictures[top : top + 242, left + 224 : left + 232] == 255).all()
    assert (pictures[250:, 240:] == 255).all()


def test_writing(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no format 'shp': give one of table, json, geojson, csv, gpkg, png"):
        FIRST.write(tmp_path / "a.shp")
    with pytest.raises(ArchiveError, match="no format ''"):
        FIRST.write(tmp_path / "a")
    with pytest.raises(ArchiveError, match="no format 'xml'"):
        check_format("xml")
    FIRST.write(tmp_path / "a", "json")
    assert (tmp_path / "a").read_text(encoding="utf-8") == FIRST.to_json()
    FIRST.write(tmp_path / "new" / "a.CSV")
    assert (tmp_path / "new" / "a.CSV").read_text(encoding="utf-8") == FIRST.to_csv()
