"""Images left out of training, by a table of near-duplicates or a list."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from rsretrieval.data import Columns, DataError, MissingSplitError, Record, RetrievalDataModule, Source, build_source
from rsretrieval.data.datasets.exclusion import exclude, read_names
from rsretrieval.data.datasets.holdout import HoldoutSource
from rsretrieval.data.prepare import prepare
from rsretrieval.data.resume import continues

HEADER = "filename_a,split_a,filename_b,split_b,distance,cosine\n"


class Blocks(Source):
    """Rows whose grey value is their number, in blocks; two images in folders of one name; a test split."""

    def __init__(self, sizes: Sequence[int] = (3, 1, 4)) -> None:
        self.sizes = list(sizes)

    def records(self, split: str) -> list[Record]:
        if split == "valid":
            raise MissingSplitError("no valid")
        names = [f"{row}.png" for row in range(sum(self.sizes) - 2)] + ["a/x.png", "b/x.png"]
        return [Record(name, (f"a pond {row}",)) for row, name in enumerate(names)]

    def blocks(self, split: str) -> list[int]:
        return self.sizes

    def read(self, split: str, block: int) -> list[Image.Image]:
        start = sum(self.sizes[:block])
        return [Image.new("RGB", (8, 8), (row,) * 3) for row in range(start, start + self.sizes[block])]


def rows(source: Source, split: str = "train") -> dict[str, int]:
    """Name to the grey value of its image."""
    images = [image for block in range(len(source.blocks(split))) for image in source.read(split, block)]
    names = [record.filename for record in source.records(split)]
    assert len(images) == len(names) == sum(source.blocks(split))
    return {name: image.getpixel((0, 0))[0] for name, image in zip(names, images, strict=True)}  # type: ignore[attr-defined]


def write(folder: Path, text: str, name: str = "near.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_named_images_are_left_out_of_training_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    text = HEADER + "3.png,train,q.png,test,2,\n3.png,train,r.png,test,4,\na/x.png,train,q.png,test,0,\n"
    text += "0.png,test,q.png,test,0,\nelsewhere.png,train,q.png,test,0,\n"
    source = exclude(Blocks(), write(tmp_path, text))
    assert rows(source) == {"0.png": 0, "1.png": 1, "2.png": 2, "4.png": 4, "5.png": 5, "b/x.png": 7}
    assert source.blocks("train") == [3, 3]  # of the second block nothing is left
    assert len(rows(source, "test")) == 8
    assert "split 'train': 2 of 8 images are left out of training, as" in caplog.text
    assert "1 of its 3 names are not in the training split, such as ['elsewhere.png']" in caplog.text
    assert "rows of other splits than training are not used: {'test': 1}" in caplog.text
    other = exclude(Blocks(), write(tmp_path, "0.png\n", "other.txt"))
    assert source.fingerprint() != other.fingerprint()
    assert exclude(blocks := Blocks(), None) is blocks


def test_a_name_without_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("a/1.png", "a/2.png", "b/2.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    table = [{"filename": name, "caption": "a pond"} for name in ("a/1.png", "a/2.png", "b/2.png")]
    (folder / "x_train.json").write_text(json.dumps(table))
    source = build_source("folder", str(folder), Columns())
    assert [r.filename for r in exclude(source, write(tmp_path, "1.png", "l.txt")).records("train")] == [
        "a/2.png", "b/2.png",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"'2.png' is the name of 2 training images, such as \['a/2.png', 'b/2.png'\]"):
        exclude(source, write(tmp_path, "2.png", "l.txt"))


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.txt", "\ufeff1.png\n\n 2.png \n1.png\n", ["1.png", "2.png"]),
        ("a.txt", "a, b.png\n", ["a, b.png"]),
        ("a.csv", "filename\n1.png\n2.png\n", ["1.png", "2.png"]),
        ("a.csv", 'split,filename\nval,1.png\ntraining,"2, b.png"\n', ["2, b.png"]),
        ("a.csv", "\n\nfilename,split\n1.png,\n2.png,val\n", ["1.png"]),
        ("a.csv", HEADER + "1.png,train,2.png,test,3,0.99\n", ["1.png"]),
    ],
)
def test_files_of_names(tmp_path: Path, name: str, text: str, names: list[str]) -> None:
    assert read_names(write(tmp_path, text, name)) == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "q.png\n", r"names no training image \(1 names, such as 'q.png'; .* '0.png'\): .* first \(A\)"),
        ("a.txt", "", "names no image of a training split"),
        ("a.csv", "filename,split\n1.png,test\n", "names no image of a training split"),
        ("a.csv", HEADER + "q.png,train,2.png,test,3,\n", r"names no training image \(1 names, such as 'q.png'"),
        ("a.csv", "image\n1.png\n", r"has the columns \['image'\], and one of \['filename_a', 'filename'\] is needed"),
        ("a.txt", "\n".join(r.filename for r in Blocks().records("train")), "names all 8 training images"),
        ("none.txt", None, r"none.txt' cannot be read \(No such file"),
    ],
)
def test_what_excludes_nothing_or_all_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    file = str(tmp_path / name) if text is None else write(tmp_path, text, name)
    with pytest.raises(DataError, match=message):
        exclude(Blocks(), file)


@pytest.mark.parametrize("lines", ["", "1.png,test,2.png,test,3,\n"])
def test_a_table_of_overlap_without_matches_leaves_nothing_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: str
) -> None:
    caplog.set_level(logging.INFO)
    assert exclude(blocks := Blocks(), write(tmp_path, HEADER + lines)) is blocks
    assert "near.csv' has no match among training images: nothing to leave out" in caplog.text


def test_excluded_before_the_holdout_is_drawn(tmp_path: Path) -> None:
    source = HoldoutSource(exclude(Blocks(), write(tmp_path, "0.png\n1.png\n", "l.txt")), 0.5)
    train, valid = rows(source), rows(source, "valid")
    assert (len(train), len(valid)) == (3, 3)
    assert {**train, **valid} == {k: v for k, v in rows(Blocks()).items() if k not in ("0.png", "1.png")}
    assert "without 2 images" in (source.fingerprint() or "")


def test_a_run_goes_on_with_the_same_exclusion_alone(tmp_path: Path, tiny_data: str) -> None:
    states = []
    for names in ("pond_1.png\n", "pond_1.png\n", "pond_2.png\n", None):
        file = None if names is None else write(tmp_path, names, "l.txt")
        data = RetrievalDataModule("parquet", tiny_data, image_size=16, batch_size=2, num_workers=0, exclude=file)
        assert len(data.table("train").names) == (8 if file is None else 7)
        states.append({**data.state_dict(), "epoch": 1, "batches": 2})
    assert continues(states[0], states[1]) is None
    assert continues(states[0], states[2]) == "the rows or captions of the training split have changed since"
    assert f"with exclude={tmp_path / 'l.txt'}, and this run has exclude=None" in (
        continues(states[0], states[3]) or ""
    )


def test_a_copy_without_the_excluded(tmp_path: Path, tiny_data: str) -> None:
    to, file = str(tmp_path / "to"), write(tmp_path, "pond_1.png\n", "l.txt")
    prepare("parquet", to, tiny_data, exclude=file)
    copy = RetrievalDataModule("parquet", to)
    assert copy.table("train").names == [f"pond_{n}.png" for n in range(8) if n != 1]
    assert copy.table("valid").names == [f"pond_{n}.png" for n in range(5)]
    prepare("parquet", to, tiny_data, exclude=file)
    write(tmp_path, "pond_2.png\n", "l.txt")
    for other in (file, None):
        with pytest.raises(DataError, match=r"was prepared with .* give the same settings to go on with it"):
            prepare("parquet", to, tiny_data, exclude=other)
