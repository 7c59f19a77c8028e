"""Images below folders of their classes, and the other sets of RS5M's test data, as folders."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from rsretrieval.data import Columns, DataError, MissingSplitError, Record, RetrievalDataModule, Source, build_source
from rsretrieval.data.table import build_table


def write_images(folder: Path, *names: str) -> Path:
    """Grey images, each lighter by 10."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * number,) * 3).save(folder / name)
    return folder


def classes(folder: Path) -> Source:
    return build_source("classes", str(folder), Columns())


def grey(source: Source, split: str, row: int) -> int:
    (file,) = source.read(split, row)
    value = Image.open(str(file)).convert("L").getpixel((0, 0))
    assert isinstance(value, int)
    return value


def test_all_images_are_test_where_there_are_no_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folder = write_images(tmp_path, "Airport/a_1.png", "Airport/a_2.png", "Bare Land/a_1.png", "stray.png")
    write_images(tmp_path, "__MACOSX/x/a.png", ".cache/y/a.png")
    source = classes(folder)
    assert source.records("test") == [
        Record("Airport/a_1.png", (), "Airport"),
        Record("Airport/a_2.png", (), "Airport"),
        Record("Bare Land/a_1.png", (), "Bare Land"),
    ]
    assert source.blocks("test") == [1, 1, 1]
    assert [grey(source, "test", row) for row in range(3)] == [0, 10, 20]
    assert "says no splits: all of its images are of 'test'" in caplog.text
    assert "1 images in no class's folder are not read" in caplog.text
    with pytest.raises(MissingSplitError, match=r"no split 'train'.*has the splits \['test'\]"):
        source.records("train")
    before = source.fingerprint()
    write_images(tmp_path, "Airport/a_3.png")
    assert classes(folder).fingerprint() != before


def test_folders_of_splits_around_the_classes(tmp_path: Path) -> None:
    write_images(tmp_path, "train/Port/a.png", "train/Beach/more/a.png", "val/Port/b.png", "test/Beach/c.png")
    source = classes(tmp_path)
    assert source.records("train") == [
        Record("train/Beach/more/a.png", (), "Beach"),
        Record("train/Port/a.png", (), "Port"),
    ]
    assert source.records("valid") == [Record("val/Port/b.png", (), "Port")]
    assert source.records("test") == [Record("test/Beach/c.png", (), "Beach")]
    write_images(tmp_path, "Port/a.png")
    with pytest.raises(
        DataError, match=r"named like splits, \['test', 'train', 'val'\], and others, \['Port'\]: keep apart"
    ):
        classes(tmp_path)


def test_a_lone_folder_around_the_classes_is_passed_through(tmp_path: Path) -> None:
    write_images(tmp_path, "AID/2750/Port/a.png", "AID/2750/Beach/a.png", "AID/2750/Beach/b.png")
    (tmp_path / "notes").mkdir()
    names = [(row.filename, row.scene) for row in classes(tmp_path).records("test")]
    assert names == [("Beach/a.png", "Beach"), ("Beach/b.png", "Beach"), ("Port/a.png", "Port")]
    write_images(tmp_path / "b", "test/Port/a.png", "test/Beach/a.png")
    assert [row.scene for row in classes(tmp_path / "b").records("test")] == ["Beach", "Port"]


def test_what_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder '.*none': give the folder of the classes' folders"):
        classes(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds images of 0 classes \(\[\]\): give the folder whose folders"):
        classes(tmp_path)
    write_images(tmp_path, "Port/a.png", "Port/b.png")
    with pytest.raises(DataError, match=r"holds images of 1 classes \(\['Port'\]\)"):
        classes(tmp_path)


def test_a_set_without_captions_is_refused_in_training(tmp_path: Path) -> None:
    write_images(tmp_path, "test/Port/a.png", "test/Beach/a.png", "train/Port/a.png", "train/Beach/a.png")
    for split in ("train", "test"):
        with pytest.raises(
            DataError,
            match=rf"class folders of '.*', split '{split}' has no captions: none of its 2 images, such as "
            rf"'{split}/Beach/a.png'.*classify",
        ):
            build_table(classes(tmp_path), split, max_broken=1.0)
    with pytest.raises(DataError, match="has no captions"):
        RetrievalDataModule("classes", str(tmp_path)).train_dataloader()


@pytest.mark.parametrize(("name", "images"), [("rsicd", "RSICD_images"), ("rsitmd", "images")])
def test_rs5ms_test_data_of_a_captioned_set(tmp_path: Path, name: str, images: str) -> None:
    """Comma-separated, one caption a row; the images in a folder beside the table."""
    folder = tmp_path / "rs5m_test_data" / name
    write_images(folder / images, "airport_1.jpg", "boat_2.jpg")
    lines = [f'{file},"a caption, the {n}."' for n in range(5) for file in ("airport_1.jpg", "boat_2.jpg")]
    (folder / f"{name}_test.csv").write_text("\n".join(["filename,title", *lines]))
    for source in ("folder", "rsitmd"):
        data = RetrievalDataModule(source, str(folder), image_size=8)
        table = data.table("test")
        assert table.names == ["airport_1.jpg", "boat_2.jpg"]
        assert table.captions == [[f"a caption the {n}" for n in range(5)]] * 2
        assert [data.stream("test").image(row).getpixel((0, 0))[0] for row in (0, 1)] == [0, 10]
    write_images(tmp_path / "rs5m_test_data" / "other" / "images", "airport_1.jpg")
    (tmp_path / "rs5m_test_data" / "other" / "other_test.csv").write_text("filename,title\nairport_1.jpg,a\n")
    with pytest.raises(DataError, match=r"has 2 tables with rows of split 'test': .*choose a data set by giving"):
        build_source("folder", str(tmp_path / "rs5m_test_data"), Columns())


@pytest.mark.parametrize("name", ["jpg_name", "img_name", "image"])
def test_regions_of_semantic_localisation_are_no_captions_of_images(tmp_path: Path, name: str) -> None:
    """AIR-SLT: a sentence of a part of a scene, which ``points`` mark."""
    write_images(tmp_path / "imgs", "1.jpg")
    (tmp_path / "annotations").mkdir()
    rows = [{name: "1.jpg", "caption": "four planes", "points": [[[1, 2], [3, 4], [5, 6]]]}]
    (tmp_path / "annotations" / "anno.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"anno.json' marks regions of images \('points'\).*semantic localisation"):
        build_source("folder", str(tmp_path), Columns())
    rows.append({name: "1.jpg", "caption": "a runway"})  # a key that one row has says nothing of the file
    (tmp_path / "annotations" / "anno.json").write_text(json.dumps(rows))
    table = build_table(build_source("folder", str(tmp_path), Columns(filename=name)), "train")
    assert (table.names[0], table.captions[0]) == ("1.jpg", ["four planes", "a runway"])
