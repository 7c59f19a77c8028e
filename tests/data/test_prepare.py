"""Local copies of a data set, and the catalogue."""

import io
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import datasets
import pytest
from forks import Forks
from PIL import Image

from rsretrieval import cli
from rsretrieval.data import (
    DATASETS,
    Columns,
    DataError,
    MissingSplitError,
    RetrievalDataModule,
    Source,
    build_source,
    register_dataset,
)
from rsretrieval.data.prepare import prepare


def parquet(folder: Path | str, **options: object) -> RetrievalDataModule:
    return RetrievalDataModule("parquet", str(folder), image_size=16, num_workers=0, **options)


def test_a_copy_gives_the_same_rows_byte_by_byte(tiny_data: str, tmp_path: Path) -> None:
    (tmp_path / "scenes.json").write_text(json.dumps({f"pond_{n}.png": f"scene {n % 2}" for n in range(8)}))
    cli.main([
        "data", "prepare", "parquet", "--path", tiny_data, "--to", str(tmp_path / "to"), "--shard_rows", "3",
        "--scene_file", str(tmp_path / "scenes.json"),
    ])  # fmt: skip
    assert len(list((tmp_path / "to").glob("*.parquet"))) == 3 + 2 + 1
    original, copy = parquet(tiny_data, scene_file=str(tmp_path / "scenes.json")), parquet(tmp_path / "to")
    for split in ("train", "valid", "test"):
        a, b = original.table(split), copy.table(split)
        assert (a.names, a.captions, a.scenes, a.scene_names) == (b.names, b.captions, b.scenes, b.scene_names)
        assert [v for row in b.values for v in row] == pytest.approx([v for row in a.values for v in row])
        for row in range(len(a.names)):
            assert original.stream(split).encoded(row)["bytes"] == copy.stream(split).encoded(row)["bytes"]


def test_own_values_and_scenes_win_over_a_copys_columns(tmp_path: Path) -> None:
    columns = {
        "filename": ["a.png", "b.png"],
        "captions": [["a pond", "..."], ["a lake"]],
        "image": [{"bytes": b"", "path": None}] * 2,
        "scene": ["water", "wet"],
        "caption_values": [[0.25, 0.5], [0.75]],
    }
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    table = parquet(tmp_path).table("train")
    assert table.values == [[0.25], [0.75]]  # that of the caption without a word goes with it
    assert [table.scene_names[n] for n in table.scenes] == ["water", "wet"]
    (tmp_path / "scenes.json").write_text('{"a.png": "listed"}')
    own = parquet(
        tmp_path, caption_values=lambda texts: [1.0] * len(texts), scene_file=str(tmp_path / "scenes.json")
    ).table("train")
    assert own.values == [[1.0], [1.0]]
    assert [own.scene_names[n] for n in own.scenes] == ["listed", "wet"]


def test_a_second_run_writes_again_what_is_damaged_or_gone(tiny_data: str, tmp_path: Path) -> None:
    prepare("parquet", str(tmp_path), tiny_data, shard_rows=2)
    files = sorted(tmp_path.glob("train-*"))
    before = {file: file.read_bytes() for file in files}
    files[0].write_bytes(b"damaged")
    files[1].unlink()
    with pytest.raises(DataError, match=r"3 files of split 'train', and their names say \[4\]: write or fetch"):
        parquet(tmp_path).table("train")
    times = {file: file.stat().st_mtime_ns for file in files[2:]}
    prepare("parquet", str(tmp_path), tiny_data, shard_rows=2)
    assert {file: file.read_bytes() for file in files} == before
    assert {file: file.stat().st_mtime_ns for file in files[2:]} == times
    with pytest.raises(DataError, match=r"was prepared with .* give the same settings to go on with it, or another fo"):
        prepare("parquet", str(tmp_path), tiny_data, shard_rows=2, size=16)


PREPARE = """
import sys
from rsretrieval import cli
cli.main(["data", "prepare", "synthetic", "--to", sys.argv[1], "--splits", "[test]", "--shard_rows", "20"])
"""


def test_killed_and_run_again(children: Forks, tmp_path: Path) -> None:
    env = dict(os.environ)
    child = children.start(PREPARE, str(tmp_path), env=env)
    while not (tmp_path / "test-00003-of-00015.parquet").is_file():
        time.sleep(0.01)
        assert child.running()
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait().returncode == -signal.SIGKILL
    (tmp_path / "test-00009-of-00015.parquet.123.partial").write_text("of another process that was killed")
    first = tmp_path / "test-00000-of-00015.parquet"
    written = first.stat().st_mtime_ns
    assert len(list(tmp_path.glob("*.parquet"))) < 15
    assert children.run(PREPARE, str(tmp_path), env=env).returncode == 0
    assert first.stat().st_mtime_ns == written
    assert not list(tmp_path.glob("*.partial"))
    whole, copy = RetrievalDataModule(), parquet(tmp_path)
    assert copy.table("test").captions == whole.table("test").captions
    for row in (0, 299):  # a PNG loses nothing
        assert copy.stream("test").image(row).tobytes() == whole.stream("test").image(row).tobytes()


def test_a_folder_that_an_older_version_prepared_is_continued(tmp_path: Path) -> None:
    """It did not write the revision of archives, nor of what was held out; with another revision it is refused."""

    @register_dataset("versioned ponds")
    def build(path: str, columns: Columns, revision: str | None = None) -> Source:
        source = build_source("synthetic", path, columns)
        source.sizes = {"train": 3, "valid": 2, "test": 1}
        source.revision = revision or "new"
        return source

    prepare("versioned ponds", str(tmp_path))
    (file,) = tmp_path.glob("train-*")
    manifest = json.loads((tmp_path / "prepared.json").read_text())
    assert manifest["settings"] == {
        "source": ["versioned ponds", "", "new", asdict(Columns())],
        "images": [None, 95],
        "captions": [30, None],
        "rows": [1000, 0.0],
    }
    assert set(manifest["files"][file.name]) == {"rows", "sha256", "broken"}
    manifest["settings"]["source"][2] = None
    (tmp_path / "prepared.json").write_text(json.dumps(manifest))
    written = file.stat().st_mtime_ns
    prepare("versioned ponds", str(tmp_path))
    assert file.stat().st_mtime_ns == written
    manifest["settings"]["source"][2] = "old"
    (tmp_path / "prepared.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"was prepared with .*'old'.*, not with .*'new'"):
        prepare("versioned ponds", str(tmp_path))
    prepare("versioned ponds", str(tmp_path), revision="old")
    with pytest.raises(DataError, match=r"no split 'dev'; possible are \['train', 'valid', 'test'\]"):
        prepare("versioned ponds", str(tmp_path), splits=["dev"])


def test_a_source_that_changed_since_is_refused(tiny_data: str, tmp_path: Path) -> None:
    """Else the shards of its old rows would stay."""
    prepare("parquet", str(tmp_path / "to"), tiny_data)
    source = Path(tiny_data) / "train-00000-of-00001.parquet"
    table = datasets.Dataset.from_parquet(str(source))
    table.select(range(6)).to_parquet(source)
    with pytest.raises(
        DataError,
        match=r"the files of '.*' have changed since '.*' was prepared of them \(3 files, .* then, 3 files, .* now",
    ):
        prepare("parquet", str(tmp_path / "to"), tiny_data)
    manifest = json.loads((tmp_path / "to" / "prepared.json").read_text())
    del manifest["source_files"]  # as older versions wrote it
    (tmp_path / "to" / "prepared.json").write_text(json.dumps(manifest))
    prepare("parquet", str(tmp_path / "to"), tiny_data)
    assert len(parquet(tmp_path / "to").table("train").names) == 8
    (tmp_path / "to" / "prepared.json").write_text("{")
    with pytest.raises(
        DataError, match=r"prepared.json' is damaged \(.*: prepare into another folder, or remove this one"
    ):
        prepare("parquet", str(tmp_path / "to"), tiny_data)


def test_a_folder_that_changed_since_is_refused(tmp_path: Path) -> None:
    (folder := tmp_path / "ponds").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "x.csv").write_text("filename,title\na.png,a pond\n")
    prepare("folder", str(tmp_path / "to"), str(folder))
    prepare("folder", str(tmp_path / "to"), str(folder))
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"have changed since"):
        prepare("folder", str(tmp_path / "to"), str(folder))


@pytest.mark.parametrize("name", ["./ponds", "ponds/", "/ponds", "~/ponds", "a\\ponds"])
def test_prep_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ponds").mkdir()
    with pytest.raises(DataError) as error:
        prepare(name, "to")
    assert f"'{name}' is a path: write `rsretrieval data prepare folder --path {name} --to to`" in str(error.value)
    with pytest.raises(DataError, match=r"'ponds' is a path: name the source of its files, as in --data.source folder"):
        prepare("ponds", "to")


def test_rows_of_one_image_are_written_once(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(content := io.BytesIO(), "PNG")
    columns = {
        "image": [{"bytes": content.getvalue(), "path": None}] * 4,
        "filename": ["a.png", "b.png", "a.png", "b.png"],
        "captions": ["a pond", "...", "two", "three"],
    }
    (tmp_path / "from").mkdir()
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "from" / "train.parquet")
    prepare("parquet", str(tmp_path / "to"), str(tmp_path / "from"), shard_rows=3)
    table = parquet(tmp_path / "to").table("train")
    assert (table.names, table.captions) == (["a.png", "b.png"], [["a pond", "two"], ["three"]])
    files = json.loads((tmp_path / "to" / "prepared.json").read_text())["files"]
    assert [(entry["rows"], entry["broken"]) for entry in files.values()] == [(2, []), (0, [])]


def test_smaller_images(tiny_data: str, tmp_path: Path) -> None:
    prepare("parquet", str(tmp_path), tiny_data, size=16, splits=["valid"])
    image = Image.open(io.BytesIO(parquet(tmp_path).stream("valid").encoded(4)["bytes"]))
    assert (image.format, image.size) == ("JPEG", (16, 16))
    with pytest.raises(MissingSplitError):
        prepare("parquet", str(tmp_path / "b"), str(tmp_path), splits=["train"])


def test_broken_rows_are_left_out_and_counted(tiny_data: str, tmp_path: Path) -> None:
    file = Path(tiny_data) / "train-00000-of-00001.parquet"
    table = datasets.Dataset.from_parquet(str(file)).cast_column("image", datasets.Image(decode=False)).to_list()
    table[2]["image"]["bytes"] = b"no image"
    table[5]["captions"] = ["..."]
    datasets.Dataset.from_list(table, features=datasets.Dataset.from_parquet(str(file)).features).to_parquet(file)
    with pytest.raises(DataError, match=r"of 8 rows of split 'train' are broken"):
        prepare("parquet", str(tmp_path / "a"), tiny_data)
    prepare("parquet", str(tmp_path / "b"), tiny_data, max_broken=0.5)
    assert parquet(tmp_path / "b").table("train").names == [f"pond_{n}.png" for n in (0, 1, 3, 4, 6, 7)]
    listed = json.loads((tmp_path / "b" / "prepared.json").read_text())["files"]["train-00000-of-00001.parquet"]
    assert listed["broken"] == ["pond_2.png", "pond_5.png"]


def test_the_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["data", "list"])
    shown = capsys.readouterr().out
    assert all(name in shown and data.citation in shown and data.notes in shown for name, data in DATASETS.items())
    assert shown.count("layout by programs that read it, not fetched") == 3  # rsitmd, ucm, ret3
    assert "de-duplicated against the tests of the three sets" in shown
    page = " ".join((Path(__file__).parents[2] / "docs" / "data.md").read_text().split())
    for name, data in DATASETS.items():
        assert sum(data.splits) == data.images
        assert all(word in page for word in (f"`{name}`", data.title, data.hub or "no copy known", f"{data.images:,}"))
        assert data.citation.split(",")[1].strip() in page
    with pytest.raises(DataError, match=r"no copy of NWPU-Captions on the hub is known: get it from its authors \(Che"):
        RetrievalDataModule("nwpu").table("train")
    for name in ("airport_001", "airport_002"):
        (tmp_path / "NWPU_images" / "airport").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "NWPU_images" / "airport" / f"{name}.jpg")
    rows = [
        {"filename": f"airport_00{n}.jpg", "imgid": n, "split": split, "raw": f"plane {n} .", "raw_1": "two planes ."}
        for n, split in ((1, "train"), (2, "val"))
    ]
    (tmp_path / "dataset_nwpu.json").write_text(json.dumps({"airport": rows}))
    nwpu = RetrievalDataModule("nwpu", str(tmp_path))
    table = nwpu.table("valid")
    assert (table.names, table.captions) == (["airport_002.jpg"], [["plane 2", "two planes"]])
    assert table.scene_names == ["airport"]
    assert nwpu.stream("valid").image(0).size == (8, 8)


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (["parquet", "--columns.image", "picture"], "as in --columns.captions=NAME"),
        (["parquet", "--max_broken", "2"], "--max_broken 2.0 is no fraction"),
        (["parquet", "--max_words", "0"], "--max_words 0 is too small"),
        (["parquet", "--quality", "101"], "--quality 101 is too large"),
        (["coco"], "set another source"),
        (["ponds"], "in the source folder:ponds"),
    ],
)
def test_advice_is_of_the_commands_own_options(
    tiny_data: str, tmp_path: Path, wrong: list[str], advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ponds").mkdir()
    path = ["--path", tiny_data] if wrong[0] == "parquet" else []
    with pytest.raises((SystemExit, ValueError)) as error:
        cli.main(["data", "prepare", *wrong, *path, "--to", str(tmp_path / "to")])
    assert advice in str(error.value)
    assert "--data." not in str(error.value)
