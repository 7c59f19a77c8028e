"""What a search finds, and in which order, against NumPy by hand."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from searched import LookedUp, Rough, Told, name, told_archive, unit, write_archive
from tiny import examples

from rsretrieval.archive import Archive, ArchiveError, build_index
from rsretrieval.archive.search.filters import Filters, intersects, parse_bbox
from rsretrieval.archive.search.query import combined
from rsretrieval.archive.search.ranking import folded
from rsretrieval.archive.search.scoring import bank_z, composed, moments
from rsretrieval.metrics import HubnessConfig, hub_bias
from rsretrieval.models.query_bank import QueryBank

ROWS, WIDTH = 60, 8
VECTORS = unit(ROWS, WIDTH)
ASKED = dict(zip(("ships", "planes", "trees", "a.png", "b.png"), unit(5, WIDTH, seed=1), strict=True))
BANK = QueryBank.holding(torch.from_numpy(unit(12, WIDTH, seed=2)), torch.from_numpy(unit(7, WIDTH, seed=3)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of which every tenth has no place; the others are in a line from 0 to 59 degrees east."""
    write_archive(tmp_path, VECTORS, {n: (n, 0.0, n + 0.5, 1.0) for n in range(ROWS) if n % 10})
    return tmp_path


def ids(results: Any) -> list[str]:
    return [answer.id for answer in results.answers]


def order(scores: np.ndarray) -> list[str]:
    return [name(int(n)) for n in np.lexsort((np.arange(len(scores)), -scores))]


def test_positives_and_negatives_by_hand() -> None:
    positives, negatives = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 1.0]])
    expected = np.array([2 * 0.5, 2 * 0.5, -1]) / math.sqrt(3)  # 2 · (.5, .5, 0) - (0, 0, 1), of length √3
    assert combined(positives, negatives, (2, 1)) == pytest.approx(expected, abs=1e-7)
    assert combined(positives, [], (2, 1)) == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0], abs=1e-7)
    single = unit(1, 5)[0]
    assert combined([single], [], (2, 1)).tobytes() == single.tobytes()
    with pytest.raises(ArchiveError, match="cancel each other out"):
        combined(positives[:1], 2 * positives[:1], (2, 1))


def test_plain_cosines(folder: Path) -> None:
    build_index(folder, sample=10)
    model = LookedUp(ASKED)
    archive = Archive.open(folder, model)  # type: ignore[arg-type]
    assert len(archive) == ROWS
    cosines = VECTORS @ ASKED["ships"]
    found = archive.search("ships", k=7)
    assert ids(found) == order(cosines)[:7]
    assert [a.rank for a in found.answers] == list(range(1, 8))
    assert [a.score for a in found.answers] == pytest.approx(np.sort(cosines)[::-1][:7], abs=1e-6)
    assert (found.query, found.note) == ("ships", "")
    assert [a.z for a in found.answers] == [None] * 7
    first = found.answers[0]
    number = int(first.id[:5])
    assert (first.source, first.pixel_bbox) == (first.id, (0, 0, 100 + number, 50))
    assert first.bbox == ((number, 0, number + 0.5, 1) if number % 10 else None)
    assert ids(archive.search(vector=3 * ASKED["ships"], k=7)) == order(cosines)[:7]
    assert ids(archive.search(image="b.png")) == order(VECTORS @ ASKED["b.png"])[:5]
    query = 2 * (ASKED["ships"] + ASKED["planes"]) / 2 - (ASKED["trees"] + ASKED["a.png"]) / 2
    found = archive.search(["ships", "planes"], negatives_text="trees", negatives_image=["a.png"])
    assert ids(found) == order(VECTORS @ query)[:5]
    assert [a.score for a in found.answers] == pytest.approx(
        np.sort(VECTORS @ query / np.linalg.norm(query))[::-1][:5], abs=1e-6
    )
    assert found.query == "ships + planes - trees - a.png"
    found = archive.search("ships", negatives_text=["trees"], factors=(1.0, 3.0))
    assert ids(found) == order(VECTORS @ (ASKED["ships"] - 3 * ASKED["trees"]))[:5]


def test_several_queries(folder: Path) -> None:
    model = LookedUp(ASKED)
    archive, _ = told_archive(folder, model)
    results = archive.search_each(["ships", ["planes", "trees"], "ships"], k=3)
    assert model.asked == [["ships", "planes", "trees"]]
    assert [r.query for r in results] == ["ships", "planes + trees", "ships"]
    assert [ids(r) for r in results] == [
        order(VECTORS @ query)[:3] for query in (ASKED["ships"], ASKED["planes"] + ASKED["trees"], ASKED["ships"])
    ]
    with pytest.raises(ArchiveError, match="several queries at once are for Archive"):
        archive.search([["ships"], ["planes"]])  # type: ignore[list-item]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "told"])
def test_ties_are_in_the_order_of_ids(tmp_path: Path, kind: str) -> None:
    vectors = np.repeat(unit(3, WIDTH), 40, axis=0)[np.random.default_rng(0).permutation(120)]
    write_archive(tmp_path, vectors)
    if kind == "told":
        archive, _ = told_archive(tmp_path, LookedUp(ASKED))
    else:
        build_index(tmp_path, kind, sample=10)
        archive = Archive.open(tmp_path, LookedUp(ASKED))  # type: ignore[arg-type]
    scores = np.round(vectors @ ASKED["ships"], 4)
    for k in (1, 5, 39, 40, 41, 100, 120):
        assert ids(archive.search("ships", k=k)) == order(scores)[:k], k


def test_composed_by_hand(folder: Path) -> None:
    archive, index = told_archive(folder, LookedUp(ASKED))
    image, text = VECTORS @ ASKED["a.png"], VECTORS @ np.float32(ASKED["ships"])

    def normal(values: np.ndarray) -> np.ndarray:
        z = (values - values.mean()) / values.std()
        return np.array([(1 + math.erf(number / math.sqrt(2))) / 2 for number in z])

    for weight in (0.6, 0.0, 1.0, 0.25):
        expected = (1 - weight) * normal(image) + weight * normal(text)
        found = archive.search("ships", "a.png", weight=weight, k=9)
        assert ids(found) == order(expected)[:9]
        assert [a.score for a in found.answers] == pytest.approx(np.sort(expected)[::-1][:9], abs=1e-6)
    assert found.answers[0].z is None
    assert found.query == "ships + a.png"
    assert index.asked == []  # all rows of an exact index are compared
    against = archive.search("ships", "a.png", negatives_text="trees", negatives_image="b.png", k=9)
    text, image = (
        VECTORS @ (q / np.linalg.norm(q))
        for q in (2 * ASKED["ships"] - ASKED["trees"], 2 * ASKED["a.png"] - ASKED["b.png"])
    )
    assert ids(against) == order(0.4 * normal(image) + 0.6 * normal(text))[:9]


def test_composed_where_all_rows_are_alike() -> None:
    scores = composed(np.array([[0.5, 0.5], [0.1, 0.3]]), np.array([0.5, 0.2]), np.array([0.0, 0.1]), 0.6)
    assert scores == pytest.approx([0.4 * 0.5 + 0.6 * 0.158655, 0.4 * 0.5 + 0.6 * 0.841345], abs=1e-5)
    queries = unit(3, WIDTH, seed=5)
    mean, deviation = moments(queries, VECTORS.mean(0), np.cov(VECTORS.T, bias=True))
    assert mean == pytest.approx((VECTORS @ queries.T).mean(0), abs=1e-6)
    assert deviation == pytest.approx((VECTORS @ queries.T).std(0), abs=1e-6)


def test_an_index_that_is_not_exact_gives_candidates_of_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, index = told_archive(folder, LookedUp(ASKED), Rough)
    found = archive.search("ships", "a.png", k=2)  # 1,000 candidates: all rows
    assert index.asked == []
    assert len(found.answers) == 2
    big = unit(3000, WIDTH, seed=4)
    write_archive(folder, big)
    archive, index = told_archive(folder, LookedUp(ASKED), Rough)
    found = archive.search("ships", "a.png", k=3)
    assert [asked["k"] for asked in index.asked] == [1000]
    candidates = {key for name in ("ships", "a.png") for key in np.argsort(-(index._vectors @ ASKED[name]))}
    assert len(candidates) == 3000
    even = index._vectors[::2]
    pool = sorted({n for name in ("ships", "a.png") for n in np.argsort(-(even @ ASKED[name]))[:1000].tolist()})
    both = np.stack([index._vectors @ ASKED[name] for name in ("a.png", "ships")])
    expected = composed(both, both.mean(1), both.std(1), 0.6)[::2][pool]
    assert [a.score for a in found.answers] == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-6)


def test_hubs_give_way(folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LookedUp(ASKED, BANK)
    archive, _ = told_archive(folder, model)
    config = HubnessConfig("csls", neighbours=3)
    for query, kind in (("ships", "texts"), ("b.png", "images")):
        bias = hub_bias(BANK.of(kind), torch.from_numpy(VECTORS), config).numpy()
        expected = VECTORS @ ASKED[query] - bias
        plain = {"text": query} if kind == "texts" else {"image": query}
        found = archive.search(**plain, hubness=True, k=60)
        assert ids(found) == order(expected)
        assert [a.score for a in found.answers] == pytest.approx(np.sort(expected)[::-1], abs=1e-6)
        raw = {a.id: a.z for a in archive.search(**plain, k=60).answers}
        assert {a.id: a.z for a in found.answers} == raw  # of the cosine, with hubs or without
    calls: list[int] = []
    monkeypatch.setattr(LookedUp, "hub_bias", lambda self, gallery, kind: calls.append(1) or torch.zeros(len(gallery)))
    assert ids(archive.search(image="b.png", hubness=True, k=60)) == order(expected)  # kept in a file
    assert calls == []
    model.model.bank = QueryBank.holding(torch.from_numpy(unit(5, WIDTH, seed=9)))
    assert ids(archive.search("ships", hubness=True, k=60)) == order(VECTORS @ ASKED["ships"])  # another bank
    assert calls == [1]
    file = folder / "index" / "hubs-texts.npz"
    for damaged in (b"half", file.read_bytes()[:-40], b""):
        file.write_bytes(damaged)
        calls.clear()
        archive.search("ships", hubness=True)
        assert calls == [1]
    monkeypatch.setattr("rsretrieval.archive.search.scoring.write_whole", lambda *_: (_ for _ in ()).throw(OSError(28)))
    (folder / "index" / "hubs-texts.npz").unlink()
    assert ids(archive.search("ships", hubness=True, k=60)) == order(VECTORS @ ASKED["ships"])
    assert "is not kept for the next search" in caplog.text


def test_z_by_hand(folder: Path) -> None:
    archive, _ = told_archive(folder, LookedUp(ASKED, BANK))
    for given_by, bank in (({"text": "ships"}, BANK.of("texts")), ({"image": "ships"}, BANK.of("images"))):
        found = archive.search(**given_by, k=60)
        for answer in found.answers:
            vector = VECTORS[int(answer.id[:5])].astype(float)
            others = [float(np.dot(query, vector)) for query in bank.numpy().astype(float)]
            mean = sum(others) / len(others)
            deviation = math.sqrt(sum((other - mean) ** 2 for other in others) / len(others))
            assert answer.z == pytest.approx((answer.score - mean) / deviation, abs=1e-4)
        good = [a for a in found.answers[:8] if a.z is not None and a.z >= 1.5]
        assert 0 < len(good) < 8
        left = archive.search(**given_by, k=8, min_z=1.5)
        assert ids(left) == [a.id for a in good]
        assert left.note == f"left out for a z below 1.5: {8 - len(good)} of 8"
    nothing = archive.search("ships", min_z=99)
    assert (nothing.answers, nothing.note) == ((), "left out for a z below 99: 5 of 5")
    assert np.isnan(bank_z(np.array([0.3]), VECTORS[:1], np.repeat(VECTORS[1:2], 4, 0))).all()


def test_what_needs_a_bank_is_refused_without(folder: Path) -> None:
    archive, _ = told_archive(folder, LookedUp(ASKED))
    with pytest.raises(ArchiveError, match=r"min_z .* no texts: give it one by `rsretrieval bank`"):
        archive.search("ships", min_z=1)
    with pytest.raises(ArchiveError, match="hubs cannot be told: this model has no query bank"):
        archive.search("ships", hubness=True)
    alone = QueryBank.holding(BANK.of("texts"))
    archive, _ = told_archive(folder, LookedUp(ASKED, alone))
    assert archive.search(image="a.png").answers[0].z is None
    for wrong in ({"min_z": 1}, {"hubness": True}):
        with pytest.raises(ArchiveError, match=r"bank.* has no images"):
            archive.search(image="a.png", **wrong)
    with pytest.raises(ArchiveError, match="a picture and a sentence are composed"):
        archive.search("ships", "a.png", min_z=1)
    with pytest.raises(ArchiveError, match="does not say whether"):
        archive.search(vector=ASKED["ships"], min_z=1)
    for query in ({"text": "ships", "image": "a.png"}, {"vector": ASKED["ships"]}):
        with pytest.raises(ArchiveError, match="--hubness corrects the scores of sentences, or those of pictures"):
            archive.search(**query, hubness=True)  # type: ignore[arg-type]


def test_filters_come_before_the_search(folder: Path) -> None:
    archive, index = told_archive(folder, LookedUp(ASKED))
    scores = VECTORS @ ASKED["ships"]

    def best(numbers: list[int], k: int) -> list[str]:
        return [name(n) for n in sorted(numbers, key=lambda n: -scores[n])[:k]]

    inside = [n for n in range(30, 51) if n % 10]
    worst = best(list(range(ROWS)), ROWS).index(best(inside, 1)[0])
    assert worst > 0  # else the test would show nothing
    found = archive.search("ships", bbox="30.5, 0.5, 50, 2", k=3)
    inside = [n for n in range(30, 51) if n % 10]
    assert ids(found) == best(inside, 3)
    assert index.asked == []  # they are fewer than would be asked for
    archive.search("ships", where="width < 150", k=3)
    (asked,) = index.asked
    assert (asked["k"], len(asked["allowed"]), asked["where"]) == (22, 50, None)
    index.asked.clear()
    few = archive.search("ships", where="width BETWEEN 110 AND 114", k=3)  # 5 of 60 rows
    assert ids(few) == best([10, 11, 12, 13, 14], 3)
    assert index.asked == []
    assert [a.score for a in few.answers] == pytest.approx([scores[int(i[:5])] for i in ids(few)], abs=1e-6)
    both = archive.search("ships", bbox=(0, 0, 180, 90), where="datetime >= '2024-02-10'", k=60)
    assert ids(both) == best([n for n in range(40, 60) if n % 10], 60)
    assert both.note == (
        "fewer than 60 rows in the box 0, 0, 180, 90 and where datetime >= '2024-02-10': all 18 are looked at"
    )


@pytest.mark.parametrize("kind", ["flat", "hnsw", "lancedb"])
def test_every_kind_of_index(folder: Path, kind: str) -> None:
    vectors = unit(300, WIDTH, seed=7)
    write_archive(folder, vectors, {n: (n - 180.0, 0.0, n - 179.5, 1.0) for n in range(0, 300, 2)})
    build_index(folder, kind, sample=10)
    archive = Archive.open(folder, LookedUp(ASKED, BANK), kind=kind)  # type: ignore[arg-type]
    scores = vectors @ ASKED["ships"]
    even = np.where(np.arange(300) % 2 == 0, scores, -9)
    late = np.where(np.arange(300) >= 100, scores, -9)
    assert ids(archive.search("ships", k=9)) == order(scores)[:9]
    assert ids(archive.search("ships", k=9, bbox="-180,-5,180,5")) == order(even)[:9]
    assert ids(archive.search("ships", k=9, where="width >= 200")) == order(late)[:9]
    assert (
        ids(archive.search("ships", k=9, where="datetime >= '2024-04-10'", bbox="-180,-5,180,5"))
        == (order(np.minimum(even, late))[:9])
    )
    assert len(ids(archive.search("ships", "a.png", k=400, where="width % 2 = 1"))) == 150


def test_an_index_that_filters_itself(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Native(Told):
        filters_natively = True
        means: Any = None

        def search(self, queries: Any, k: int, allowed: Any = None, where: Any = None) -> Any:
            if isinstance(self.means, Exception) and where:
                raise self.means
            best = super().search(queries, k, self.means if where else allowed)
            self.asked[-1]["where"] = where
            return best

    archive, index = told_archive(folder, LookedUp(ASKED), Native)
    right = order(np.where(np.arange(ROWS) < 30, VECTORS @ ASKED["ships"], -9))[:4]
    rows = np.array([int(i[:5]) < 30 for i in archive._information.column("id").to_pylist()])
    index.means = index.keys[rows]
    assert ids(archive.search("ships", where="width < 130", k=4)) == right
    assert [asked["where"] for asked in index.asked] == ["(width < 130\n)"]
    assert "does not filter" not in caplog.text
    for means in (index.keys[::2], index.keys[rows][:3], ArchiveError("another dialect")):
        index.means = means
        index.asked.clear()
        caplog.clear()
        assert ids(archive.search("ships", where="width < 130", k=4)) == right
        assert index.asked[-1]["allowed"] == set(index.keys[rows].tolist())
        assert "the index does not filter where width < 130 itself" in caplog.text


def _boxes(count: int) -> list[tuple[int, ...]]:
    generator = np.random.default_rng(0)
    meridians = np.append(generator.integers(-180, 181, count), [-180, 180, 0, 179, -179])
    west, east = generator.choice(meridians, (2, count))
    south, north = np.sort(generator.integers(-90, 91, (2, count)), axis=0)
    return [tuple(map(int, box)) for box in zip(west, south, east, north, strict=True)]


def _degrees(west: int, east: int) -> set[int]:
    return {*range(360)} if east - west == 360 else {(west + step) % 360 for step in range((east - west) % 360 + 1)}


PLACED = _boxes(300)
FILTERS = Filters(
    pa.table({**dict(zip(("west", "south", "east", "north"), np.array(PLACED, float).T, strict=True)),
              "_row": np.arange(len(PLACED))})
)  # fmt: skip
LONGITUDES = st.integers(-180, 180) | st.sampled_from([-180, -179, 179, 180])


@settings(max_examples=examples(60), deadline=None)
@given(LONGITUDES, LONGITUDES, st.integers(-90, 90), st.integers(-90, 90))
def test_boxes_on_the_globe(west: int, east: int, south: int, north: int) -> None:
    """Against whole degrees, one by one."""
    south, north = sorted((south, north))
    expected = [
        row for row, (w, s, e, n) in enumerate(PLACED)
        if s <= north and n >= south and _degrees(w, e) & _degrees(west, east)
    ]  # fmt: skip
    chosen = FILTERS((west, south, east, north), None)
    assert chosen.rows is not None
    assert chosen.rows.tolist() == expected


def test_boxes_by_hand(tmp_path: Path) -> None:
    places = {0: (179.0, 0.0, -179.0, 1.0), 1: (170.0, 0.0, 171.0, 1.0), 2: (-171.0, 0.0, -170.0, 1.0),
              3: (0.0, 0.0, 1.0, 1.0), 4: (-180.0, -90.0, 180.0, 90.0)}  # fmt: skip
    write_archive(tmp_path, VECTORS[:6], places)
    archive, _ = told_archive(tmp_path, LookedUp(ASKED))
    for box, rows in (
        ("170.5,0,-170.5,1", [0, 1, 2, 4]), ("-170.5 0 170.5 1", [1, 2, 3, 4]), ("179.5,0,180,1", [0, 4]),
        ("-180,0,-179.5,1", [0, 4]), ("1,1,2,2", [3, 4]), ("2,2,3,3", [4]), ("-180,-90,180,90", [0, 1, 2, 3, 4]),
    ):  # fmt: skip
        assert sorted(ids(archive.search("ships", bbox=box, k=6))) == [name(row) for row in rows], box
    assert parse_bbox([1, 2, 3, 4]) == (1, 2, 3, 4)
    assert "--" not in intersects((-1.0, -2.0, -0.5, -1.0))  # in SQL a comment
    for wrong, why in (
        ("1,2,3", "is not of four numbers"), ("a,b,c,d", "is not of four numbers"), ("1,5,2,4", "south, 5, above its"),
        ("1,2,nan,4", "no finite number"), ("1,2,200,4", "beyond 180"), ("40,-95,41,-74", "beyond 180"),
    ):  # fmt: skip
        with pytest.raises(ArchiveError, match=why):
            archive.search("ships", bbox=wrong)


def test_nothing_in_the_box(folder: Path) -> None:
    archive, _ = told_archive(folder, LookedUp(ASKED))
    found = archive.search("ships", bbox="-30,-5,-20,5")
    assert found.answers == ()
    assert found.note == "no row of the archive's 60 is in the box -30, -5, -20, 5: there is no answer"
    write_archive(folder, VECTORS)
    archive, _ = told_archive(folder, LookedUp(ASKED))
    assert archive.search("ships", bbox="-180,-90,180,90").answers == ()


def test_conditions(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # days and times are UTC all the same
    archive, _ = told_archive(folder, LookedUp(ASKED))
    for where, rows in (
        ("id = '00007.png'", [7]), ("datetime IS NULL", [0]), ("datetime < '2024-01-03T12:00:00+12:00'", [1]),
        ("datetime = TIMESTAMP '2024-01-03'", [2]), ("datetime = '2024-01-03'", [2]), ("day(datetime) = 9", [8, 39]),
            ("datetime = '2024-01-03T09:00:00+09:00'", [2]), ("datetime_origin <> 'file name' OR west = 7", [7]),
        ("width / 2 = 50.5", [1]), ("height <> 50 OR source LIKE '%58%'", [58]), ("north = 1 AND east < 2", [1]),
        ("datetime < TIMESTAMPTZ '2024-01-02 12:00:00+00'", [1]), ("1 = 1 -- all\n AND id = '00003.png'", [3]),
    ):  # fmt: skip
        assert sorted(ids(archive.search("ships", where=where, k=60))) == [name(row) for row in rows], where


@pytest.mark.parametrize(
    "where",
    [
        "id = 'a'; DROP TABLE rows", "true) UNION SELECT (1", "ATTACH 'x.db'", "COPY rows TO 'x.csv'", "", "SELECT 1",
        "(SELECT count(*) FROM read_csv('{file}')) > 0", "(SELECT count(*) FROM '{file}') > 0",
        "(SELECT content FROM read_text('{file}')) = 'x'", "(SELECT count(*) FROM glob('*')) >= 0",
        "(SELECT count(*) FROM secret) > 0", "id = 'a', true", "count(*) > 1", "width", "5", "NULL",
        "COLUMNS(*) IS NULL", "wdth > 5", "width > ", "width > ?", "INSTALL httpfs", "id = 5", "error(id) IS NULL",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(folder: Path, where: str) -> None:
    secret = VECTORS  # noqa: F841 - not to be found by its name
    (folder / "secret.csv").write_text("a,b\n1,2\n")
    archive, _ = told_archive(folder, LookedUp(ASKED))
    with pytest.raises(ArchiveError, match=r"over the columns id, source, datetime, .* width, height") as error:
        archive.search("ships", where=where.format(file=folder / "secret.csv"))
    assert "\n" not in str(error.value).replace(where, "")
    assert sorted(file.name for file in folder.iterdir()) == ["embeddings.parquet", "secret.csv"]


def _greedy(vectors: np.ndarray, ranked: list[int], fold: float, k: int) -> list[list[int]]:
    groups: list[list[int]] = []
    for row in ranked:
        near = [group for group in groups if float(vectors[group[0]] @ vectors[row]) >= fold]
        if near:
            near[0].append(row)
        elif len(groups) == k:
            break
        else:
            groups.append([row])
    return groups


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(0, 9999), st.integers(1, 9), st.sampled_from([0.5, 0.9, 0.97]))
def test_folding_is_greedy(seed: int, k: int, fold: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = unit(7, 4, seed=seed)[generator.integers(0, 7, 200)] + 0.1 * generator.normal(size=(200, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ranked = np.argsort(-vectors @ vectors[0])
    groups, is_more = folded(ranked, k, lambda others, head: vectors[others] @ vectors[head] >= fold)
    expected = _greedy(vectors, ranked.tolist(), fold, k)
    assert groups == expected
    assert is_more == (sum(map(len, expected)) < 200)


@pytest.mark.parametrize("form", [Told, Rough])
def test_near_duplicates_are_folded(tmp_path: Path, form: type[Told]) -> None:
    vectors = np.repeat(unit(6, WIDTH), 50, axis=0)
    vectors += np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32) * 1e-3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    write_archive(tmp_path, vectors)
    archive, index = told_archive(tmp_path, LookedUp(ASKED), form)
    found = archive.search("ships", k=3, fold=0.97)
    ranked = np.argsort(-(vectors @ ASKED["ships"])).tolist()
    expected = _greedy(vectors, ranked, 0.97, 3)
    assert [len(group) for group in expected] == [50, 50, 50]
    if form is Told:
        assert [[a.id, *a.folded] for a in found.answers] == [[name(row) for row in group] for group in expected]
        assert [asked["k"] for asked in index.asked] == [22, 88]  # and then all
    assert [a.score for a in found.answers] == sorted((a.score for a in found.answers), reverse=True)
    every = archive.search("ships", k=9, fold=0.97)
    assert [len(a.folded) for a in every.answers] == [49] * 6
    assert every.note == "all of them are near-duplicates of 6"


def test_equal_rows_are_folded_at_one(tmp_path: Path) -> None:
    vectors = unit(4, WIDTH)[[0, 1, 0, 2, 3, 1, 0]]
    write_archive(tmp_path, vectors)
    archive, _ = told_archive(tmp_path, LookedUp(ASKED))
    found = archive.search(vector=vectors[0], fold=1.0, k=7)
    groups = {name(0): (name(2), name(6)), name(1): (name(5),), name(3): (), name(4): ()}
    assert {a.id: a.folded for a in found.answers} == groups
    assert found.note == "all of them are near-duplicates of 4"


def test_more_answers_than_rows(folder: Path) -> None:
    for form in (Told, Rough):
        archive, _ = told_archive(folder, LookedUp(ASKED), form)
        found = archive.search("ships", k=61)
        assert ids(found) == order(VECTORS @ ASKED["ships"])
        assert found.note == "fewer than 61 rows in the archive: all 60 are looked at"
        assert archive.search("ships", k=60).note == ""


def test_wrong_queries(folder: Path) -> None:
    archive, _ = told_archive(folder, LookedUp(ASKED))
    for wrong, why in (
        ({}, "nothing to look for"), ({"text": []}, "nothing to look for"), ({"text": ""}, "'' has no word"),
        ({"text": "..."}, "has no word"), ({"text": ["ships", " "]}, "has no word"), ({"text": 5}, "of type int"),
        ({"negatives_text": "trees"}, "can only be taken from something"), ({"text": "ships", "k": 0}, "--k 0: give"),
        ({"text": "ships", "k": 2.5}, "--k 2.5"), ({"text": "ships", "weight": 1.1}, "--weight 1.1: give a number"),
        ({"text": "ships", "fold": 0}, "--fold 0"), ({"text": "ships", "min_z": math.nan}, "--min_z nan"),
        ({"text": "ships", "weight": math.nan}, "--weight nan"), ({"text": "ships", "factors": (0, 1)}, "--factors"),
        ({"text": "ships", "vector": VECTORS[0]}, "is all of a query"), ({"vector": VECTORS[0, :3]}, r"of \(8,\)"),
        ({"vector": VECTORS}, r"shape \(60, 8\) does not fit"), ({"vector": np.zeros(WIDTH)}, "has no direction"),
        ({"text": "ships", "negatives_text": ["ships"], "factors": (1, 1)}, "cancel each other out"),
    ):  # fmt: skip
        with pytest.raises(ArchiveError, match=why):
            archive.search(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArchiveError, match="there are no queries"):
        archive.search_each([])
    with pytest.raises(ArchiveError, match=r"takes a list of queries: give \[text\]"):
        archive.search_each("ships")
    with pytest.raises(ArchiveError, match=r"of type list, not a text: \['ships'\]"):
        archive.search_each([[["ships"]]])  # type: ignore[list-item]


def test_a_model_that_is_not_the_archives(folder: Path) -> None:
    build_index(folder, sample=10)
    other = LookedUp(ASKED)
    other.digest = "xyz"
    with pytest.raises(ArchiveError, match=r"'looked-up' \(digest abc\).* another \(digest xyz\): name the archive's"):
        Archive.open(folder, other)  # type: ignore[arg-type]
    archive = Archive.open(folder)
    assert ids(archive.search(vector=ASKED["ships"])) == order(VECTORS @ ASKED["ships"])[:5]  # without a model
    with pytest.raises(ValueError, match="there is no model 'looked-up'"):
        archive.search("ships")
    write_archive(folder, VECTORS, model={"name": "", "digest": "abc"}, written="2")
    with pytest.raises(ArchiveError, match="has changed since"):
        Archive.open(folder)
    build_index(folder, sample=10)
    with pytest.raises(ArchiveError, match="does not know the name of its model: give it by --model"):
        Archive.open(folder).search("ships")


def test_where_a_model_is_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rsretrieval import Retriever

    asked: list[tuple[str, dict[str, Any]]] = []

    def load(where: str, **options: Any) -> LookedUp:
        asked.append((where, options))
        return LookedUp(ASKED)

    monkeypatch.setattr(Retriever, "from_pretrained", load)
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    for place in (folder / "mine", folder / "both", folder / "here" / "both"):
        place.mkdir()
    write_archive(folder, VECTORS, model={"name": "both", "digest": "abc"})
    build_index(folder, sample=10)
    expected = {None: folder / "both", "both": "both", "mine": folder / "mine", "rsicd-lite": "rsicd-lite"}
    for given_name, place in expected.items():
        archive = Archive.open(folder, given_name, device="cpu", scale="minmax 0 9")
        assert ids(archive.search("ships", k=1)) == order(VECTORS @ ASKED["ships"])[:1]
        assert asked.pop() == (
            str(place), {"device": "cpu", "scale": "minmax 0 9", "bands": None, "trust_remote_code": False}
        )  # fmt: skip
