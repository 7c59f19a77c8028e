"""Indexes: their answers against NumPy, what changes in an archive, and what a killed build leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from searched import unit, write_archive
from tiny import examples

from rsretrieval.archive.index import build, build_index, lance, open_index, place, saved
from rsretrieval.archive.index.base import VectorIndex
from rsretrieval.archive.index.exact import search_blocks
from rsretrieval.archive.index.faiss_kinds import Flat
from rsretrieval.archive.index.lookup import Lookup
from rsretrieval.archive.index.measure import Moments, recall
from rsretrieval.archive.lock import alone
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile

KINDS = ("flat", "hnsw", "lancedb")
Vectors = NDArray[np.float32]


def clusters(count: int, width: int = 16, seed: int = 0) -> Vectors:
    """Around 20 centres, as pictures of a few scenes."""
    rng = np.random.default_rng(seed)
    values = unit(20, width, seed=99)[rng.integers(0, 20, count)] + 0.1 * rng.normal(size=(count, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def stored(folder: Path) -> tuple[NDArray[np.int64], Vectors]:
    """Keys and vectors of an archive."""
    parts = list(EmbeddingsFile(folder).vectors())
    return np.concatenate([keys for keys, _ in parts]), np.concatenate([vectors for _, vectors in parts])


def by_hand(folder: Path, queries: Vectors, k: int, chosen: Any = slice(None)) -> NDArray[np.int64]:
    """Keys of the best rows, by sorting all cosines."""
    keys, vectors = stored(folder)
    scores = queries.astype(np.float64) @ vectors[chosen].T.astype(np.float64)
    return keys[chosen][np.argsort(-scores, axis=1)[:, :k]]


def shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(one.tolist(), other.tolist(), strict=True)]))


def bare(keys: Any) -> Any:
    """Information of rows, for kinds that keep none."""
    return None


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 1,200 rows with an index of each kind; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("archive")
    places = {number: (number / 10, 0.0, number / 10 + 1, 1.0) for number in range(0, 1200, 2)}
    write_archive(folder, clusters(1200), places)
    for kind in KINDS:
        build_index(folder, kind, sample=30)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_numpy(archive: Path, kind: str) -> None:
    queries = clusters(25, seed=1)
    index = open_index(archive, kind)
    scores, keys = index.index.search(queries, 10)
    wanted = by_hand(archive, queries, 10)
    assert shared(keys, wanted) >= (0.99 if kind == "hnsw" else 1)
    if kind != "hnsw":
        assert keys.tolist() == wanted.tolist()
    everything, vectors = stored(archive)
    rows = index.rows_of(keys)
    assert (everything[rows] == keys).all()
    assert scores == pytest.approx(
        np.einsum("qd,qkd->qk", queries, vectors[rows]), abs=1e-3 if kind == "hnsw" else 1e-6
    )
    assert scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_was_given(archive: Path, kind: str) -> None:
    index, (keys, vectors) = open_index(archive, kind), stored(archive)
    assert index.keys.tolist() == keys.tolist()
    assert sorted(index.index.keys.tolist()) == sorted(keys.tolist())
    some = np.array([7, 3, 7, 1100])
    assert index.index.vectors(keys[some]) == pytest.approx(vectors[some], abs=1e-3 if kind == "hnsw" else 0)
    assert index.index.vectors(keys[:0]).shape == (0, 16)
    with pytest.raises(KeyError, match="no key 5"):
        index.index.vectors(np.array([5]))
    assert index.rows_of(np.array([keys[8], 5, -1])).tolist() == [8, -1, -1]
    query = unit(16, seed=3)
    cosines = vectors.astype(np.float64) @ query
    assert query @ index.mean == pytest.approx(cosines.mean(), abs=1e-7)
    assert query @ index.covariance @ query == pytest.approx(cosines.var(), abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 4, 60, 700, 1199])
def test_a_filter_leaves_k_answers_where_k_are(archive: Path, kind: str, count: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(lance, "LISTED", 500)
    queries, index = clusters(10, seed=2), open_index(archive, kind)
    chosen = np.sort(np.random.default_rng(count).permutation(1200)[:count])
    allowed = np.concatenate([index.keys[chosen][::-1], [11, 12]])  # in any order, and some that no row has
    scores, keys = index.index.search(queries, 10, allowed=allowed)
    found = min(10, count)
    assert np.isin(keys[:, :found], index.keys[chosen]).all()
    assert (keys[:, found:] == -1).all()
    assert (scores[:, found:] == -np.inf).all()
    same = shared(keys[:, :found], by_hand(archive, queries, found, chosen))
    assert same >= (0.98 if kind == "hnsw" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_allowed_or_more_are_asked_for_than_there_are(archive: Path, kind: str) -> None:
    index = open_index(archive, kind).index
    scores, keys = index.search(clusters(2), 3, allowed=np.zeros(0, np.int64))
    assert keys.tolist() == [[-1] * 3] * 2
    assert (scores == -np.inf).all()
    _, keys = index.search(clusters(2), 1300)
    assert [len(set(row)) for row in keys.tolist()] == [1201, 1201]
    assert sorted(keys[0, :1200].tolist()) == sorted(index.keys.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_vectors_tie_and_the_smaller_key_is_first(tmp_path: Path, kind: str) -> None:
    vectors = np.concatenate([clusters(90), np.repeat(clusters(1, seed=5), 110, axis=0)])
    write_archive(tmp_path, vectors)
    assert build_index(tmp_path, kind, sample=20).recall_at_10 == 1
    index = open_index(tmp_path)
    queries = np.concatenate([vectors[-1:], clusters(30, seed=6)])  # many at once, as matrices are multiplied in blocks
    _, keys = index.index.search(queries, 7)
    tied = np.sort(index.keys[np.isin(index.keys, stored(tmp_path)[0][(stored(tmp_path)[1] == vectors[-1]).all(1)])])
    if kind == "hnsw":  # a walk meets some of them
        assert np.isin(keys[0], tied).all()
        assert (np.diff(keys[0]) > 0).all()
    else:
        assert keys[0].tolist() == tied[:7].tolist()


def test_where_is_applied_before_the_search(archive: Path) -> None:
    index, query = open_index(archive, "lancedb"), clusters(1, seed=7)
    keys, vectors = stored(archive)
    about = index.embeddings.information()
    numbers = np.array([int(id_[:5]) for id_ in about.column("id").to_pylist()])
    for where, chosen in {
        "west > 100": (numbers % 2 == 0) & (numbers > 1000),
        "id IN ('00004.png', '00005.png')": (numbers == 4) | (numbers == 5),
        "datetime >= date '2024-01-03' AND datetime < timestamp '2024-01-06T00:00:00Z'": (numbers >= 2) & (numbers < 5),
        "west IS NULL AND width - height < 60": (numbers % 2 == 1) & (numbers < 10),
        "datetime_origin IS NULL OR source = '00009.png'": (numbers == 0) | (numbers == 9),
    }.items():
        _, found = index.index.search(query, 5, where=where)
        best = np.argsort(-(vectors[chosen] @ query[0]))[:5]
        assert found[0, : len(best)].tolist() == keys[chosen][best].tolist(), where
        assert (found[0, len(best) :] == -1).all()
    both = index.index.search(query, 5, allowed=keys[numbers < 1005], where="west > 100")[1]
    assert set(both[0].tolist()) - {-1} == set(keys[(numbers == 1002) | (numbers == 1004)].tolist())
    with pytest.raises(ArchiveError, match=r"condition 'nought > 1'.*nought"):
        index.index.search(query, 5, where="nought > 1")
    for kind in ("flat", "hnsw"):
        with pytest.raises(ArchiveError, match="no condition in SQL"):
            open_index(archive, kind).index.search(query, 5, where="west > 100")


def test_a_large_table_has_an_index_of_its_own(tmp_path: Path) -> None:
    write_archive(tmp_path, clusters(1200))
    report = build_index(tmp_path, "lancedb", sample=50, exact_rows=500, partitions=8, probes=2)
    assert 0.9 <= report.recall_at_10 <= 1
    index = open_index(tmp_path)
    assert len(index.index._table.list_indices()) == 1  # type: ignore[attr-defined]
    _, keys = index.index.search(clusters(1, seed=1), 400, where="width < 500")  # more than two parts of it hold
    assert set(keys[0].tolist()) == set(by_hand(tmp_path, clusters(1), 400, numbered(tmp_path) < 400)[0].tolist())
    write_archive(tmp_path, np.concatenate([clusters(1200), clusters(100, seed=2)]), written="2")
    assert build_index(tmp_path, "lancedb", sample=50).added == 100
    keys, vectors = stored(tmp_path)
    assert open_index(tmp_path).index.search(vectors[::30], 1)[1][:, 0].tolist() == keys[::30].tolist()


def numbered(folder: Path) -> NDArray[np.int64]:
    ids = EmbeddingsFile(folder).information(["id"]).column("id").to_pylist()
    return np.array([int(id_[:5]) for id_ in ids])


@pytest.mark.parametrize("kind", KINDS)
def test_changes_are_taken_in_as_if_it_were_built_anew(tmp_path: Path, kind: str) -> None:
    old, new = tmp_path / "changed", tmp_path / "fresh"
    vectors = clusters(500)
    write_archive(old, vectors)
    first = build_index(old, kind, sample=20)
    assert (first.rows, first.added, first.removed, first.anew) == (500, 500, 0, "")
    again = build_index(old, kind, sample=20)
    assert (again.added, again.removed, again.folder) == (0, 0, first.folder)
    changed = np.concatenate([clusters(10, seed=3), vectors[10:450], clusters(200, seed=4)])  # 10 others, 50 gone
    for folder in (old, new):
        write_archive(folder, changed, written="2")
    with pytest.raises(ArchiveError, match=f"has changed since .* run `rsretrieval index .* --kind {kind}`"):
        open_index(old)
    second = build_index(old, kind, sample=20)
    assert (second.rows, second.added, second.removed, second.anew) == (650, 210, 60, "")
    build_index(new, kind, sample=20)
    queries = np.concatenate([clusters(20, seed=8), vectors[450:]])  # what is gone is asked for
    for allowed in (None, stored(old)[0][:300]):
        scores, keys = open_index(old).index.search(queries, 10, allowed)
        wanted_scores, wanted = open_index(new).index.search(queries, 10, allowed)
        if kind == "hnsw":
            assert shared(keys, wanted) > 0.98
        else:
            assert keys.tolist() == wanted.tolist()
            assert scores.tolist() == wanted_scores.tolist()
    assert sorted(open_index(old).index.keys.tolist()) == sorted(stored(new)[0].tolist())
    assert [file.name for file in (old / "index" / kind).glob("build-*")] == [second.folder]


def test_removed_rows_are_no_answers_and_many_of_them_end_the_graph(tmp_path: Path) -> None:
    vectors = clusters(400)
    write_archive(tmp_path, vectors)
    build_index(tmp_path, "hnsw", sample=20)
    for rows, added, removed, anew in ((340, 0, 60, False), (400, 60, 0, False), (300, 0, 100, True)):
        write_archive(tmp_path, vectors[:rows], written=str(rows))
        report = build_index(tmp_path, "hnsw", sample=20)
        assert (report.rows, report.added, report.removed, bool(report.anew)) == (rows, added, removed, anew)
        index, here = open_index(tmp_path), set(stored(tmp_path)[0].tolist())
        for k in (5, 300, 400):
            _, keys = index.index.search(vectors, k)
            assert set(keys.ravel().tolist()) <= here | {-1}
            assert ((keys >= 0).sum(1) == min(k, rows)).all()
    assert index.index._vectors.ntotal == 300  # type: ignore[attr-defined]


def test_other_information_under_a_key_is_taken_in(tmp_path: Path) -> None:
    vectors = clusters(30)
    write_archive(tmp_path, vectors, {3: (10, 10, 11, 11)})
    build_index(tmp_path, "lancedb")
    write_archive(tmp_path, vectors, {3: (50, 10, 51, 11)}, written="2")
    report = build_index(tmp_path, "lancedb")
    assert (report.rows, report.added, report.removed) == (30, 1, 1)
    index = open_index(tmp_path).index
    assert index.search(vectors[:1], 2, where="west = 10")[1].tolist() == [[-1, -1]]
    row = numbered(tmp_path).tolist().index(3)
    assert index.search(vectors[:1], 2, where="west = 50")[1].tolist() == [[stored(tmp_path)[0][row], -1]]


def _cut(function: Callable[..., Any], times: int = 0) -> Callable[..., Any]:
    """Runs it some times, and then the process is gone."""
    calls = []

    def cut(*args: Any, **options: Any) -> Any:
        if len(calls) >= times:
            raise KeyboardInterrupt
        calls.append(1)
        return function(*args, **options)

    return cut


STEPS: dict[str, tuple[Any, str, int]] = {
    "made": (Path, "mkdir", 0),
    "filled": (Moments, "add", 0),
    "filled but not saved": (build, "_save", 0),
    "half saved": (np, "savez", 0),
    "saved but not measured": (build, "recall", 0),
    "measured but not told": (saved, "write_text", 0),
}


@pytest.mark.parametrize("killed", [False, True])  # an error that is seen, and one that leaves all as it is
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_build_that_ends_early_leaves_the_old_index(
    tmp_path: Path, kind: str, step: str, killed: bool, monkeypatch: Any
) -> None:
    vectors, queries = clusters(60), clusters(5, seed=1)
    write_archive(tmp_path, vectors)
    before = build_index(tmp_path, kind, sample=5)
    embeddings = (tmp_path / "embeddings.parquet").read_bytes()
    answers = open_index(tmp_path).index.search(queries, 4)[1].tolist()
    write_archive(tmp_path, np.concatenate([vectors[:50], clusters(30, seed=2)]), written="2")
    with monkeypatch.context() as patched:
        owner, name, times = STEPS[step]
        if killed:
            patched.setattr(place, "_clean", lambda _: None)
        patched.setattr(owner, name, _cut(getattr(owner, name), times))
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path, kind, sample=5)
    changed = (tmp_path / "embeddings.parquet").read_bytes()
    (tmp_path / "embeddings.parquet").write_bytes(embeddings)
    assert open_index(tmp_path).report == before
    assert open_index(tmp_path).index.search(queries, 4)[1].tolist() == answers
    (tmp_path / "embeddings.parquet").write_bytes(changed)
    report = build_index(tmp_path, kind, sample=5)
    assert (report.rows, report.added, report.removed, report.anew) == (80, 30, 10, "")
    assert shared(open_index(tmp_path).index.search(queries, 4)[1], by_hand(tmp_path, queries, 4)) == 1
    assert [file.name for file in (tmp_path / "index" / kind).glob("build-*")] == [report.folder]


def test_a_first_build_that_ends_early_leaves_none(tmp_path: Path, monkeypatch: Any) -> None:
    write_archive(tmp_path, clusters(20))
    with monkeypatch.context() as patched:
        patched.setattr(saved, "write_text", _cut(saved.write_text))
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path)
    with pytest.raises(ArchiveError, match="no index of kind flat: run `rsretrieval index"):
        open_index(tmp_path)
    assert build_index(tmp_path).added == 20


def test_a_full_disk_is_told_and_leaves_the_old_index(tmp_path: Path, monkeypatch: Any) -> None:
    write_archive(tmp_path, clusters(20))
    build_index(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(OSError, match="what was there is as it was"):
            build_index(tmp_path, rebuild=True)
    assert open_index(tmp_path).report.rows == 20


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told_and_mended(tmp_path: Path, kind: str) -> None:
    write_archive(tmp_path, clusters(40))

    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[:-7])

    def spoil(file: Path) -> None:
        file.write_bytes(b"spoilt!!" + file.read_bytes()[8:])

    for damage in (cut, spoil, Path.unlink):
        for name in ("rows.npy", "moments.npz", "lance.json" if kind == "lancedb" else "vectors.faiss"):
            report = build_index(tmp_path, kind, sample=5)
            damage(tmp_path / "index" / kind / report.folder / name)
            with pytest.raises(ArchiveError, match=r"is damaged: .*--rebuild true"):
                open_index(tmp_path)
            assert build_index(tmp_path, kind, sample=5, rebuild=damage is spoil).rows == 40
            assert len(open_index(tmp_path).index) == 40
    file = tmp_path / "index" / kind / "report.json"
    for text in ("{", "[]", '{"kind": "flat"}'):
        file.write_text(text)
        with pytest.raises(ArchiveError, match=r"report.json' cannot be read"):
            open_index(tmp_path)
    assert build_index(tmp_path, kind, sample=5).added == 40


def test_another_models_embeddings_are_indexed_anew(tmp_path: Path, caplog: Any) -> None:
    write_archive(tmp_path, clusters(20))
    build_index(tmp_path)
    write_archive(tmp_path, clusters(20, width=8), written="2", model={"name": "other", "digest": "xyz"})
    report = build_index(tmp_path)
    assert report.anew == "it was of another model, looked-up"
    assert report.anew in caplog.text
    assert (report.rows, report.model) == (20, {"name": "other", "digest": "xyz"})
    assert open_index(tmp_path).index.vectors(open_index(tmp_path).keys).shape == (20, 8)


def test_options_are_kept_and_others_build_anew(tmp_path: Path) -> None:
    write_archive(tmp_path, clusters(50))
    build_index(tmp_path, "hnsw", m=8)
    assert build_index(tmp_path, "hnsw").options == {"m": 8, "ef_construction": 200, "ef_search": 128}
    report = build_index(tmp_path, "hnsw", ef_search=64)
    assert (report.options["m"], report.options["ef_search"], report.anew) == (8, 64, "")
    report = build_index(tmp_path, "hnsw", m=16)
    assert (report.anew, report.added) == ("it had another m", 50)
    report = build_index(tmp_path, "hnsw", rebuild=True)
    assert (report.anew, report.options["m"]) == ("as asked", 32)
    for options, message in (
        ({"mm": 3}, "no option 'mm'; it has m, ef_construction, ef_search"),
        ({"m": 0}, "m is 0: give a number of 1 or more"),
        ({"m": 1}, "give 2 neighbours or more"),
        ({"m": "many"}, "m is 'many'"),
    ):
        with pytest.raises(ArchiveError, match=message):
            build_index(tmp_path, "hnsw", **options)
    assert build_index(tmp_path).options == {}
    assert open_index(tmp_path).kind == "flat"
    build_index(tmp_path, "hnsw")
    assert open_index(tmp_path).kind == "hnsw"  # built last, though nothing had to be done


def test_what_cannot_be_indexed_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no archive"):
        build_index(tmp_path)
    write_archive(tmp_path, clusters(3))
    with pytest.raises(ValueError, match=r"unknown kind of index 'flit' \(did you mean 'flat'"):
        build_index(tmp_path, "flit")
    with pytest.raises(ArchiveError, match="sample=0"):
        build_index(tmp_path, sample=0)
    with alone(tmp_path), pytest.raises(ArchiveError, match="another process"):
        build_index(tmp_path)
    write_archive(tmp_path, clusters(3)[:0])
    with pytest.raises(ArchiveError, match="has no rows"):
        build_index(tmp_path)


def test_the_report_says_what_is_on_disk(archive: Path) -> None:
    for kind in KINDS:
        report = json.loads((archive / "index" / kind / "report.json").read_text())
        assert (report["kind"], report["rows"], report["written"], report["model"]["digest"]) == (
            kind,
            1200,
            "1",
            "abc",
        )
        files = [
            file for file in (archive / "index" / kind).rglob("*") if file.is_file() and file.name != "report.json"
        ]
        assert report["bytes"] == sum(file.stat().st_size for file in files)


class Rigged(VectorIndex):
    """Gives what it is told to."""

    exact = False

    def __init__(self, answers: NDArray[np.int64]) -> None:
        self.answers = answers

    def search(self, queries: Any, k: int, allowed: Any = None, where: Any = None) -> Any:
        return np.zeros(self.answers.shape, np.float32), self.answers

    build = open = keys = vectors = add = remove = save = None  # type: ignore[assignment]


def test_recall_counts_right_answers_once_and_ties_fairly() -> None:
    keys, vectors = np.arange(100, 140), unit(40, 8)
    vectors[21] = vectors[20]
    pieces = [(keys[start : start + 7], vectors[start : start + 7]) for start in range(0, 40, 7)]
    queries = vectors[[0, 5, 20]]
    order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")
    best = keys[order[:, :10]]
    assert recall(Rigged(best), queries, pieces) == 1
    worse = best.copy()
    worse[0, 7:] = keys[order[0, 30:33]]  # 3 of 30 are others
    assert recall(Rigged(worse), queries, pieces) == pytest.approx(27 / 30)
    worse[1, 5:] = worse[1, 4]  # 5 of 30 are repeated
    assert recall(Rigged(worse), queries, pieces) == pytest.approx(22 / 30)
    worse[2, :2] = [-1, 7]  # none, and a key that no row has
    assert recall(Rigged(worse), queries, pieces) == pytest.approx(20 / 30)
    tied = np.tile(vectors[:1], (15, 1))
    assert recall(Rigged(np.arange(105, 115)[None]), vectors[:1], [(keys[:15], tied)]) == 1
    assert recall(Rigged(np.array([[100, 101, -1, -1]])), vectors[:1], [(keys[:3], vectors[:3])]) == pytest.approx(
        2 / 3
    )


SMALL = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3).filter(any), min_size=1, max_size=40)


def normed(rows: Any) -> Vectors:
    values = np.array(rows, np.float64)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def check(index: Any, held: dict[int, Vectors], query: Vectors, k: int, allowed: set[int]) -> None:
    """Answers against a dict: the best scores, and of equal vectors all smaller keys first."""
    mask = np.array(sorted(allowed), np.int64)
    scores, keys = index.search(query[None], k, allowed=mask)
    there = sorted(set(held) & allowed)
    found = [key for key in keys[0].tolist() if key >= 0]
    assert len(found) == len(set(found)) == min(k, len(there))
    wanted = sorted((float(held[key].astype(np.float64) @ query) for key in there), reverse=True)[:k]
    assert scores[0, : len(found)] == pytest.approx(wanted, abs=1e-6)
    for place_, key in enumerate(found):
        smaller = {other for other in there if other < key and (held[other] == held[key]).all()}
        assert smaller <= set(found[:place_])


@settings(max_examples=examples(60), deadline=None)
@given(SMALL, st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 39), max_size=20)), max_size=8), st.data())
def test_flat_is_a_dict_whatever_is_added_and_removed(rows: Any, changes: Any, data: Any) -> None:
    vectors, held = normed(rows), dict[int, Vectors]()
    index = Flat.build(Path(), 3, {})
    for adds, numbers in changes:
        chosen = [n for n in sorted(numbers) if n < len(vectors) and (n in held) != adds]
        keys = np.array(chosen, np.int64)
        if adds:
            index.add(keys, vectors[keys], bare(keys))
            held |= {n: vectors[n] for n in chosen}
        else:
            index.remove(keys)
            held = {n: vector for n, vector in held.items() if n not in numbers}
        assert sorted(index.keys.tolist()) == sorted(held)
    assert index.vectors(index.keys).tolist() == [held[key].tolist() for key in index.keys.tolist()]
    query = normed([data.draw(st.sampled_from(rows))])[0]
    check(index, held, query, data.draw(st.integers(1, 45)), data.draw(st.sets(st.integers(0, 45))) | {1, 2})


@settings(max_examples=examples(60), deadline=None)
@given(SMALL, st.integers(1, 45), st.integers(1, 9))
def test_block_by_block_is_a_dict_too(rows: Any, k: int, size: int) -> None:
    vectors, keys = normed(rows), np.random.default_rng(k).permutation(len(rows))

    class Blocks:
        @staticmethod
        def search(queries: Vectors, k: int, allowed: Any) -> Any:
            parts = [slice(start, start + size) for start in range(0, len(keys), size)]
            return search_blocks([(keys[part], vectors[part]) for part in parts], queries, k)

    held = dict(zip(keys.tolist(), vectors, strict=True))
    check(Blocks, held, vectors[0], k, set(keys.tolist()))


@given(st.sets(st.integers(0, 50)), st.lists(st.integers(-3, 50)))
def test_lookup_is_a_dict(keys: set[int], wanted: list[int]) -> None:
    array = np.random.default_rng(0).permutation(np.array(sorted(keys), np.int64))
    places = {key: number for number, key in enumerate(array.tolist())}
    assert Lookup(array)(np.array(wanted, np.int64)).tolist() == [places.get(key, -1) for key in wanted]
