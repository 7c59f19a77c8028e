"""RSITMD, UCM-Captions and RET-3 from the hub's archives, in their layout: by name, once, and from a folder."""

import csv
import io
import json
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
from forks import Child, Forks
from local_hub import REVISION, local_hub
from PIL import Image

from rsretrieval.data import DATASETS, Columns, DataError, MissingSplitError, RetrievalDataModule, build_source
from rsretrieval.data.datasets.ret3_files import SETS, TESTS, TRAIN

ENDINGS = {"rsicd": "jpg", "rsitmd": "png", "ucm": "tif"}
FORMATS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}
TRAINED, TESTED = range(4), range(10, 12)


def name_of(dataset: str, number: int) -> str:
    """Numbered in UCM-Captions, named by their class in the others."""
    return f"{dataset}_{number}.tif" if dataset == "ucm" else f"{dataset}_boat_{number}.{ENDINGS[dataset]}"


def grey_of(dataset: str, number: int) -> int:
    return 60 * SETS.index(dataset) + 4 * number


def picture(dataset: str, number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (grey_of(dataset, number),) * 3).save(content, FORMATS[ENDINGS[dataset]])
    return content.getvalue()


def write_table(file: Path, images: list[tuple[str, int]], prefix: str = "") -> None:
    """Tab-separated, with a byte order mark, a caption a row, five an image; rows of an image need not be together."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8-sig", newline="") as content:
        lines = csv.writer(content, delimiter="\t")
        lines.writerow(["title", "filename"])
        lines.writerows(
            [f'a "{dataset}" boat, {n} {k}.', prefix + name_of(dataset, n)] for k in range(5) for dataset, n in images
        )


def write_layout(folder: Path, prefix: str = "", inner: str = "", *, archives: bool = True) -> Path:
    """The layout, with ``prefix`` before the tables' names of images, and ``inner`` before those in the archives."""
    train = [(dataset, n) for n in TRAINED for dataset in SETS]
    write_table(folder / TRAIN, train, prefix)
    for dataset in SETS:
        write_table(folder / TESTS[dataset], [(dataset, n) for n in TESTED], prefix)
    images = {"train": train, "test": [(dataset, n) for dataset in SETS for n in TESTED]}
    for split, of_split in images.items():
        (folder / "data").mkdir(exist_ok=True)
        if archives:
            with zipfile.ZipFile(folder / "data" / f"Ret-3_{split}.zip", "w") as archive:
                for image in of_split:
                    archive.writestr(inner + name_of(*image), picture(*image))
        else:
            (folder / "data" / f"Ret-3_{split}").mkdir()
            for image in of_split:
                (folder / "data" / f"Ret-3_{split}" / name_of(*image)).write_bytes(picture(*image))
    return folder


READ = """
import json, logging, sys
from rsretrieval.data import RetrievalDataModule
from rsretrieval.data.datasets import archive
logging.basicConfig(level=logging.INFO)
get = archive.http_get
def noted(url, content, **more):
    if url.endswith(".zip"):
        print(json.dumps({"fetched": url.rpartition("/")[2], "from": more["resume_size"]}))
    get(url, content, **more)
archive.http_get = noted

def describe(source, split, **options):
    data = RetrievalDataModule(source, image_size=8, num_workers=0, **options)
    table, stream = data.table(split), data.stream(split)
    greys = [stream.image(row).getpixel((0, 0))[0] for row in range(len(table.names))]
    scenes = [table.scene_names[number] for number in table.scenes]
    return {"names": table.names, "captions": list(table.captions), "greys": greys, "scenes": scenes,
            "revision": data.source.revision}

for source, split, options in json.loads(sys.argv[1]):
    print(json.dumps(describe(source, split, **options)))
"""


class Reader:
    """Reads splits in a process of its own, against the stand-in."""

    def __init__(self, children: Forks, tmp_path: Path) -> None:
        self.children, self.root, self.home = children, tmp_path / "hub", tmp_path

    def start(self, *what: Any, program: str = READ) -> Child:
        with local_hub(self.root, self.home) as env:
            return self.children.run(program, json.dumps(what), env=env)

    def __call__(self, *what: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
        """Splits as they are read, archives as they are fetched, and the log."""
        done = self.start(*what)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [x for x in lines if "names" in x], [x for x in lines if "fetched" in x], done.stderr


@pytest.fixture
def reader(children: Forks, tmp_path: Path) -> Reader:
    return Reader(children, tmp_path)


def check(split: dict[str, Any], images: list[tuple[str, int]], prefix: str = "") -> None:
    """Each image once, in the table's order, with its five captions and its own pixels."""
    assert split["names"] == [prefix + name_of(*image) for image in images]
    assert split["captions"] == [[f"a {dataset} boat {n} {k}" for k in range(5)] for dataset, n in images]
    assert split["greys"] == pytest.approx([grey_of(*image) for image in images], abs=2)  # JPEG
    assert split["revision"] == REVISION


@pytest.mark.parametrize(("prefix", "inner"), [("", ""), ("images/", "Ret-3_train/")])
def test_one_download_for_all_three_names(reader: Reader, tmp_path: Path, prefix: str, inner: str) -> None:
    write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP", prefix, inner)
    cases = [(name, split) for name in ("rsitmd", "ucm", "ret3") for split in ("test", "train")]
    splits, fetched, log = reader(*((name, split, {}) for name, split in cases))
    assert fetched == [{"fetched": "Ret-3_test.zip", "from": 0}, {"fetched": "Ret-3_train.zip", "from": 0}]
    for (name, kind), split in zip(cases, splits, strict=True):
        numbers = TRAINED if kind == "train" else TESTED
        sets = DATASETS[name].sets
        order = [(s, n) for n in numbers for s in sets] if kind == "train" else [(s, n) for s in sets for n in numbers]
        check(split, order, prefix)
    assert splits[1]["scenes"] == ["boat"] * 4  # the class, without the name of the set
    assert "ucm" not in splits[3]["scenes"]  # its numbers are no class
    assert log.count("rsitmd, split 'train': 4 of 12 images; RET-3's training part is de-duplicated") == 1
    assert "the tests of the sets together, {'rsicd': 2, 'rsitmd': 2, 'ucm': 2} images" in log
    folders = [path for path in (tmp_path / "cache" / "archives").iterdir() if path.is_dir()]
    assert len(folders) == 2
    assert not list((tmp_path / "cache" / "archives").glob("*.whole"))
    again, fetched, _ = reader(("rsitmd", "train", {"holdout": 0.25}), ("rsitmd", "valid", {"holdout": 0.25}))
    assert fetched == []
    assert sorted(again[0]["names"] + again[1]["names"]) == sorted(splits[1]["names"])
    assert len(again[1]["names"]) == 1


def test_only_the_archives_that_a_split_needs(reader: Reader, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    (split,), fetched, _ = reader(("rsitmd", "test", {"holdout": 0.25}))
    check(split, [("rsitmd", n) for n in TESTED])
    assert [entry["fetched"] for entry in fetched] == ["Ret-3_test.zip"]
    (folder / "data" / "Ret-3_train.zip").unlink()
    assert "'gzqy1026/RemoteCLIP/data/Ret-3_train.zip' cannot be fetched" in reader.start(("ucm", "train", {})).stderr
    assert "has no split 'valid'; it has ['train', 'test']" in (log := reader.start(("ucm", "valid", {})).stderr)
    assert "--data.holdout 0.1" in log


PREPARE_DATA = READ.replace("for source, split", "from types import SimpleNamespace\nfor source, split").replace(
    "print(json.dumps(describe(source, split, **options)))",
    """
    from lightning.pytorch.trainer.states import TrainerFn
    data = RetrievalDataModule(source, holdout=0.25)
    data.trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn(split)))
    data.prepare_data()""",
)


@pytest.mark.parametrize(
    ("run", "archive"), [("fit", "train"), ("validate", "train"), ("test", "test"), ("predict", "train")]
)
def test_a_run_fetches_what_its_splits_need_before_it_starts(
    reader: Reader, tmp_path: Path, run: str, archive: str
) -> None:
    write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    done = reader.start(("rsitmd", run, {}), program=PREPARE_DATA)
    assert [json.loads(line)["fetched"] for line in done.stdout.splitlines()] == [f"Ret-3_{archive}.zip"], done.stderr


KILLED = READ.replace(
    "get(url, content, **more)",
    """
    if url.endswith(".zip"):
        import huggingface_hub.constants, os, signal
        huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 100
        write, sizes = content.write, []
        class Dying:
            def write(self, data):
                sizes.append(write(data))
                if sum(sizes) >= 500:
                    content.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
        return get(url, Dying(), **more)
    get(url, content, **more)""",
)


def test_killed_in_mid_download_and_gone_on_with(reader: Reader, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    done = reader.start(("rsitmd", "test", {}), program=KILLED)
    assert done.returncode == -signal.SIGKILL
    (split,), fetched, log = reader(("rsitmd", "test", {}))
    check(split, [("rsitmd", n) for n in TESTED])
    assert fetched == [{"fetched": "Ret-3_test.zip", "from": 500}]
    size = (folder / "data" / "Ret-3_test.zip").stat().st_size
    assert f"'data/Ret-3_test.zip' of 'gzqy1026/RemoteCLIP' is fetched on from byte 500 of {size}" in log


def test_a_download_that_is_not_what_the_hub_lists_is_removed(reader: Reader, tmp_path: Path) -> None:
    write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    assert reader.start(("rsitmd", "test", {}), program=KILLED).returncode == -signal.SIGKILL
    (unfinished,) = (tmp_path / "cache" / "archives").glob("*.partial")
    unfinished.write_bytes(b"?" * 500)
    log = reader.start(("rsitmd", "test", {})).stderr
    assert "'data/Ret-3_test.zip' of the hub's 'gzqy1026/RemoteCLIP' arrived damaged and was removed: run this" in log
    (split,), fetched, _ = reader(("rsitmd", "test", {}))
    check(split, [("rsitmd", n) for n in TESTED])
    assert fetched == [{"fetched": "Ret-3_test.zip", "from": 0}]


def test_what_was_fetched_is_read_where_the_hub_is_out_of_reach(
    children: Forks, reader: Reader, tmp_path: Path
) -> None:
    write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    reader(("rsitmd", "test", {}))
    with local_hub(tmp_path / "hub", tmp_path) as env:
        env["HF_HUB_OFFLINE"] = "1"
        done = children.run(READ, json.dumps([("rsitmd", "test", {})]), env=env)
        other = children.run(READ, json.dumps([("ucm", "test", {})]), env=env)
    check(json.loads(done.stdout), [("rsitmd", n) for n in TESTED])
    assert "the hub cannot be reached" in done.stderr
    assert f"is read as of revision {REVISION}" in done.stderr
    assert "'gzqy1026/RemoteCLIP/csv_file/test/ucm_test.csv' cannot be fetched" in other.stderr


def test_a_revision_is_read_as_it_was(reader: Reader, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "hub" / "gzqy1026" / "RemoteCLIP")
    older = "a" * 40
    write_layout(folder.with_name(f"RemoteCLIP@{older}"))
    write_table(folder.with_name(f"RemoteCLIP@{older}") / TESTS["rsitmd"], [("rsitmd", TESTED[1])])
    (first, newest), fetched, _ = reader(("rsitmd", "test", {"revision": older}), ("rsitmd", "test", {}))
    assert (len(first["names"]), first["revision"]) == (1, older)
    assert (len(newest["names"]), newest["revision"]) == (2, REVISION)
    assert len(fetched) == 1  # the archives of both are equal


@pytest.mark.parametrize("archives", [True, False])
def test_the_layout_in_a_folder(tmp_path: Path, archives: bool) -> None:
    folder = write_layout(tmp_path / "remoteclip", "images/", archives=archives)
    data = RetrievalDataModule("rsitmd", str(folder), image_size=8, num_workers=0)
    for split, numbers in (("train", TRAINED), ("test", TESTED)):
        names = [f"images/{name_of('rsitmd', n)}" for n in numbers]
        assert data.table(split).names == names
        stream = data.stream(split)
        assert [stream.image(row).getpixel((0, 0))[0] for row in range(len(names))] == [
            grey_of("rsitmd", n) for n in numbers
        ]
    assert (tmp_path / "cache" / "archives").is_dir() == archives
    everything = build_source("ret3", str(folder), Columns())
    assert (len(everything.records("train")), len(everything.records("test"))) == (12, 6)
    before = everything.fingerprint()
    write_table(folder / TESTS["ucm"], [("ucm", 10)])
    assert build_source("ret3", str(folder), Columns()).fingerprint() != before
    with pytest.raises(MissingSplitError, match=r"no split 'valid'; it has \['train', 'test'\].*--data.holdout 0.1"):
        data.table("valid")
    with pytest.raises(DataError, match=r"has no revisions: leave out --data.revision"):
        build_source("rsitmd", str(folder), Columns(), revision="main")


def test_the_authors_own_folder_is_read_too(tmp_path: Path) -> None:
    rows = [{"filename": "boat_0.tif", "split": "test", "sentences": [{"raw": "a boat"}]}]
    (tmp_path / "dataset_RSITMD.json").write_text(json.dumps({"images": rows}))
    source = build_source("rsitmd", str(tmp_path), Columns())
    assert source.records("test")[0].captions == ("a boat",)
    with pytest.raises(DataError, match=r"holds no RET-3: give a folder with 'csv_file/train/Ret-3_train.csv' or"):
        build_source("ret3", str(tmp_path), Columns())


def test_what_is_wrong_in_a_folder_is_said(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "remoteclip", archives=False)
    write_table(folder / TRAIN, [("rsicd", 0)])
    with pytest.raises(DataError, match=r"names no image of \['ucm'\]: .* begin with \['ucm_'\].* with \{'rsicd': 1\}"):
        build_source("ucm", str(folder), Columns()).records("train")
    write_table(folder / TESTS["ucm"], [("rsicd", 10)])
    with pytest.raises(DataError, match=r"\['rsicd_boat_10.jpg'\] are in the tables of two sets: test each by its"):
        build_source("ret3", str(folder), Columns()).records("test")
    (folder / "data" / "Ret-3_test" / name_of("rsitmd", 11)).unlink()
    source = build_source("rsitmd", str(folder), Columns())
    with pytest.raises(DataError, match=r"rsitmd_test.csv', line 3: there is no file 'rsitmd_boat_11.png'"):
        source.read("test", 1)
    (folder / TESTS["rsitmd"]).unlink()
    with pytest.raises(DataError, match=r"has no 'rsitmd_test.csv': fetch that table of RET-3 too, as 'csv_file/test"):
        build_source("rsitmd", str(folder), Columns()).records("test")
    (folder / "data" / "Ret-3_train.zip").write_bytes(b"none")
    write_table(folder / TRAIN, [(name, 99) for name in SETS])
    with pytest.raises(DataError, match=r"Ret-3_train.zip' is no zip archive"):
        build_source("ret3", str(folder), Columns()).fetch("train")
