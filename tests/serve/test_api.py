"""What the API answers, against the archive asked in Python."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient
from PIL import Image
from searched import Told
from served import HOSTILE, ROWS, SIDE, encoded, make_archive, serve

from rsretrieval import Retriever
from rsretrieval.archive import Archive, ArchiveError, build_index
from rsretrieval.archive.index import Index
from rsretrieval.archive.search.model import ArchiveModel
from rsretrieval.embeddings import EmbeddingsFile, table, write_sorted
from rsretrieval.serve import snapshot
from rsretrieval.serve.app import create_app
from rsretrieval.serve.settings import Settings
from rsretrieval.serve.snapshot import Snapshot
from rsretrieval.serve.store import Store
from rsretrieval.serve.terms import key_of

CENTRE = "mosaic.tif#128,128,192,192"


@pytest.fixture(scope="module")
def opened(archive: Path, retriever: Retriever) -> Archive:
    """The same archive."""
    return Archive.open(archive, retriever)


def ask(client: TestClient, **terms: Any) -> dict[str, Any]:
    """The answer of a search; ``against`` is ``not``, ``since`` is ``from``."""
    names = {"against": "not", "since": "from"}
    answer = client.get("/api/search", params={names.get(name, name): value for name, value in terms.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["id"] for item in answer["results"]]


def refused(client: TestClient, address: str, status: int) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    return str(answer.json()["error"])


def test_health_and_archive(client: TestClient) -> None:
    health = client.get("/health").json()
    assert (health["status"], health["rows"], health["index"]) == ("ok", ROWS, "flat")
    assert ".." not in health["model"]
    about = client.get("/api/archive").json()
    assert about["scenes"] == {"farmland": 4, "harbour": 4, "mosaic.tif": 36, "table <b>scene</b>": 6}
    assert [day[:10] for day in about["dates"]] == ["2024-03-05", "2024-04-08"]
    west, south, east, north = about["bounds"]
    assert 14.99 < west < 15.001 < east < 15.01
    assert 45.14 < south < north < 45.16
    assert (about["captions"], about["z"], about["basemap"], about["limits"]["k"]) == (True, True, None, 200)


def test_answers_are_those_of_the_archive(client: TestClient, opened: Archive) -> None:
    own = opened.search(["two ships", "a harbour"], negatives_text=["a road"], k=ROWS).answers
    answer = ask(client, text=["two ships", "a harbour"], against="a road", k=ROWS)
    assert ids(answer) == [one.id for one in own]
    assert [item["score"] for item in answer["results"]] == pytest.approx([one.score for one in own], abs=1e-6)
    assert [item["z"] for item in answer["results"]] == pytest.approx([one.z for one in own], abs=1e-4)
    assert answer["best_z"] == answer["results"][0]["z"]
    assert answer["nothing_matches"] == (answer["best_z"] < 2)
    assert ("Nothing here matches" in (answer["message"] or "")) == answer["nothing_matches"]
    placed = next(item for item in answer["results"] if item["geometry"])
    west, south = np.min(placed["geometry"]["coordinates"][0], 0)
    east, north = np.max(placed["geometry"]["coordinates"][0], 0)
    assert placed["centre"] == pytest.approx([(west + east) / 2, (south + north) / 2])
    assert (placed["width"], placed["height"]) == (SIDE, SIDE)


def test_pages_are_parts_of_one_order(client: TestClient) -> None:
    for terms in ({"text": "a beach"}, {}, {"text": "a beach", "min_z": -0.5}):
        whole, pages, offset = ask(client, **terms, k=ROWS), [], 0
        while offset is not None:
            page = ask(client, **terms, k=7, offset=offset)
            pages += page["results"]
            assert page["total"] == whole["total"] == ROWS
            offset = page["next"]
        assert ids({"results": pages}) == ids(whole)
        for name in ("score", "z"):
            values = [[item[name] for item in part] for part in (pages, whole["results"])]
            assert values[0] == (values[1] if None in values[1] else pytest.approx(values[1], abs=1e-5))
    assert [item["score"] for item in ask(client, k=2)["results"]] == [None, None]


def test_ranks_end_where_they_are_too_many(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsretrieval.serve.results.MOST_RANKED", 10)
    monkeypatch.setattr(snapshot, "BLOCK", 3)
    page = ask(client, text="trees", k=8, offset=4)
    assert len(page["results"]) == 6
    assert page["next"] is None
    assert page["message"] is not None
    assert page["best_z"] == pytest.approx(ask(client, text="trees", k=1)["results"][0]["z"], abs=1e-5)
    assert ask(client, text="trees", offset=11)["results"] == []


def test_more_and_less_like_this(client: TestClient, opened: Archive, archive: Path) -> None:
    answer = ask(client, like=key_of("harbour_2.png"), k=4)
    assert ids(answer)[0] == "harbour_2.png"
    assert answer["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    images = archive.parent / "images"
    wanted, against = [images / "harbour_2.png", images / "harbour_4.png"], [images / "farmland_3.png"]
    own = opened.search(image=wanted, negatives_image=against, k=5).answers
    keys = [key_of(file.name) for file in wanted]
    assert ids(ask(client, like=keys, unlike=key_of("farmland_3.png"), k=5)) == [one.id for one in own]
    both = opened.search("many ships", image=wanted, k=ROWS).answers
    composed = ask(client, text="many ships", like=keys, k=ROWS)
    assert [item["score"] for item in composed["results"]] == pytest.approx([one.score for one in both], abs=2e-3)
    assert composed["best_z"] is None
    assert not composed["nothing_matches"]


def test_what_is_not_wanted_alone_is_no_search(client: TestClient) -> None:
    answer = ask(client, against="a road", k=3)
    assert ids(answer) == ids(ask(client, k=3))
    assert "say what is looked for" in answer["message"]


def test_filters(client: TestClient) -> None:
    assert ask(client, scene="harbour", text="ships")["total"] == 4
    assert set(ids(ask(client, scene=["harbour", "farmland"]))) == {f"harbour_{n}.png" for n in (0, 2, 4, 6)} | {
        f"farmland_{n}.png" for n in (1, 3, 5, 7)
    }
    assert ask(client, since="2024-04-03", to="2024-04-04")["total"] == 2
    assert ask(client, to="2024-03-05")["total"] == 36
    assert ask(client, since="2024-03-06")["total"] == 8
    assert ask(client, to="9999-12-31", since="0001-01-01")["total"] == 44
    assert ask(client, scene="harbour", since="2024-04-03", text="ships")["total"] == 3
    own = ask(client, k=200, scene="mosaic.tif")["results"]
    box = "{0},{1},{0},{1}".format(*next(item["centre"] for item in own if item["id"] == CENTRE))
    assert ids(ask(client, box=box)) == [CENTRE]
    nothing = ask(client, box="0,0,1,1", text="ships")
    assert (nothing["results"], nothing["total"], nothing["next"], nothing["best_z"]) == ([], 0, None, None)
    assert "No row lies within the filters" in nothing["message"]
    assert ask(client, scene="nowhere")["total"] == 0
    hopeless = ask(client, text="ships", min_z=1e6)
    assert (hopeless["results"], hopeless["next"]) == ([], None)
    assert "No answer has a z of" in hopeless["message"]


def test_a_picture_is_searched_by_and_kept_in_an_address(client: TestClient, archive: Path) -> None:
    content = (archive.parent / "images" / "farmland_5.png").read_bytes()
    answer = client.post("/api/search", files={"file": ("x.png", content)}, data={"k": "3"}).json()
    assert ids(answer)[0] == "farmland_5.png"
    assert len(answer["picture"]) < 1400
    again = ask(client, picture=answer["picture"], k=3)
    assert again == {name: value for name, value in answer.items() if name != "picture"}
    with_text = {"text": "ships", "scene": "harbour", "not": ["a road", "trees"]}
    both = client.post("/api/search", files={"file": ("x.png", content)}, data=with_text).json()
    assert both["total"] == 4
    assert ids(both) == ids(
        ask(client, picture=both["picture"], text="ships", scene="harbour", against=["a road", "trees"])
    )


def test_a_row_and_what_is_like_it(client: TestClient) -> None:
    row = client.get(f"/api/items/{key_of(CENTRE)}").json()
    assert (row["id"], row["pixel_bbox"], row["scene"]) == (CENTRE, [128, 128, 192, 192], "mosaic.tif")
    assert (row["heatmap"], row["heatmap_reason"]) == (True, None)
    assert ids({"results": row["neighbours"]}) == ids(ask(client, like=row["key"], k=9))[1:]
    assert row["score"] is None


def test_pictures_are_those_of_the_files(client: TestClient, archive: Path) -> None:
    images = archive.parent / "images"
    key = key_of(CENTRE)
    with rasterio.open(images / "mosaic.tif") as raster:
        pixels = np.moveaxis(raster.read(), 0, -1).astype(int)
    shown = Image.open(io.BytesIO(client.get(f"/api/items/{key}/image").content))
    assert np.abs(np.asarray(shown).astype(int) - pixels[128:192, 128:192]).mean() < 6
    small = client.get(f"/api/items/{key_of('harbour_0.png')}/image?size=48")
    assert Image.open(io.BytesIO(small.content)).size == (48, 40)
    around = Image.open(io.BytesIO(client.get(f"/api/tiles/{key}?margin=1").content))
    assert around.size == (192, 192)
    outside = np.abs(np.asarray(around).astype(int) - pixels[64:256, 64:256]).mean(-1)
    assert outside[:60, :60].mean() < 6
    at_the_corner = client.get(f"/api/tiles/{key_of('mosaic.tif#0,0,64,64')}?margin=4")
    assert Image.open(io.BytesIO(at_the_corner.content)).size == (320, 320)
    assert "lies in no scene" in refused(client, f"/api/tiles/{key_of('harbour_0.png')}", 404)
    assert client.get(f"/api/items/{key_of('table.parquet::row3.png')}/image").status_code == 200


def test_thumbnails_are_kept(client: TestClient) -> None:
    place = f"/api/items/{key_of('harbour_0.png')}/thumbnail"
    first = client.get(place)
    assert Image.open(io.BytesIO(first.content)).format == "JPEG"
    assert client.get(place).content == first.content
    again = client.get(place, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    gone = client.get(f"/api/items/{key_of('x')}/thumbnail", headers={"If-None-Match": first.headers["etag"]})
    assert gone.status_code == 404


def test_a_heat_map_is_laid_over_the_picture(client: TestClient) -> None:
    key = key_of("harbour_2.png")
    maps = {}
    for terms in ("text=ships", "text=a road", "text=ships&not=a road", f"like={key_of(CENTRE)}"):
        found = Image.open(io.BytesIO(client.get(f"/api/items/{key}/heatmap?{terms}").content))
        assert (found.mode, found.size) == ("RGBA", (96, 80))
        maps[terms] = np.asarray(found)[..., 3]
        assert maps[terms].std() > 5
    assert np.abs(maps["text=ships"].astype(int) - maps["text=a road"]).mean() > 1
    assert "nothing to look for" in refused(client, f"/api/items/{key}/heatmap", 400)


def test_exports(client: TestClient) -> None:
    answer = client.get("/api/export?format=csv&text=ships&k=5&scene=harbour")
    assert answer.headers["content-disposition"] == 'attachment; filename="answers.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == ids(ask(client, text="ships", scene="harbour"))
    chosen = [CENTRE, "harbour_2.png"]
    keys = "&".join(f"key={key_of(id_)}" for id_ in chosen)
    features = json.loads(client.get(f"/api/export?format=geojson&{keys}").text)["features"]
    assert [feature["properties"]["id"] for feature in features] == chosen
    assert [feature["properties"]["score"] for feature in features] == [None, None]
    ranked = json.loads(client.get(f"/api/export?format=geojson&text=ships&{keys}").text)["features"]
    everything = {item["id"]: item["score"] for item in ask(client, text="ships", k=ROWS)["results"]}
    scores = {feature["properties"]["id"]: feature["properties"]["score"] for feature in ranked}
    assert scores == pytest.approx({id_: everything[id_] for id_ in chosen}, abs=1e-6)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert Image.open(io.BytesIO(client.get(f"/api/export?format=png&{keys}").content)).format == "PNG"
    assert client.get("/api/export?format=csv&k=3").text.count("\n") == 4
    assert "format" in refused(client, "/api/export?format=gpkg", 422)


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/api/search?texts=a", 422, "texts"),
        ("/api/search?k=0", 422, "k: "),
        ("/api/search?k=201", 422, "200"),
        ("/api/search?k=many", 422, "k: "),
        ("/api/search?offset=-1", 422, "offset"),
        ("/api/search?text=" + "a" * 501, 422, "500"),
        ("/api/search?" + "text=a&" * 17, 422, "16 terms"),
        ("/api/search?" + "scene=a&" * 17, 422, "scene"),
        ("/api/search?text=%20", 400, "no word"),
        ("/api/search?text=a&not=a&not=a&text=a", 200, ""),
        ("/api/search?from=tomorrow", 422, "from"),
        ("/api/search?box=1,2,3", 400, "four numbers"),
        ("/api/search?box=nan,0,1,1", 400, "finite"),
        ("/api/search?min_z=nan&text=a", 422, "finite"),
        ("/api/search?picture=AAAA", 400, "drop the picture again"),
        ("/api/search?picture=%C3%A9", 400, "drop the picture again"),
        ("/api/search?like=x", 404, "no such row"),
        ("/api/items/..%2F..%2Fetc%2Fpasswd", 404, ""),
        ("/api/items/L2V0Yy9wYXNzd2Q/image", 404, "no such row"),
        ("/api/items/aGFyYm91cl8yLnBuZw==/image", 404, "no such row"),
        ("/api/items/%FF%FE/image", 404, "no such row"),
        ("/api/tiles/bW9zYWljLnRpZg", 404, "no such row"),
        ("/api/items/aGFyYm91cl8yLnBuZw/image?size=100000", 422, "size"),
        (f"/api/tiles/{key_of(CENTRE)}?margin=5", 422, "margin"),
        (f"/api/tiles/{key_of(CENTRE)}?margin=nan", 422, "margin"),
        ("/static/..%2fsettings.py", 404, ""),
        ("/static/../settings.py", 404, ""),
        ("/docs", 404, ""),
        ("/redoc", 404, ""),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(client: TestClient, address: str, status: int, words: str) -> None:
    if status == 200:
        assert client.get(address).status_code == 200
        return
    assert words in refused(client, address, status)


def test_captions_are_what_they_are(client: TestClient) -> None:
    answer = client.get("/api/search", params={"scene": "table <b>scene</b>"})
    assert answer.headers["content-type"] == "application/json"
    rows = sorted(answer.json()["results"], key=lambda item: item["id"])
    assert [row["captions"] for row in rows] == [[f"picture number {n} of the table .", HOSTILE] for n in range(6)]
    assert client.get("/api/search?scene=harbour").json()["results"][0]["captions"] is None


def test_the_api_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/health", "/api/archive", "/api/search", "/api/items/{key}", "/api/items/{key}/image",
        "/api/items/{key}/thumbnail", "/api/items/{key}/heatmap", "/api/tiles/{key}", "/api/export",
    }  # fmt: skip
    parameters = {one["name"] for one in described["paths"]["/api/search"]["get"]["parameters"]}
    assert parameters == {
        "text", "not", "like", "unlike", "picture", "scene", "from", "to", "box", "k", "offset", "min_z"
    }  # fmt: skip


def test_a_picture_that_is_gone(model: str, retriever: Retriever, tmp_path: Path) -> None:
    folder = make_archive(tmp_path, model)
    (tmp_path / "images" / "harbour_0.png").unlink()
    (tmp_path / "images" / "mosaic.tif").write_bytes(b"II*no longer a raster")
    with serve(folder, retriever) as client:
        places = [f"items/{key_of('harbour_0.png')}/{what}" for what in ("image", "thumbnail", "heatmap?text=ships")]
        for place in (*places, f"items/{key_of(CENTRE)}/image", f"tiles/{key_of(CENTRE)}"):
            said = refused(client, f"/api/{place}", 404)
            assert "cannot be read any more" in said
            assert str(tmp_path) not in said


def test_an_archive_without_rows(archive: Path, retriever: Retriever, tmp_path: Path) -> None:
    about = EmbeddingsFile(archive).about
    nothing = np.zeros((0, 24), np.float32)
    write_sorted(tmp_path / "embeddings.parquet", [table([], nothing, "float16")], {"emb": about})
    with pytest.raises(ArchiveError, match="has no rows"):  # such an archive has no index, and is not served
        build_index(tmp_path)
    embeddings, index = EmbeddingsFile(tmp_path), Told(np.zeros(0, np.int64), nothing)
    report: Any = None
    opened = Index("told", index, index.keys, np.zeros(24), np.zeros((24, 24)), report, embeddings)
    now = Snapshot(tmp_path, opened, ArchiveModel(tmp_path, about, retriever, {}))
    with TestClient(create_app(Settings(), Store(now)), base_url="http://127.0.0.1:8000") as client:
        for terms in ({}, {"text": "ships"}, {"text": "ships", "min_z": 2}):
            answer = ask(client, **terms)
            assert (answer["results"], answer["total"], answer["next"]) == ([], 0, None)
            assert "The archive has no rows" in answer["message"]
        described = client.get("/api/archive").json()
        assert (described["rows"], described["scenes"], described["dates"], described["bounds"]) == (0, {}, None, None)
        picture = encoded(Image.new("RGB", (8, 8)))
        assert client.post("/api/search", files={"file": picture}).json()["total"] == 0
