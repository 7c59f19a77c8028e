"""``rsretrieval search`` on real pictures and a small model."""

import functools
import json
import logging
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from pairs import pictures
from PIL import Image
from searched import outline

from rsretrieval import Retriever, cli
from rsretrieval.archive import Archive, ArchiveError, build_index
from rsretrieval.embeddings import Row, table, write_sorted

COUNT = 24


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retriever, "from_pretrained", LOAD)


LOAD = functools.cache(Retriever.from_pretrained)


@pytest.fixture(scope="module")
def model(entry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with a bank."""
    folder = tmp_path_factory.mktemp("bank")
    (folder / "captions.txt").write_text("two planes\na harbour with ships\na beach\nmany trees\n")
    cli.main(["bank", entry, f"--captions={folder / 'captions.txt'}", f"--to={folder / 'model'}"])
    return str(folder / "model")


@pytest.fixture(scope="module")
def archive(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures, of which those of even numbers have a place."""
    folder = tmp_path_factory.mktemp("archive")
    retriever = Retriever.from_pretrained(model)
    rows = []
    for number in range(COUNT):
        file = f"{number:02d}.png"
        image = pictures()[number % 4].rotate(15 * (number // 4))
        image.save(folder / file)
        box = (float(-number), 0.0, 0.5 - number, 1.0)
        rows.append(Row(file, file, (0, 0, *image.size), *((outline(box), box) if number % 2 == 0 else ())))
    vectors = retriever.encode_images([folder / row.id for row in rows]).numpy()
    preprocessing = {"scale": None, "bands": None}
    emb = {"model": {"name": model, "digest": retriever.digest}, "written": "1", "root": ".",
           "dimensions": vectors.shape[1], "preprocessing": preprocessing}  # fmt: skip
    write_sorted(folder / "embeddings.parquet", [table(rows, vectors, "float32")], {"emb": emb})
    build_index(folder, sample=5)
    return folder


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    capsys.readouterr()
    cli.main(["search", *map(str, arguments), "--format=json"])
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_cosines_are_those_of_the_retriever(archive: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    retriever = Retriever.from_pretrained(model)
    files = sorted(archive.glob("*.png"))
    cosines = (retriever.encode_texts(["two ships"]) @ retriever.encode_images(files).T)[0].numpy()
    rows = found(capsys, archive, "two ships", "--k", COUNT)
    assert [row["score"] for row in rows] == pytest.approx(np.sort(cosines)[::-1], abs=1e-6)
    by_id = {row["id"]: row["score"] for row in rows}
    assert [by_id[file.name] for file in files] == pytest.approx(cosines, abs=1e-6)
    assert {row["query"] for row in rows} == {"two ships"}
    (own,) = found(capsys, archive, "--image", files[5], "--k", "1")
    assert (own["id"], own["z"]) == ("05.png", None)
    assert own["score"] == pytest.approx(1, abs=1e-6)


def test_options_are_those_of_python(archive: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened = Archive.open(archive)
    first, second = archive / "03.png", archive / "04.png"
    for arguments, result in (
        (["a ship", "a harbour", "--not", "trees", "a beach", "--not", "red", "--not_image", second, "--factors=[3,1]"],
         opened.search(["a ship", "a harbour"], negatives_text=["trees", "a beach", "red"], negatives_image=[second],
                       factors=(3, 1))),
        (["a ship", "--image", first, second, "--weight=0.3"], opened.search("a ship", [first, second], weight=0.3)),
        (["a ship", "--image", first, "--image", second], opened.search("a ship", [first, second])),
        (["a ship", "--hubness", "true", "--k=3"], opened.search("a ship", hubness=True, k=3)),
        (["a ship", "--fold", "0.9", "--min-z", "-0.5"], opened.search("a ship", fold=0.9, min_z=-0.5)),
        (["a ship", "--bbox", "-10,0,-3,41"], opened.search("a ship", bbox=(-10, 0, -3, 41))),
        (["a ship", "--bbox=-10 0 -3 41", "--where", "width > 5", f"--model={model}", "--kind=flat", "--device=cpu"],
         opened.search("a ship", bbox=(-10, 0, -3, 41))),
    ):  # fmt: skip
        assert result.answers
        assert found(capsys, archive, *arguments) == json.loads(result.to_json()), arguments


def test_queries_of_a_file(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "queries.txt").write_text("\ufefftwo ships\n\n ... \na beach \n")
    rows = found(capsys, archive, f"--queries={tmp_path / 'queries.txt'}", "--k=2")
    assert [(row["query"], row["rank"]) for row in rows] == [
        ("two ships", 1), ("two ships", 2), ("a beach", 1), ("a beach", 2),
    ]  # fmt: skip
    alone = found(capsys, archive, "a beach", "--k=2")
    assert [row["id"] for row in rows[2:]] == [row["id"] for row in alone]
    assert [row["score"] for row in rows[2:]] == pytest.approx([row["score"] for row in alone], abs=1e-6)
    assert "without a word are left out: 1" in caplog.text
    for text, why in (("\n..\n", "holds no query with a word"), (None, r"gone\.txt' cannot be read")):
        file = tmp_path / ("empty.txt" if text else "gone.txt")
        if text:
            file.write_text(text)
        with pytest.raises(ArchiveError, match=why):
            cli.main(["search", str(archive), f"--queries={file}"])
    with pytest.raises(ArchiveError, match="takes the place of texts"):
        cli.main(["search", str(archive), "a ship", f"--queries={tmp_path / 'queries.txt'}"])


def test_files(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.gpkg", "a.geojson", "a.csv", "a.png", "a.json"):
        cli.main(["search", str(archive), "two ships", f"--to={tmp_path / name}", "--k=6"])
        assert capsys.readouterr().out == f"written: {tmp_path / name}\n"
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        ids = [row[0] for row in database.execute("SELECT id FROM answers ORDER BY rank")]
    rows = json.loads((tmp_path / "a.json").read_text())
    assert ids == [row["id"] for row in rows]
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == 6
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    images = {place: np.asarray(Image.open(archive / name)) for place, name in enumerate(ids)}
    assert any(max(image.shape) < 224 for image in images.values())
    for place, image in images.items():
        height, width, _ = image.shape
        top, left = 34 + 250 * (place // 5) + (224 - height) // 2, 8 + 232 * (place % 5) + (224 - width) // 2
        if height <= 224:
            assert (sheet[top : top + height, left : left + width] == image).all()
    cli.main(["search", str(archive), "two ships", "--format=table", f"--to={tmp_path / 'a.json'}"])
    assert (tmp_path / "a.json").read_text().split()[:2] == ["rank", "score"]


def test_an_empty_answer_is_none_of_an_error(
    archive: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert found(capsys, archive, "two ships", "--bbox", "50,50,60,60") == []
    assert "no row of the archive's 24 is in the box 50, 50, 60, 60: there is no answer" in caplog.text
    assert len(found(capsys, archive, "two ships", "--k=25")) == COUNT
    assert "fewer than 25 rows in the archive: all 24 are looked at" in caplog.text


def test_wrong_input(archive: Path, entry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        ([archive, "..."], "has no word"), ([archive], "nothing to look for"), ([archive, "a", "--k=0"], "--k 0"),
        ([archive, "a", "--format=xml"], "no format 'xml'"), ([archive, "a", "--format=png"], "give a file by --to"),
        ([archive, "a", f"--to={tmp_path}"], "is a folder"), ([archive, "a", "--bbox=1,2,3"], "four numbers"),
        ([archive, "a", "--format=csv", f"--to={tmp_path}"], "is a folder: give a file"),
        ([archive, "a", f"--to={tmp_path}/answers"], "has no ending that says its format"),
        ([archive, "a", "--where=wdth > 5"], "over the columns id"), ([tmp_path, "a"], "is no archive"),
        ([archive, "a", "--kind=hnsw"], "no index of kind hnsw"), ([archive, "a", "--kind=tree"], "unknown kind"),
        ([archive, "--image", tmp_path / "gone.png"], r"gone\.png"), ([archive, "a", f"--model={entry}"], None),
    ):  # fmt: skip
        if why is None:  # the model without its bank is the same, in single precision
            with pytest.raises(ArchiveError, match="is of the model"):
                cli.main(["search", *map(str, arguments)])
            continue
        with pytest.raises(ValueError, match=why):
            cli.main(["search", *map(str, arguments)])
    for wrong in (["--k=x"], ["--min_z=high"], ["--weight"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["search", str(archive), "a", *wrong])
        assert end.value.code == 2
    assert list(tmp_path.iterdir()) == []
