"""Rows removed from an archive, and archives merged: what is left, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from searched import outline, unit, write_archive

from rsretrieval.archive import rewrite
from rsretrieval.archive.edit import merge, remove_rows
from rsretrieval.archive.index import build_index, open_index
from rsretrieval.archive.state import InputState, sources_table
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile, Row, table, write_sorted

Vectors = NDArray[np.float32]


def rows_of(folder: Path) -> dict[str, list[float]]:
    """Embeddings by id."""
    file = EmbeddingsFile(folder)
    ids = file.information(["id"]).column("id").to_pylist()
    vectors = np.concatenate([vectors for _, vectors in file.vectors()])
    return dict(zip(ids, vectors.tolist(), strict=True))


def write(folder: Path, named: dict[str, Vectors], root: str = ".", **about: Any) -> None:
    """Rows by source; ``SOURCE#…`` is a tile, with a place."""
    rows = []
    for id_ in named:
        box = (1.0, 2.0, 3.0, 4.0) if "#" in id_ else None
        rows.append(Row(id_, id_.partition("#")[0], (0, 0, 9, 9), box and outline(box), box))
    vectors = np.stack(list(named.values()))
    emb = {"dimensions": vectors.shape[1], "data_type": "float32", "model": {"name": "m", "digest": "abc"}}
    emb |= {"written": str(folder), "root": root, **about}
    write_sorted(folder / "embeddings.parquet", [table(rows, vectors, emb["data_type"])], {"emb": emb})


def write_sources(folder: Path, **skipped: list[list[str]]) -> None:
    states = [InputState(f"{name}.png", 1, 2, "", "{}", skipped=pieces) for name, pieces in skipped.items()]
    pq.write_table(sources_table(states), folder / "sources.parquet")


def sources(folder: Path) -> dict[str, Any]:
    rows = pq.read_table(folder / "sources.parquet").to_pylist()
    return {row["source"]: json.loads(row["skipped"]) for row in rows}


def test_removed_rows_are_gone_and_the_others_as_they_were(tmp_path: Path) -> None:
    vectors = unit(30, 8)
    write_archive(tmp_path, vectors, {number: (number, 0, number + 1, 1) for number in range(0, 30, 3)})
    before, information = rows_of(tmp_path), EmbeddingsFile(tmp_path).information().to_pylist()
    about = EmbeddingsFile(tmp_path).about
    assert remove_rows(tmp_path, ["00003.png", "00007.png", "00003.png"]) == 2
    gone = {"00003.png", "00007.png"}
    assert rows_of(tmp_path) == {id_: vector for id_, vector in before.items() if id_ not in gone}
    after = EmbeddingsFile(tmp_path).information().to_pylist()
    assert after == [row for row in information if row["id"] not in gone]
    new = EmbeddingsFile(tmp_path).about
    assert new["written"] != about["written"]
    assert {**new, "written": ""} == {**about, "written": ""}
    geo = json.loads(pq.read_schema(tmp_path / "embeddings.parquet").metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == [0, 0, 28, 1]
    assert [file.name for file in tmp_path.iterdir() if file.name != ".lock"] == ["embeddings.parquet"]


def test_an_index_follows_what_is_removed_and_merged(tmp_path: Path) -> None:
    vectors = unit(40, 8)
    folder, other = tmp_path / "a", tmp_path / "b"
    write(folder, {f"{number}.png": vectors[number] for number in range(30)})
    write(other, {f"{number}.png": vectors[number] for number in range(30, 40)})
    build_index(folder)
    remove_rows(folder, ["3.png", "4.png"])
    assert merge(folder, other) == 10
    report = build_index(folder)
    assert (report.rows, report.added, report.removed) == (38, 10, 2)
    index = open_index(folder)
    ids = index.embeddings.information(["id"]).column("id").to_pylist()
    _, keys = index.index.search(vectors, 1)
    found = [ids[row] for row in index.rows_of(keys[:, 0])]
    assert found[:3] == ["0.png", "1.png", "2.png"]
    assert set(found[3:5]) & {"3.png", "4.png"} == set()
    assert found[5:30] == [f"{number}.png" for number in range(5, 30)]
    assert found[30:] == [f"../b/{number}.png" for number in range(30, 40)]


def test_what_cannot_be_removed_leaves_all_rows(tmp_path: Path) -> None:
    write_archive(tmp_path, unit(5, 8))
    content = (tmp_path / "embeddings.parquet").read_bytes()
    for ids, message in (
        (["00001.png", "no", "nor"], "no row of the ids 'no', 'nor': nothing was removed"),
        ([f"x{n}" for n in range(9)], "'x0', 'x1', 'x2' and 6 more"),
        ([], "no id"),
        ([f"0000{n}.png" for n in range(5)], "all 5 rows"),
    ):
        with pytest.raises(ArchiveError, match=message):
            remove_rows(tmp_path, ids)
    assert (tmp_path / "embeddings.parquet").read_bytes() == content


def test_merged_sources_are_told_from_the_first_root(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "east").mkdir(parents=True)
    a, b = tmp_path / "archives" / "a", tmp_path / "b"
    vectors = unit(7, 4)
    write(a, {"x.png": vectors[0], "east/same.png": vectors[1]}, "../../images")
    write(
        b,
        {
            "same.png": vectors[1], "x.png": vectors[2], "r.tif#0,0,9,9": vectors[3],
            "t.parquet::a::b": vectors[4], "hf://o/n/t.tar::1": vectors[5],
        },
        str(images / "east"),
    )  # fmt: skip
    assert merge(a, b) == 4
    assert rows_of(a) == {
        "x.png": vectors[0].tolist(),
        "east/same.png": vectors[1].tolist(),
        "east/x.png": vectors[2].tolist(),
        "east/r.tif#0,0,9,9": vectors[3].tolist(),
        "east/t.parquet::a::b": vectors[4].tolist(),
        "hf://o/n/t.tar::1": vectors[5].tolist(),
    }
    information = {row["id"]: row for row in EmbeddingsFile(a).information().to_pylist()}
    assert information["east/r.tif#0,0,9,9"]["source"] == "east/r.tif"
    assert information["east/r.tif#0,0,9,9"]["bbox"] == {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}
    assert information["x.png"]["bbox"] is None  # a had no such column
    written = EmbeddingsFile(a).about["written"]
    assert merge(a, b) == 0
    assert EmbeddingsFile(a).about["written"] == written  # nothing changed, and no index is out of date
    assert merge(b, a) == 1
    assert rows_of(b)["../x.png"] == vectors[0].tolist()


def test_lists_of_embedded_files_are_merged(tmp_path: Path, caplog: Any) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    vectors = unit(3, 4)
    write(a, {"0.png": vectors[0]})
    write(b, {"1.png": vectors[1]})
    write_sources(a, zero=[["zero.png", "broken"]])
    merge(a, b)
    assert "may read files of that archive again" in caplog.text
    write_sources(b, one=[["one.png#0,0,1,1", "cut off"]], two=[])
    merge(a, b)
    wanted = {"zero.png": [["zero.png", "broken"]], "../b/one.png": [["../b/one.png#0,0,1,1", "cut off"]]}
    assert sources(a) == wanted | {"../b/two.png": []}
    merge(a, b)
    assert list(sources(a)) == ["zero.png", "../b/one.png", "../b/two.png"]


def test_what_cannot_be_merged_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    a, vectors = tmp_path / "a", unit(9, 4)
    write(a, {f"{number}.png": vectors[number] for number in range(5)})
    content = (a / "embeddings.parquet").read_bytes()
    with pytest.raises(ArchiveError, match="are one archive"):
        merge(a, a / ".." / "a")
    for name, about, message in (
        ("digest", {"model": {"name": "n", "digest": "x"}}, r"another model \(abc, x\)"),
        ("type", {"data_type": "float16"}, r"another type of numbers \(float32, float16\)"),
        ("root", {"root": "../gone"}, "gone', which is not there"),
        ("rootless", {"root": None}, "does not say which folder"),
    ):
        write(tmp_path / name, {"9.png": vectors[8]}, **about)
        with pytest.raises(ArchiveError, match=message):
            merge(a, tmp_path / name)
    write(tmp_path / "width", {"9.png": unit(8)})
    with pytest.raises(ArchiveError, match=r"another width \(4, 8\)"):
        merge(a, tmp_path / "width")
    write(tmp_path / "other", {f"{number}.png": vectors[number + (number < 4)] for number in range(5)}, "../a")
    with pytest.raises(ArchiveError, match=r"other embeddings of the ids '.\.png', '.\.png', '.\.png' and 1 more"):
        merge(a, tmp_path / "other")
    assert (a / "embeddings.parquet").read_bytes() == content


def test_a_merge_that_ends_early_can_be_called_again(tmp_path: Path, monkeypatch: Any) -> None:
    a, b, vectors = tmp_path / "a", tmp_path / "b", unit(6, 4)
    write(a, {f"{number}.png": vectors[number] for number in range(3)})
    write(b, {f"{number}.png": vectors[number] for number in range(3, 6)})
    before = rows_of(a)
    for owner, name in ((rewrite, "write_shard"), (rewrite, "write_sorted")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                merge(a, b)
        assert rows_of(a) == before
    assert merge(a, b) == 3
    assert rows_of(a) == before | {f"../b/{number}.png": vectors[number].tolist() for number in range(3, 6)}
    assert not (a / "edit").exists()


def test_archives_that_differ_in_more_are_merged_and_it_is_said(tmp_path: Path, caplog: Any) -> None:
    a, b, vectors = tmp_path / "a", tmp_path / "b", unit(2, 4)
    write(a, {"0.png": vectors[0]}, chip_layout={"chip_size": "224px"})
    write(b, {"1.png": vectors[1]}, chip_layout={"chip_size": "96px"}, options={})
    assert merge(a, b) == 1
    assert "the archives differ in chip_layout, options" in caplog.text
    assert EmbeddingsFile(a).about["chip_layout"] == {"chip_size": "224px"}
