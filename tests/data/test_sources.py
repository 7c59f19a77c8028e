"""Files as people have them: read, or refused by file, row and reason. Each case stands for a kind."""

import csv
import json
import logging
import os
import time
import unicodedata
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rsretrieval.data import (
    BrokenRowError,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    RetrievalDataModule,
    Source,
    build_source,
)
from rsretrieval.data.datasets.base import check_broken
from rsretrieval.data.datasets.holdout import HoldoutSource
from rsretrieval.data.datasets.lookup import FileIndex
from rsretrieval.data.datasets.values import Place, record
from rsretrieval.data.reader import decode_row
from rsretrieval.data.table import build_table
from rsretrieval.metrics import CrossModalRecall

COLUMNS = Columns()


def picture(grey: int) -> bytes:
    Image.new("RGB", (4, 4), (grey,) * 3).save(buffer := BytesIO(), "PNG")
    return buffer.getvalue()


def images(*names: str, folder: Path, start: int = 0) -> None:
    """Files of grey images, each lighter by 10."""
    for number, name in enumerate(names, start):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(10 * number))


def entries(*names: str, split: str = "train", **other: Any) -> list[dict[str, Any]]:
    return [
        {"filename": n, "split": split, "sentences": [{"raw": "a pond"}, {"raw": f"in {n}"}], **other} for n in names
    ]


def write_json(file: Path, content: object, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return file


def folder_source(folder: Path, **columns: str) -> Source:
    return build_source("folder", str(folder), Columns(**columns))


def greys(source: Source, split: str = "train") -> list[int]:
    """What is in the images of a split, in the order of its rows."""
    blocks = [source.read(split, block) for block in range(len(source.blocks(split)))]
    return [decode_row(image, "").getpixel((0, 0))[0] for block in blocks for image in block]


def write_parquet(folder: Path, columns: dict[str, Any], split: str = "train", schema: pa.Schema | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), file := folder / f"{split}-00000-of-00001.parquet")
    return file


def encoded(count: int) -> list[dict[str, Any]]:
    return [{"bytes": picture(10 * n), "path": None} for n in range(count)]


def parquet_source(folder: Path, **columns: Any) -> Source:
    return build_source("parquet", str(folder), Columns(**columns))


# --- A2, in one place: what a value of any type becomes.

PLACE = Place("'a.parquet'", 3, {"captions": "text", "scene": "label"})


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ("a pond .", ("a pond .",)),
        (["a pond", None, float("nan"), "two"], ("a pond", "two")),
        (("a pond",), ("a pond",)),
        (np.array(["a pond", "two"]), ("a pond", "two")),
        ([{"raw": "a pond .", "tokens": ["a", "pond"]}, {"sentence": "two"}], ("a pond .", "two")),
        ({"caption": ["a pond", "two"]}, ("a pond", "two")),
        (None, ()),
        (float("nan"), ()),
        ([], ()),
        ("", ("",)),
    ],
)
def test_captions_of_any_type(value: object, captions: tuple[str, ...]) -> None:
    assert record({"filename": "a.png", "captions": value}, 0, PLACE) == Record("a.png", captions)


@pytest.mark.parametrize(
    "value", [7, 0.5, True, b"a pond", [1], [["a"]], [True], [{"tokens": ["a"]}], {"x": 1}, "['a']"]
)
def test_captions_that_are_none_are_refused_by_row_column_and_type(value: object) -> None:
    with pytest.raises(
        DataError, match=r"^'a.parquet', row 3: 'text' holds .*; possible is .* --data.columns.captions$"
    ):
        record({"filename": "a.png", "captions": value}, 0, PLACE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.png", "a.png"), (17, "17"), (0, "0"), (17.0, "17"), (np.int64(5), "5"), (Path("x/a.png"), "x/a.png")]
    + [(nothing, "row 8") for nothing in (None, "", "  ", float("nan"))],
)
def test_file_names_of_any_type(name: object, expected: str) -> None:
    assert record({"filename": name, "captions": "a"}, 8, PLACE).filename == expected


@pytest.mark.parametrize(
    ("scene", "expected"), [("", ""), (0, "0"), (False, "False"), (2.0, "2"), ("bay", "bay"), (None, None)]
)
def test_scenes_of_any_type_are_text(scene: object, expected: str | None) -> None:
    assert record({"filename": "a.png", "captions": "a", "scene": scene}, 0, PLACE).scene == expected


@pytest.mark.parametrize("value", [b"bay", ["bay"], {"name": "bay"}, "\ud800"])
def test_scenes_and_names_that_are_none_are_refused(value: object) -> None:
    for field, column in (("scene", "label"), ("filename", "filename")):
        with pytest.raises(DataError, match=f"^'a.parquet', row 3: '{column}' holds .*possible is .*columns.{field}$"):
            record({"filename": "a.png", "captions": "a", field: value}, 0, PLACE)


@pytest.mark.parametrize("values", [["1", "2"], [True, 1.0], [float("nan"), 1.0], [10**400, 1.0], "no", [[1], [2]]])
def test_values_that_are_no_numbers_are_refused(values: object) -> None:
    with pytest.raises(DataError, match=r"^'a.parquet', row 3"):
        record({"filename": "a.png", "captions": ["a", "b"], "values": values}, 0, PLACE)


def test_values_go_with_their_captions() -> None:
    assert record({"captions": ["a", None, "b"], "values": [1, 2, 3]}, 0, PLACE).values == (1.0, 3.0)
    assert record({"captions": "a", "values": 0.5}, 0, PLACE).values == (0.5,)
    with pytest.raises(DataError, match=r"row 3: 'x' has 2 captions and 1 values of captions: give one for each"):
        record({"filename": "x", "captions": ["a", "b"], "values": [1]}, 0, PLACE)


# --- A2 and D, tables.


def test_u1_a_string_column_is_one_caption_a_row(tmp_path: Path) -> None:
    write_parquet(tmp_path, {"image": encoded(2), "filename": ["a.png", "b.png"], "text": ["a pond", "two ponds"]})
    table = build_table(parquet_source(tmp_path, captions="text"), "train")
    assert table.captions == [["a pond"], ["two ponds"]]


def test_u9b_captions_as_objects(tmp_path: Path) -> None:
    objects = [[{"raw": "a pond .", "tokens": ["a"]}, {"raw": "water"}], [{"raw": "two", "tokens": []}]]
    write_parquet(tmp_path, {"image": encoded(2), "filename": ["a.png", "b.png"], "captions": objects})
    assert build_table(parquet_source(tmp_path), "train").captions == [["a pond", "water"], ["two"]]
    write_parquet(tmp_path, {"image": encoded(1), "filename": ["a.png"], "captions": [[{"words": "a pond"}]]})
    with pytest.raises(DataError, match=r"train-0.*parquet', row 0: 'captions' holds dict .*raw or caption or text"):
        parquet_source(tmp_path).records("train")


def test_u2_without_file_names_paths_or_row_numbers_serve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = encoded(3)
    write_parquet(tmp_path, {"image": pictures, "captions": [["a pond"]] * 3})
    for columns in (Columns(), Columns(filename=None), Columns(filename="image")):
        table = build_table(build_source("parquet", str(tmp_path), columns), "train")
        assert table.names == ["row 0", "row 1", "row 2"]
        assert len(table.scene_names) == 3  # 'row' is no scene
    for number, image in enumerate(pictures):
        image["path"] = f"airport_{number}.jpg"
    write_parquet(tmp_path, {"image": pictures, "captions": [["a pond"]] * 3})
    table = build_table(parquet_source(tmp_path), "train")
    assert (table.names[2], table.scene_names) == ("airport_2.jpg", ["airport"])
    for image in pictures:
        image["path"] = "image.jpg"  # of different images
    write_parquet(tmp_path, {"image": pictures, "captions": [["a pond"]] * 3})
    assert build_table(parquet_source(tmp_path), "train").names == ["row 0", "row 1", "row 2"]
    with pytest.raises(DataError, match=r"has no column \['null'\]"):
        parquet_source(tmp_path, filename="null").records("train")


def test_u2h_one_column_for_two_things_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path, {"image": encoded(1), "text": ["a pond"]})
    with pytest.raises(
        DataError, match=r"captions and --data.columns.filename are both 'text'.*leave out --data.columns.f"
    ):
        parquet_source(tmp_path, captions="text", filename="text").records("train")
    assert parquet_source(tmp_path, captions="text").records("train") == [Record("row 0", ("a pond",))]


def test_u3_numbers_as_file_names(tmp_path: Path) -> None:
    write_parquet(tmp_path, {"image": encoded(3), "filename": [5, 0, None], "captions": [["a"]] * 3})
    table = build_table(parquet_source(tmp_path), "train")
    assert table.names == ["5", "0", "row 2"]
    assert greys(parquet_source(tmp_path)) == [0, 10, 20]


def test_u4_numbers_as_scenes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"airport_{n}.png" for n in range(5)]
    columns = {"image": encoded(5), "filename": names, "captions": [["a"]] * 5, "label": [0, 1, 2, 3, None]}
    write_parquet(tmp_path, columns)
    table = build_table(parquet_source(tmp_path, scene="label"), "train")
    assert table.scene_names == ["0", "1", "2", "3", "airport"]
    (tmp_path / "scenes.json").write_text(json.dumps({"airport_0.png": 0, "airport_1.png": "", "airport_2.png": None}))
    source = parquet_source(tmp_path, scene="label")
    table = build_table(source, "train", scene_file=str(tmp_path / "scenes.json"))
    assert [table.scene_names[n] for n in table.scenes] == ["0", "", "2", "3", "airport"]
    for content, reason in (
        ("[1]", "is no JSON object"),
        ("{", "cannot be read"),
        ('{"a": [1]}', "'a': 'scene' holds list"),
    ):
        (tmp_path / "scenes.json").write_text(content)
        with pytest.raises(DataError, match=f"scenes.json'.*{reason}"):
            build_table(source, "train", scene_file=str(tmp_path / "scenes.json"))
    with pytest.raises(DataError, match=r"nowhere.json' cannot be read"):
        build_table(source, "train", scene_file="nowhere.json")
    (tmp_path / "scenes.json").write_text('{"b.png": "bay"}')
    build_table(source, "train", scene_file=str(tmp_path / "scenes.json"))
    assert "lists none of the images of split 'train'; such as 'b.png' in it, and 'airport_0.png' in the" in caplog.text


def test_classes_of_a_table_are_called_by_their_names(tmp_path: Path) -> None:
    features = datasets.Features(
        image=datasets.Image(), filename=datasets.Value("string"), captions=datasets.Value("string"),
        scene=datasets.ClassLabel(names=["bay", "airport"]),
    )  # fmt: skip
    columns = {"image": encoded(2), "filename": ["1.png", "2.png"], "captions": ["a", "b"], "scene": [1, 0]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "train.parquet")
    assert [r.scene for r in parquet_source(tmp_path).records("train")] == ["airport", "bay"]


def test_u5_values_and_captions_that_differ_in_number(tmp_path: Path) -> None:
    columns = {"image": encoded(2), "filename": ["a.png", "b.png"], "captions": [["a"], ["b", "c"]]}
    write_parquet(tmp_path, {**columns, "caption_values": [[1.0], [0.5]]})
    with pytest.raises(DataError, match=r"train-0.*parquet', row 1: 'b.png' has 2 captions and 1 values of captions"):
        parquet_source(tmp_path).records("train")
    write_parquet(tmp_path, {**columns, "caption_values": [[1.0], None]})
    with pytest.raises(
        DataError, match=r"parquet', split 'train', row 1, 'b.png': it has captions and no values of captions"
    ):
        build_table(parquet_source(tmp_path), "train")
    write_parquet(tmp_path, columns)
    with pytest.raises(DataError, match=r"--data.caption_values gave 1 values for 3 captions"):
        build_table(parquet_source(tmp_path), "train", caption_values=lambda texts: [1.0])


def test_u6b_images_by_their_paths_from_the_table(tmp_path: Path) -> None:
    images("a.png", "b.png", "c/b.png", folder=tmp_path / "pictures")
    paths = ["pictures/a.png", "pictures\\c\\b.png", "pictures/b.png "]
    for column in (paths, [{"bytes": None, "path": path} for path in paths]):
        write_parquet(tmp_path, {"image": column, "filename": ["a", "b", "c"], "captions": [["a"]] * 3})
        assert greys(parquet_source(tmp_path)) == [0, 20, 10]
    wrong = ["https://x.org/a.png", "pictures/none.png", None]
    write_parquet(tmp_path, {"image": wrong, "filename": ["a", "b", "c"], "captions": [["a"]] * 3})
    source = parquet_source(tmp_path)
    for row, reason in enumerate(("is an address: fetch it", "there is no file 'pictures/none.png' below", "is empty")):
        with pytest.raises(BrokenRowError, match=rf"train-0.*parquet', row {row}: .*{reason}"):
            source.read("train", row)


def test_images_as_bytes(tmp_path: Path) -> None:
    columns = {"image": [picture(70)], "filename": ["a"], "captions": [["a"]]}
    write_parquet(tmp_path, columns)
    assert greys(parquet_source(tmp_path)) == [70]


def test_u6c_a_column_that_holds_no_images(tmp_path: Path) -> None:
    write_parquet(tmp_path, {"image": [[[[1, 2, 3]]]], "filename": ["a"], "captions": [["a"]]})
    with pytest.raises(
        DataError, match=r"train-0.*'image' holds list<.*int64.*, which is no image: possible are encoded b"
    ):
        parquet_source(tmp_path).records("train")


def test_text_that_is_not_utf_8_in_a_table(tmp_path: Path) -> None:
    text = pa.array([b"a pond", b"\xc3("], pa.binary()).view(pa.string())
    columns = {"image": encoded(2), "filename": ["a", "b"], "captions": text}
    pq.write_table(pa.Table.from_pydict(columns), tmp_path / "train.parquet")
    with pytest.raises(
        DataError, match=r"train.parquet', row 1: 'captions' holds a string that cannot be read .*UTF-8"
    ):
        parquet_source(tmp_path).records("train")


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path, {"image": encoded(1), "filename": ["a"], "captions": [["a"]]})
    whole.rename(tmp_path / "train-0.parquet")
    (tmp_path / "train-1.parquet").write_bytes(b"<html>")
    with pytest.raises(
        DataError, match=r"train-1.parquet' cannot be read \(ArrowInvalid: .*fetch or write the file again"
    ):
        parquet_source(tmp_path).records("train")


# --- A3: rows of one image belong together.


def recalled(folder: Path) -> tuple[dict[str, float], int]:
    """Recall by embeddings that follow from pixels and words alone, and the number of images."""
    data = RetrievalDataModule("parquet", str(folder), image_size=4, eval_batch_size=5, num_workers=0)
    recall, count = CrossModalRecall(), 0
    for batch in data.val_dataloader():
        count += len(batch.images)
        of_images = [int(image[0, 0, 0]) // 10 for image in batch.images]
        of_texts = [int(text.split()[1]) for text in batch.texts]
        noise = [0.4 * random(1000 + hash_of(text)) for text in batch.texts]
        ids = torch.tensor([hash_of(text) for text in batch.texts])
        recall.update(
            image=torch.stack([random(number) for number in of_images]),
            image_ids=batch.image_ids,
            text=torch.stack([random(number) for number in of_texts]) + torch.stack(noise),
            text_ids=ids,
            caption_text_ids=ids,
            caption_image_ids=batch.owners,
        )
    return {name: float(figure) for name, figure in recall.compute().items()}, count


def hash_of(text: str) -> int:
    return int("".join(text.split()[1:]))


def random(seed: int) -> torch.Tensor:
    return torch.randn(3, generator=torch.Generator().manual_seed(seed))


def write_lists_and_rows(folder: Path, split: str, count: int = 12) -> None:
    """The same images with lists of captions in `lists`, with one caption a row in `rows`, in another order."""
    names, pictures = [f"airport_{n}.jpg" for n in range(count)], encoded(count)
    captions = [[f"{split} {n} {k}" for k in range(3)] for n in range(count)]
    write_parquet(folder / "lists", {"image": pictures, "filename": names, "captions": captions}, split)
    rows = [(n, k) for n in range(count) for k in range(3)]
    if split == "train":
        rows.sort(key=lambda row: row[1])
    columns = {
        "image": [pictures[n] for n, _ in rows],
        "filename": [names[n] for n, _ in rows],
        "captions": [captions[n][k : k + 1] for n, k in rows],
    }
    write_parquet(folder / "rows", columns, split)


def test_a18_one_caption_a_row_gives_the_figures_of_lists(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_lists_and_rows(tmp_path, "valid")
    (of_lists, count), (of_rows, count_of_rows) = (recalled(tmp_path / kind) for kind in ("lists", "rows"))
    assert of_lists == of_rows
    assert 10 < of_lists["mR"] < 90
    assert count == count_of_rows == 12
    assert "split 'valid': 36 rows are of 12 images; an image has the captions of all its rows" in caplog.text
    table = build_table(parquet_source(tmp_path / "rows"), "valid")
    assert (table.images, table.broken, len(table.merged)) == (12, [], 24)


def test_a_hold_out_is_chosen_by_image(tmp_path: Path) -> None:
    write_lists_and_rows(tmp_path, "train")
    of_lists, of_rows = (HoldoutSource(parquet_source(tmp_path / kind), 0.25) for kind in ("lists", "rows"))
    names = {split: {record.filename for record in of_rows.records(split)} for split in ("train", "valid")}
    assert not names["train"] & names["valid"]
    assert names["valid"] == {record.filename for record in of_lists.records("valid")}
    assert len(names["valid"]) == 3
    table = build_table(of_rows, "valid")
    assert sorted(len(captions) for captions in table.captions) == [0] * 6 + [3] * 3


def test_rows_of_one_image_in_a_folder_and_without_names(tmp_path: Path) -> None:
    images("a.png", "b.png", folder=tmp_path / "f")
    rows = [{"image": name, "caption": f"{name} {k}", "split": "train"} for k in (1, 2) for name in ("a.png", "b.png")]
    write_json(tmp_path / "f" / "x.json", rows)
    source = folder_source(tmp_path / "f")
    assert source.records("train") == [Record(n, (f"{n} 1", f"{n} 2")) for n in ("a.png", "b.png")]
    assert greys(source) == [0, 10]
    pictures = encoded(2)
    write_parquet(tmp_path / "p", {"image": [pictures[0], pictures[1], pictures[0]], "captions": ["a", "b", "c"]})
    table = build_table(parquet_source(tmp_path / "p"), "train")
    assert table.captions == [["a", "c"], ["b"], []]


def test_equal_names_of_different_images_are_refused(tmp_path: Path) -> None:
    columns = {"filename": ["1.png", "2.png", "1.png"], "captions": ["a", "b", "c"]}
    write_parquet(tmp_path, {**columns, "image": encoded(3)})
    with pytest.raises(DataError, match=r"parquet', rows 0 and 2: both are named '1.png' and have different images"):
        parquet_source(tmp_path).records("train")
    write_parquet(tmp_path, {**columns, "image": [*encoded(2), encoded(1)[0]], "scene": ["bay", "bay", "airport"]})
    with pytest.raises(
        DataError, match=r"split 'train', rows \[0, 2\], are all named '1.png' and have different scenes"
    ):
        build_table(parquet_source(tmp_path), "train")
    names = ["bay/1.png", "airport/1.png"]
    write_parquet(tmp_path, {"image": encoded(2), "filename": names, "captions": ["a", "b"]})
    assert not build_table(parquet_source(tmp_path), "train").merged


# --- A2, D and E: JSON.


def test_folders_as_their_authors_have_them(tmp_path: Path) -> None:
    images(*(f"pond_{n}.png" for n in range(3)), folder=tmp_path / "images")
    names = [f"pond_{n}.png" for n in range(3)]
    columns = {"image": encoded(3), "captions": [["a pond", f"in {n}"] for n in names], "filename": names}
    write_parquet(tmp_path, columns)
    write_json(tmp_path / "dataset.json", {"images": entries(*names)})
    parquet, folder = parquet_source(tmp_path), folder_source(tmp_path)
    assert parquet.records("train") == folder.records("train")
    assert greys(parquet) == greys(folder) == [0, 10, 20]
    with pytest.raises(DataError, match=r"no split 'test': it needs files test-\*.parquet and has the splits"):
        parquet.records("test")
    with pytest.raises(DataError, match=r"no split 'valid'.*it has \['train'\]"):
        folder.records("valid")
    (tmp_path / "images" / "pond_1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"'pond_1\.png' cannot be decoded"):
        decode_row(folder.read("train", 1)[0], "pond_1.png")


def test_a2_a_missing_validation_split_says_holdout(tmp_path: Path) -> None:
    rows = entries("a.png") + entries("b.png", split="test")
    write_json(tmp_path / "x.json", rows)
    write_parquet(tmp_path, {"image": encoded(1), "filename": ["a"], "captions": ["a"]})
    for source in (folder_source(tmp_path), parquet_source(tmp_path)):
        with pytest.raises(MissingSplitError, match=r"no split 'valid'.*has.*'train'.*--data.holdout 0.1"):
            source.records("valid")


@pytest.mark.parametrize("other", ["dataset_rsicd_modified.json", "dataset_ucm.json"])
def test_a6_a7_one_of_several_data_sets_is_chosen_by_its_path(tmp_path: Path, other: str) -> None:
    images("a.png", folder=tmp_path / "images")
    chosen = write_json(tmp_path / "dataset_rsicd.json", {"images": entries("a.png")})
    write_json(tmp_path / other, {"images": entries("b.png")})
    with pytest.raises(
        DataError, match=rf"has 2 tables with rows of split 'train': .*{other}.*as in --data.path .*json"
    ):
        folder_source(tmp_path)
    source = folder_source(chosen)
    assert [r.filename for r in source.records("train")] == ["a.png"]
    assert greys(source) == [0]


def test_one_data_set_of_several_in_files_of_its_splits(tmp_path: Path) -> None:
    for name in ("rsicd", "rsitmd"):
        for split in ("train", "val", "test"):
            write_json(tmp_path / f"{name}_{split}.json", [{"image": f"{name}_{split}.png", "caption": "a"}])
    images("rsitmd_val.png", folder=tmp_path / "images")
    with pytest.raises(DataError, match=r"rsitmd_.*choose a data set by giving the path of its table"):
        folder_source(tmp_path)
    source = folder_source(tmp_path / "rsitmd_train.json")
    assert [source.records(split)[0].filename for split in ("train", "valid", "test")] == [
        f"rsitmd_{split}.png" for split in ("train", "val", "test")
    ]
    assert greys(source, "valid") == [0]


def test_tables_in_a_folder_beside_that_of_the_images(tmp_path: Path) -> None:
    images("a.png", folder=tmp_path / "images")
    file = write_json(tmp_path / "annotations" / "x.json", entries("a.png"))
    write_json(tmp_path / "annotations" / "y.json", entries("a.png"))
    assert greys(folder_source(file)) == [0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a8a_encodings_that_say_what_they_are(tmp_path: Path, encoding: str) -> None:
    write_json(tmp_path / "x.json", {"images": entries("湖_1.png")}, encoding)
    assert folder_source(tmp_path).records("train")[0].captions == ("a pond", "in 湖_1.png")


def test_a8d_html_and_what_else_is_no_json_is_named(tmp_path: Path) -> None:
    file = write_json(tmp_path / "dataset_x.json", {"images": entries("湖泊_1.png")}, "gbk")
    with pytest.raises(DataError, match=r"dataset_x.json' is not in UTF-8 \(byte 0x.. at \d+: .*GBK.*save it as UTF-8"):
        folder_source(tmp_path)
    for content, reason in (
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"", r"is no JSON \(Expecting value"),
        (b'{"images": [{"filename"', r"is no JSON \("),
        (b"[" * 100_000, "is no JSON"),
        (b"3", "is no table of captions: it is a int"),
        (
            b'{"images": [{"filename": "a.png", "split": "train"}]}',
            r"is no table of captions: rows of 'images' have \['filename', 'split'\], and an",
        ),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=rf"dataset_x.json' {reason}"):
            folder_source(tmp_path)
        with pytest.raises(DataError, match=rf"dataset_x.json' {reason}"):
            folder_source(file)


def test_a8c_unrelated_files_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_json(tmp_path / "dataset.json", {"images": entries("a.png")})
    (tmp_path / "notes.json").write_text('{"step": 1}\n{"step": 2}\n')
    (tmp_path / "scenes.json").write_text('{"a.png": "bay"}')
    (tmp_path / "metrics.csv").write_text("step,loss\n1,0.5\n")
    (tmp_path / "page.json").write_text("<html>")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._dataset.json").write_bytes(b"\x00\x05\x16\x07")
    assert len(folder_source(tmp_path).records("train")) == 1
    for name in ("notes.json", "scenes.json", "metrics.csv", "page.json"):
        assert name in caplog.text
    assert "MACOSX" not in caplog.text
    with pytest.raises(MissingSplitError, match=r"no split 'test'.*left out was .*page.json' is a web page"):
        folder_source(tmp_path).records("test")


def test_a15_other_keys_are_read_or_named(tmp_path: Path) -> None:
    row = {"filename": "a.png", "split": "train"}
    for keys in ({"captions": ["a", "b"]}, {"caption": "a", "caption_2": "b"}, {"raw": "a", "raw_1": "b"}):
        write_json(tmp_path / "x.json", {"images": [{**row, **keys}]})
        assert folder_source(tmp_path).records("train") == [Record("a.png", ("a", "b"))]
    good = entries("b.png")
    for sentences in ([{"raw": "a"}, {"tokens": ["a"]}], [1], 3):
        write_json(tmp_path / "x.json", {"images": [*good, {**row, "sentences": sentences}]})
        with pytest.raises(DataError, match=r"x.json', images\[1\]: 'sentences' holds .*raw or caption or text"):
            folder_source(tmp_path)
    for entry, reason in (
        (row, r"has no sentences or captions .*; it has \['filename', 'split'\]: add it"),
        ({"split": "train", "sentences": []}, r"has no filename or"),
        (3, "is no object"),
        ({"filename": "a.png", "sentences": []}, "has no 'split', which other rows have"),
        ({**row, "filename": ["a"], "sentences": []}, "'filename' holds list of str"),
    ):
        write_json(tmp_path / "x.json", {"images": [*good, entry]})
        with pytest.raises(DataError, match=rf"x.json', images\[1\]:?,? {reason}"):
            folder_source(tmp_path)


def test_keys_are_named_as_columns_are(tmp_path: Path) -> None:
    row = {"id": 7, "text": "no", "sentence": "no", "report": ["a", "b"], "kind": 0}
    write_json(tmp_path / "x_train.json", [row])
    source = folder_source(tmp_path, filename="id", captions="report", scene="kind")
    assert source.records("train") == [Record("7", ("a", "b"), "0")]
    with pytest.raises(DataError, match=r"x_train.json', \[0\], has no harbour; it has \['id'"):
        folder_source(tmp_path, filename="id", captions="report", scene="harbour")


def test_layouts_of_objects(tmp_path: Path) -> None:
    def read(content: object, split: str = "train") -> list[Record]:
        write_json(tmp_path / "x.json", content)
        return folder_source(tmp_path).records(split)

    row = {"image": "a.png", "caption": "a"}
    assert read({"train": [row], "val": [{**row, "image": "b.png"}]}, "valid") == [Record("b.png", ("a",))]
    assert read({"data": [row], "version": 2}) == [Record("a.png", ("a",))]
    coco = {
        "images": [{"id": 3, "file_name": "a.png"}, {"id": 4, "file_name": "b.png"}],
        "annotations": [
            {"image_id": 4, "caption": "b"},
            {"image_id": 3, "caption": "a"},
            {"image_id": 4, "caption": "c"},
        ],
    }
    assert read(coco) == [Record("a.png", ("a",)), Record("b.png", ("b", "c"))]
    nwpu = {name: [{"filename": f"{name}_1.jpg", "split": "train", "raw": "a"}] for name in ("bay", "train")}
    assert [record.scene for record in read(nwpu)] == ["bay", "train"]


def test_a6_unknown_names_of_splits_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = entries("a.png", split=" Train ") + entries("b.png", split="dev") + entries("c.png", split="restval")
    write_json(tmp_path / "x.json", rows)
    source = folder_source(tmp_path)
    assert [source.records(split)[0].filename for split in ("train", "valid")] == ["a.png", "b.png"]
    assert "rows of splits of unknown names are not read: {'restval': 1}" in caplog.text
    with pytest.raises(MissingSplitError, match=r"no split 'test'; it has \['train', 'valid', 'restval'\]"):
        source.records("test")


def test_af_the_path_of_the_table_itself_and_nope(tmp_path: Path) -> None:
    images("a.png", folder=tmp_path / "images")
    file = write_json(tmp_path / "x.json", entries("a.png"))
    assert greys(folder_source(file)) == [0]
    with pytest.raises(
        DataError, match=r"there is no folder '.*nowhere': give the folder of the images and their table"
    ):
        folder_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"there is no folder ''"):
        build_source("folder", "", COLUMNS)
    with pytest.raises(DataError, match=r"a.png' is no table: give a file that ends in .csv"):
        folder_source(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"holds no table .* among 1 files \(\{'.png': 1\}\)"):
        folder_source(tmp_path / "images")


def test_folder_of_a_list_for_each_split(tmp_path: Path) -> None:
    """PIR's layout: captions of an image one by one in training, together in evaluation."""
    train = [{"image": f"ponds/a/{n}.png", "caption": f"pond {n} {k}", "image_id": n} for n in (1, 2) for k in (0, 1)]
    write_json(tmp_path / "ponds_train.json", train)
    write_json(tmp_path / "ponds_val.json", [{"image": "ponds/b/1.png", "caption": ["a lake", "two"]}])
    images("a/1.png", "a/2.png", "b/1.png", folder=tmp_path / "images" / "ponds", start=1)
    source = folder_source(tmp_path)
    assert source.records("train") == [Record(f"ponds/a/{n}.png", (f"pond {n} 0", f"pond {n} 1")) for n in (1, 2)]
    assert source.records("valid") == [Record("ponds/b/1.png", ("a lake", "two"))]
    assert (greys(source), greys(source, "valid")) == ([10, 20], [30])
    write_json(tmp_path / "more_val.json", [{"image": "ponds/b/1.png", "caption": "a"}])
    with pytest.raises(DataError, match=r"has 2 tables with rows of split 'valid': .*more_val.*Each split needs one"):
        folder_source(tmp_path)


# --- E: CSV, TSV, JSON lines, image folders.


def test_b1_csv(tmp_path: Path) -> None:
    images("a.png", "b.png", folder=tmp_path / "images")
    (tmp_path / "x_test.csv").write_text('filename,title\na.png,"a pond, and a lake"\na.png,two\n\nb.png,"a ""b"""\n')
    source = folder_source(tmp_path)
    assert source.records("test") == [Record("a.png", ("a pond, and a lake", "two")), Record("b.png", ('a "b"',))]
    assert greys(source, "test") == [0, 10]


def test_remoteclips_layout(tmp_path: Path) -> None:
    """Tab-separated in a .csv, with a byte order mark, one caption a row, five an image; images in another folder."""
    images(*(f"rsitmd_boat_{n}.png" for n in range(3)), folder=tmp_path / "images")
    (tmp_path / "csv_file").mkdir()
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        with (tmp_path / "csv_file" / f"rsitmd_{split}.csv").open("w", encoding="utf-8-sig", newline="") as file:
            lines = csv.writer(file, delimiter="\t")
            lines.writerow(["title", "filename"])
            lines.writerows([f"boat, {n} {k}", f"rsitmd_boat_{n}.png"] for n in numbers for k in range(5))
    source = folder_source(tmp_path)
    assert [len(record.captions) for record in source.records("train")] == [5, 5]
    assert source.records("test")[0].captions[4] == "boat, 2 4"
    assert greys(source, "test") == [20]


def test_columns_of_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("Image;Caption_1;caption_2;split;scene\na.png;a;;train;\nb.png;b;c;val;bay\n")
    source = folder_source(tmp_path)
    assert source.records("train") == [Record("a.png", ("a",))]
    assert source.records("valid") == [Record("b.png", ("b", "c"), "bay")]
    file.write_text("file_name\ttext\tcaption_values\na.png\ta\t0.5\na.png\tb\t1\n")
    assert folder_source(tmp_path).records("train") == [Record("a.png", ("a", "b"), None, (0.5, 1.0))]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("filename,title\na.png,a pond, and a lake\n", "', line 2, has 3 cells and the header 2: put quotes"),
        ("filename,title\na.png\n", "', line 2, has 1 cells and the header 2"),
        ('filename,title\na.png,"a pond\n', "', line 2: unexpected end of data"),
        ("filename,title,title\na.png,a,b\n", "' has a column twice in its header"),
        ("name,words\na.png,a pond\n", r"its header is \['name', 'words'\], and an image \(filename or"),
        ("filename,title\na.png,\"['a', 'b']\"\n", "line 2: 'title' holds str .*a list that was written as text"),
        ("filename,title\na.png,\"[{'raw': 'a pond'}]\"\n", "line 2: .*an object that was written as text"),
        ("filename,title\na.png,\"{'raw': 'a pond'}\"\n", "line 2: .*an object that was written as text"),
        ("filename,title\na.png,\" ( 'a', 'b' )\"\n", "line 2: .*a list that was written as text"),
        ("filename,title\na.png,\"array(['a', 'b'], dtype=object)\"\n", "line 2: .*a list that was written as text"),
        ("<html>", "' is a web page"),
        ("", "holds no table"),
    ],
)
def test_csv_that_cannot_be_read_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=rf"x.csv.*{reason}|{reason}.*x.csv|^'.*' {reason}"):
        folder_source(tmp_path)


def test_a_row_of_a_csv_without_a_caption_is_broken_and_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("filename,title\na.png,a\nb.png,\n")
    with pytest.raises(
        DataError, match=r"1 of 2 rows .*\['b.png'\].*the first: .*x.csv', .*row 1, 'b.png', has no caption with a word"
    ):
        build_table(folder_source(tmp_path), "train")


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_image_folders_with_metadata(tmp_path: Path, kind: str, ending: str) -> None:
    """The same file names in both splits: each is looked for beside its table."""
    for number, split in enumerate(("train", "test")):
        images("0.png", "1.png", folder=tmp_path / split, start=5 * number)
        rows = [{"file_name": f"{n}.png", "text": f"{split} {n}"} for n in (1, 0)]
        text = "\n".join(json.dumps(row) for row in rows)
        if ending == "csv":
            text = "\n".join(["file_name,text", *(f"{row['file_name']},{row['text']}" for row in rows)])
        (tmp_path / split / f"metadata.{ending}").write_text(text + "\n")
    source = build_source(kind, str(tmp_path), COLUMNS)
    assert source.records("test") == [Record("1.png", ("test 1",)), Record("0.png", ("test 0",))]
    assert (greys(source), greys(source, "test")) == ([10, 0], [60, 50])


# --- E: looking for images.


@pytest.mark.parametrize(
    "written",
    ["images/deep/airport_0.jpg", "images\\deep\\airport_0.jpg", "airport_0.jpg ",
     " deep/airport_0.jpg", "./airport_0.jpg",
     "C:\\data\\airport_0.jpg", "/home/me/rsicd/airport_0.jpg", "AIRPORT_0.JPG", "other/airport_0.jpg",
     "nothing/../images/deep/airport_0.jpg"],
)  # fmt: skip
def test_a12_a17_names_however_they_are_written(tmp_path: Path, written: str) -> None:
    images("images/deep/airport_0.jpg", "images/airport_1.jpg", folder=tmp_path)
    write_json(tmp_path / "x.json", entries(written))
    assert greys(folder_source(tmp_path)) == [0]


def test_images_through_links_and_in_folders_with_odd_names(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "forêt_1.png") for form in ("NFC", "NFD"))
    images("a.png", f"{parted}", "with\\backslash.png", folder=tmp_path / "elsewhere")
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "images" / "again").symlink_to(tmp_path / "data")  # a circle
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write_json(tmp_path / "data" / "x.json", entries("link/a.png", composed, "with/backslash.png"))
    source = folder_source(tmp_path / "data")
    assert greys(source) == [0, 10, 20]
    assert source.fingerprint() == folder_source(tmp_path / "data").fingerprint()


def test_a14_equal_names_in_two_folders_are_named_with_both_places(tmp_path: Path) -> None:
    images("images/a.png", "thumbs/a.png", folder=tmp_path)
    write_json(tmp_path / "x.json", entries("a.png", "images/a.png"))
    source = folder_source(tmp_path)
    with pytest.raises(
        BrokenRowError,
        match=r"x.json', \[0\]: the image 'a.png' is 2 times below .*, as 'images/a.png' and 'thumbs/a.png': one file",
    ):
        source.read("train", 0)
    assert decode_row(source.read("train", 1)[0], "").getpixel((0, 0)) == (0, 0, 0)


def test_names_that_differ_in_case_alone_are_not_mixed(tmp_path: Path) -> None:
    images("a.png", "A.png", folder=tmp_path)
    write_json(tmp_path / "x.json", entries("A.png", "a.png", "a.PNG"))
    source = folder_source(tmp_path)
    assert [decode_row(source.read("train", row)[0], "").getpixel((0, 0))[0] for row in (0, 1)] == [10, 0]
    with pytest.raises(BrokenRowError, match=r"'a.PNG' is 2 times"):
        source.read("train", 2)


def test_x2_a_missing_file_is_named_with_table_and_entry_and_no_other_is_taken(tmp_path: Path) -> None:
    images("bay/1.png", folder=tmp_path)
    write_json(tmp_path / "x.json", entries("bay/1.png", "airport/1.png", "none.png", ""))
    source = folder_source(tmp_path)
    for row, reason in (
        (1, "there is no file 'airport/1.png' below '.*', among 2 files"),  # not bay's
        (2, "there is no file 'none.png' below"),
        (3, "it has no file name"),
    ):
        with pytest.raises(BrokenRowError, match=rf"x.json', \[{row}\]: {reason}"):
            source.read("train", row)
    with pytest.raises(
        DataError, match=r"3 of 4 rows of split 'valid' are broken \(such as \['a'.*the first: x.json, \[1\]"
    ):
        check_broken(["a", "b", "c"], 4, "valid", 0.01, "x.json, [1]: there is no file")


def test_every_validation_file_missing_ends_in_words(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", entries(*(f"{n}.png" for n in range(4)), split="val"))
    with pytest.raises(
        DataError, match=r"4 of 4 rows of split 'valid'|rows of split 'valid' are broken.*x.json', \[0\]: there"
    ):
        list(RetrievalDataModule("folder", str(tmp_path), image_size=4, num_workers=0).val_dataloader())


def test_looking_for_an_image_takes_the_same_time_in_a_large_folder(tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        index = FileIndex(tmp_path, [tmp_path / f"class_{n % 45}" / f"{n // 45}.jpg" for n in range(count)])
        start = time.perf_counter()
        for n in range(500):
            index.find(f"class_{n % 45}/{n // 45}.jpg")
        return (time.perf_counter() - start) / 500

    assert seconds(30_000) < max(5 * seconds(1000), 0.0004)  # 4 ms before


# --- E: tables in other places.


def columns_of(count: int, prefix: str = "") -> dict[str, Any]:
    names = [f"{prefix}{n}.png" for n in range(count)]
    return {"image": encoded(count), "filename": names, "captions": [[f"pond {n}"] for n in names]}


def split_table(count: int, prefix: str) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns_of(count, prefix)).cast_column("image", datasets.Image())


def save_dictionary(folder: Path) -> None:
    datasets.DatasetDict(train=split_table(2, "a"), validation=split_table(3, "b")).save_to_disk(folder)


def save_subfolders(folder: Path) -> None:
    write_parquet(folder / "default" / "train", columns_of(2, "a"), "0000")
    write_parquet(folder / "default" / "validation", columns_of(3, "b"), "0000")


def save_names(folder: Path) -> None:
    for split, count, prefix in (("train", 2, "a"), ("val", 3, "b")):
        pq.write_table(pa.Table.from_pydict(columns_of(count, prefix)), folder / f"ponds_{split}.parquet")


def save_data_folder(folder: Path) -> None:
    write_parquet(folder / "data", columns_of(2, "a"), "train")
    write_parquet(folder / "data", columns_of(3, "b"), "dev")


def save_split_column(folder: Path) -> None:
    a, b = columns_of(2, "a"), columns_of(3, "b")
    rows = [0, 2, 1, 3, 4]
    split = np.array(["train"] * 2 + ["val"] * 3, object)[rows].tolist()
    table = {key: [(a[key] + b[key])[row] for row in rows] for key in a}
    pq.write_table(pa.Table.from_pydict({**table, "split": split}), folder / "all.parquet")


def save_arrow(folder: Path) -> None:
    for split, count, prefix in (("train", 2, "a"), ("validation", 3, "b")):
        table = pa.Table.from_pydict(columns_of(count, prefix))
        with (
            pa.OSFile(str(folder / f"ponds-{split}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as stream,
        ):
            stream.write_table(table)


@pytest.mark.parametrize(
    "save", [save_dictionary, save_subfolders, save_names, save_data_folder, save_split_column, save_arrow]
)
def test_u7d_tables_wherever_they_are(tmp_path: Path, save: Callable[[Path], None]) -> None:
    save(tmp_path)
    source = parquet_source(tmp_path)
    assert [record.filename for record in source.records("train")] == ["a0.png", "a1.png"]
    assert [record.captions for record in source.records("valid")] == [(f"pond b{n}.png",) for n in range(3)]
    assert (greys(source), greys(source, "valid")) == ([0, 10], [0, 10, 20])
    assert source.fingerprint()
    with pytest.raises(MissingSplitError, match=r"no split 'test'.*has the splits \[.*train"):
        source.records("test")


def test_a_single_table_is_training_and_a_path_of_a_file_will_do(tmp_path: Path) -> None:
    file = tmp_path / "ponds.parquet"
    pq.write_table(pa.Table.from_pydict(columns_of(2)), file)
    split_table(2, "").save_to_disk(tmp_path / "saved")
    for path in (file, tmp_path / "saved"):
        source = parquet_source(path)
        assert greys(source) == [0, 10]
        with pytest.raises(MissingSplitError, match=r"--data.holdout 0.1"):
            source.records("valid")
    assert len(HoldoutSource(parquet_source(file), 0.5).records("valid")) == 1
    write_parquet(tmp_path / "shards", columns_of(2), "train")
    write_parquet(tmp_path / "shards", columns_of(1), "test")
    assert len(parquet_source(tmp_path / "shards" / "train-00000-of-00001.parquet").records("test")) == 1


def test_tables_of_several_data_sets_and_paths_that_hold_none(tmp_path: Path) -> None:
    for name in ("rsicd", "rsitmd"):
        pq.write_table(pa.Table.from_pydict(columns_of(1, name)), tmp_path / f"{name}-train.parquet")
    with pytest.raises(DataError, match=r"2 tables with rows of split 'train': .*rsitmd-train.parquet.*--data.path"):
        parquet_source(tmp_path)
    assert parquet_source(tmp_path / "rsitmd-train.parquet").records("train")[0].filename == "rsitmd0.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(DataError, match=r"empty' holds no files \*.parquet or \*.arrow, but \['a.txt'\]"):
        parquet_source(tmp_path / "empty")
    for path in ("nowhere", ""):
        with pytest.raises(DataError, match=f"there is no folder '{path}'"):
            build_source("parquet", path, COLUMNS)
    write_parquet(tmp_path / "c", {"image": encoded(1), "filename": ["a.png"]})
    with pytest.raises(
        DataError, match=r"has no column \['captions'\]; it has \['image', 'filename'\].*--data.columns"
    ):
        parquet_source(tmp_path / "c").records("train")


def test_image_paths_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 in a column of strings, as some programs write file names: one broken row, named."""
    paths = pa.Array.from_buffers(pa.string(), 1, [None, *pa.array([b"\xc3("]).buffers()[1:]])
    table = pa.table({"image": paths, "captions": [["a pond"]], "filename": ["a.png"]})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(BrokenRowError, match=r"train.*row 0: 'image' is no text in UTF-8"):
        parquet_source(tmp_path).read("train", 0)


def write_tar(file: Path, members: dict[str, bytes]) -> None:
    import tarfile

    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            (info := tarfile.TarInfo(name)).size = len(content)
            archive.addfile(info, BytesIO(content))


def test_a_text_beside_an_image_in_a_tar_has_a_caption_a_line(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0000.tar", {"a.png": picture(0), "a.txt": b"a pond\r\n\n two ponds \n"})
    source = build_source("webdataset", str(tmp_path), COLUMNS)
    assert source.records("train") == [Record("a", ("a pond", "two ponds"))]
    assert list(source.text_columns("train").captions) == [["a pond", "two ponds"]]
    with pytest.raises(MissingSplitError, match=r"it needs files valid-\*\.tar"):
        source.records("valid")


def test_webdataset(tmp_path: Path) -> None:
    for shard in range(2):
        numbers = (2 * shard, 2 * shard + 1)
        members = {f"pond_{n}.{e}": c for n in numbers for e, c in (("png", picture(10 * n)), ("txt", b"a pond"))}
        write_tar(tmp_path / f"train-{shard:04}.tar", members)
    rows = {"a.jpg": picture(50), "a.json": json.dumps({"sentences": [{"raw": "two"}], "id": 3}).encode()}
    write_tar(tmp_path / "val-0000.tar", rows)
    source = build_source("webdataset", str(tmp_path), COLUMNS)
    assert source.records("train") == [Record(f"pond_{n}", ("a pond",)) for n in range(4)]
    assert source.records("valid") == [Record("a", ("two",))]
    assert (greys(source), greys(source, "valid")) == ([0, 10, 20, 30], [50])
    with pytest.raises(MissingSplitError, match=r"no split 'test'"):
        source.records("test")
    with pytest.raises(DataError, match=r"by --data.source webdataset"):
        folder_source(tmp_path)
    write_tar(tmp_path / "test-0000.tar", {"a.png": picture(1)})
    with pytest.raises(
        DataError, match=r"test-0000.tar' has no column \['captions'\]; it has \['__key__', '__url__', 'png'\]"
    ):
        build_source("webdataset", str(tmp_path), COLUMNS).records("test")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"b.json": b"{a pond"}, r"'b\.json' of 'train-0000\.tar' is no JSON: Expecting property name"),
        ({"b.json": None}, r"'b' of 'train-0000\.tar' has \['png'\] where others have \['json', 'png'\]"),
        ({"b.png": None}, r"'b' of 'train-0000\.tar' has \['json'\] where others have \['json', 'png'\]"),
        (None, r"'train-0000\.tar' is no whole tar: unexpected end of data"),
    ],
)
def test_a_sample_that_ends_a_tar_is_named(
    changes: dict[str, bytes | None] | None, reason: str, tmp_path: Path
) -> None:
    members = {f"{n}.{e}": c for n in "abc" for e, c in (("png", picture(1)), ("json", b'{"caption": "a pond"}'))}
    write_tar(file := tmp_path / "train-0000.tar", {n: c for n, c in {**members, **(changes or {})}.items() if c})
    if changes is None:
        file.write_bytes(file.read_bytes()[:700])
    with pytest.raises(DataError, match=rf"train-0000\.tar' cannot be read as one table \({reason}"):
        build_source("webdataset", str(tmp_path), COLUMNS).records("train")


@pytest.mark.parametrize(
    ("ids", "of_captions", "found"),
    [
        ([1, 2], [1.0, "0002"], [("a",), ("b",)]),
        ([7, 7], [7, 7], r"several images of one id, such as '7'"),
        ([1, 2], [8, 9], r"captions of 2 image_id, such as '8', are of no image; ids of images are such as '1'"),
    ],
)
def test_captions_find_their_images_by_id(
    tmp_path: Path, ids: list[object], of_captions: list[object], found: list[tuple[str]] | str
) -> None:
    pictures = [{"id": id_, "file_name": name} for id_, name in zip(ids, ("x.png", "y.png"), strict=True)]
    annotations = [{"image_id": id_, "caption": text} for id_, text in zip(of_captions, "ab", strict=True)]
    write_json(tmp_path / "train.json", {"images": pictures, "annotations": annotations})
    if isinstance(found, str):
        with pytest.raises(DataError, match=found):
            folder_source(tmp_path).records("train")
    else:
        assert [row.captions for row in folder_source(tmp_path).records("train")] == found


def test_of_several_keys_it_is_said_which_has_the_captions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_json(tmp_path / "train.json", [{"filename": "a.png", "title": "a", "text": "b", "title_2": "c"}] * 2)
    assert folder_source(tmp_path).records("train")[0].captions[:2] == ("a", "c")
    assert caplog.text.count("captions are read from ['title', 'title_2'], not from ['text']") == 1


def test_texts_of_missing_values_are_no_captions(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("filename,title,title_1\na.png,a pond,nan\nb.png,None,a lake\n")
    assert [row.captions for row in folder_source(tmp_path).records("train")] == [("a pond",), ("a lake",)]


def test_names_that_two_splits_share_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images("a.png", "b.png", folder=tmp_path)
    write_json(tmp_path / "x.json", [*entries("a.png", "b.png"), *entries("b.png", split="val")])
    data = RetrievalDataModule("folder", str(tmp_path))
    data.table("train")
    data.table("valid")
    assert "1 images of the split 'valid' have the name of a training image, such as 'b.png'" in caplog.text


def test_classes_with_lists_of_names_and_images_without_a_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_json(tmp_path / "x.json", entries("airport_1.png", "7.png", "port_2.png"))
    scenes = write_json(tmp_path / "scenes" / "classes.json", {"field": ["7.png"], "Airfield": ["airport_1.png"]})
    table = build_table(folder_source(tmp_path), "train", scene_file=str(scenes))
    assert [table.scene_names[number] for number in table.scenes] == ["Airfield", "field", "port"]
    assert "scenes of 1 images are those of their names, such as 'port_2.png'" in caplog.text
    write_json(scenes, {"a": ["7.png"], "b": ["7.png"]})
    with pytest.raises(DataError, match=r"has '7.png' in several classes"):
        build_table(folder_source(tmp_path), "train", scene_file=str(scenes))


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_hold_out_leaves_images_on_both_sides(tmp_path: Path, fraction: float) -> None:
    write_json(tmp_path / "x.json", entries("a.png", "b.png"))
    with pytest.raises(DataError, match=r"holdout=.* of 2 training images leaves . to train on and . to validate on"):
        HoldoutSource(folder_source(tmp_path), fraction)


# --- D: names of sources.


def test_wrong_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"no data source 'ftp'; possible are \[.*'folder',.*'hub',.*'parquet'.*'rsitmd'"
    ):
        build_source("ftp", "", COLUMNS)
    with pytest.raises(DataError, match=r"no data source 'rsidc' \(did you mean 'rsicd'"):
        build_source("rsidc", "", COLUMNS)
    with pytest.raises(DataError, match=r"'synthetic' has no revisions: leave out --data.revision \('main'\)"):
        build_source("synthetic", "", COLUMNS, "main")
    with pytest.raises(DataError, match=r"'parquet' has no configurations: leave out --data.configuration \('a'\)"):
        build_source("parquet", "", COLUMNS, configuration="a")
    with pytest.raises(DataError, match=r"'synthetic' reads no files, so 'ponds' would be left aside: name the source"):
        build_source("synthetic", "ponds", COLUMNS)
    with pytest.raises(DataError, match=r"no data set's id|needs the data set's id: give --data.path OWNER/NAME"):
        build_source("hub", "", COLUMNS)
    monkeypatch.chdir(tmp_path)
    os.mkdir("ponds")
    with pytest.raises(DataError, match=r"'ponds' is a path: name the source of its files, as in --data.source folder"):
        build_source("ponds", "", COLUMNS)


def test_records_of_a_source_of_ones_own_are_checked_too() -> None:
    class Careless(Source):
        def records(self, split: str) -> list[Record]:
            return [Record(7, "a pond", 0), Record("b", ["two", None], 1)]  # type: ignore[arg-type]

        def read(self, split: str, block: int) -> list[object]:
            return [None]

    table = build_table(Careless(), "train")
    assert (table.names, table.captions, table.scene_names) == (["7", "b"], [["a pond"], ["two"]], ["0", "1"])


def test_records_of_arrays_are_checked_before_they_are_looked_at() -> None:
    class Arrays(Source):
        texts = np.array(["a pond", "two"])

        def records(self, split: str) -> list[Record]:
            return [Record("a", self.texts), Record("b", np.array([]))]  # type: ignore[arg-type]

        def read(self, split: str, block: int) -> list[object]:
            return [None]

    assert build_table(Arrays(), "train", max_broken=0.5).captions == [["a pond", "two"], []]
    Arrays.texts = np.array([])
    with pytest.raises(DataError, match="has no captions: none of its 2 images, such as 'a', has one"):
        build_table(Arrays(), "train")
