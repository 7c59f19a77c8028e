"""Zero-shot classification: labels, texts of classes, figures, tables, and the command."""

import csv
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs import write_entry
from PIL import Image
from torch import Tensor

from rsretrieval import Retriever, cli
from rsretrieval.classification import TEMPLATES, class_texts, classify, draw_confusion, summary
from rsretrieval.classification.texts import in_words, read_names, read_templates
from rsretrieval.data import Columns, DataError, MissingSplitError, Record, Source, build_source
from rsretrieval.data.captions import cleaned_templates
from rsretrieval.data.pictures import LabelledRows, labelled_rows, read_pictures
from rsretrieval.metrics.classification import accuracy, confusion_matrix
from rsretrieval.metrics.confusion_picture import CELL, GAP, RIGHT, WRONG


@pytest.fixture
def pair(tmp_path: Path) -> str:
    return write_entry(tmp_path)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Folders of three classes of four noisy images each, one of them broken."""
    generator = np.random.default_rng(0)
    for name in ("BareLand", "pond", "storage_tanks"):
        (tmp_path / "scenes" / name).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((70, 60)).save(tmp_path / "scenes" / name / f"{number}.png")
    (tmp_path / "scenes" / "pond" / "2.png").write_bytes(b"no image")
    return tmp_path / "scenes"


class Rows(Source):
    """Records as they are given, and white images."""

    def __init__(self, *records: Record) -> None:
        self.rows = list(records)

    def records(self, split: str) -> list[Record]:
        if split != "test":
            raise MissingSplitError.of("rows", split, ["test"])
        return self.rows

    def read(self, split: str, block: int) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), "white")]


def test_figures_are_those_of_a_count_by_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(0, 4, (2, 50), generator=generator)
    confusion = confusion_matrix(labels, predicted, 5)  # the last class has no image
    pairs = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    assert confusion.tolist() == [[pairs[row, column] for column in range(5)] for row in range(5)]
    figures = accuracy(confusion)
    assert figures.overall == pytest.approx(100 * sum(pairs[n, n] for n in range(4)) / 50)
    by_class = [100 * pairs[n, n] / labels.tolist().count(n) for n in range(4)]
    assert figures.by_class[:4] == pytest.approx(by_class)
    assert math.isnan(figures.by_class[4])
    assert figures.mean_of_classes == pytest.approx(sum(by_class) / 4)
    with pytest.raises(ValueError, match=r"labels \(2,\) and predictions \(3,\): give \(N,\) of both"):
        confusion_matrix(torch.zeros(2).long(), torch.zeros(3).long(), 2)
    with pytest.raises(ValueError, match="classes run from 0 to 2, and there are 2: give 0 to 1"):
        confusion_matrix(torch.tensor([0, 1]), torch.tensor([2, 1]), 2)
    with pytest.raises(ValueError, match=r"a matrix \(2, 2\) with 0 images has no accuracy"):
        accuracy(torch.zeros(2, 2).long())


def test_labels_are_stated_and_never_guessed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "scenes.json").write_text(json.dumps({"1.png": "beach"}))
    source = Rows(
        Record("pond_0.png", ("a pond",)), Record("1.png", ("a beach",)), Record("2.png", ("a pond too",)),
        Record("3.png", (), "harbour"), Record("pond_0.png", ("water",)),
    )  # fmt: skip
    labelled = labelled_rows(source, "test", str(tmp_path / "scenes.json"))
    assert labelled == LabelledRows([0, 1, 3], ["pond_0.png", "1.png", "3.png"], ["pond", "beach", "harbour"], 1)
    assert "split 'test': 1 of 4 images have no label and are left out" in caplog.text
    with pytest.raises(MissingSplitError, match="rows has no split 'valid'"):
        labelled_rows(source, "valid")
    advice = "each image would be a class of its own: give a JSON of file names to classes as --data.scene_file"
    cases = (("0.png", "1.png", "0 of its 2 images have a label, of no class"),
             ("a_0.png", "a_1.png", r"2 of its 2 images have a label, of \['a'\]"))  # fmt: skip
    for first, second, count in cases:
        with pytest.raises(DataError, match=rf"{count}. Without labels {advice}"):
            labelled_rows(Rows(Record(first, ()), Record(second, ())), "test")


def test_classes_as_texts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert [in_words(label) for label in ("storage_tanks", "BareLand")] == ["storage tanks", "bare land"]
    texts = class_texts(["pond", "bareland", "pond"], {"bareland": "bare soil", "lake": "a lake"})
    assert list(texts.items()) == [("bareland", "bare soil"), ("lake", "a lake"), ("pond", "pond")]
    assert "of --names these have no image, and may be predicted all the same: ['lake']" in caplog.text
    with pytest.raises(DataError, match=r"the classes \['BareLand', 'Bare_Land'\] have the same text 'bare land'"):
        class_texts(["BareLand", "Bare_Land"])
    with pytest.raises(DataError, match=r"the classes \['__'\] have no word in their names"):
        class_texts(["__", "pond"])
    (tmp_path / "names.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"names\.json' is no JSON object of classes to texts"):
        read_names(str(tmp_path / "names.json"))
    with pytest.raises(DataError, match=r"--names: '.*gone\.json' cannot be read .*give a JSON of classes to texts"):
        read_names(str(tmp_path / "gone.json"))


def test_templates(tmp_path: Path) -> None:
    assert read_templates(None) == list(TEMPLATES)
    assert len(set(TEMPLATES)) == 18
    assert read_templates("a {} here") == ["a {} here"]
    assert read_templates([]) == []
    (tmp_path / "templates.txt").write_text("a {}.\n\n  the {}  \n")
    assert read_templates(str(tmp_path / "templates.txt")) == ["a {}.", "the {}"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="the file holds no template: give one a line"):
        read_templates(str(tmp_path / "empty.txt"))
    with pytest.raises(DataError, match=r"'gone\.txt' is neither a template with '\{\}' nor a file that can be read"):
        read_templates("gone.txt")
    with pytest.raises(ValueError, match=r"the prompt 'a pond' needs one '\{\}'"):
        read_templates(["{} of a pond", "a pond"])
    assert cleaned_templates(["A photo of {}.", "a photo, of {}", "{}: seen"]) == ["a photo of {}", "{} seen"]


class Planted:
    """An encoder whose pictures are their embeddings."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_images(self, images: Iterable[Any], /) -> Tensor:
        batch = list(images)
        self.batches.append(len(batch))
        return torch.stack(batch)

    def encode_texts(self, texts: Iterable[str], /, *, templates: Sequence[str] | None) -> Tensor:
        assert (list(texts), templates) == (["a pond", "pier"], ["{}!"])
        return torch.eye(2)


def test_an_image_is_of_the_nearest_class() -> None:
    labelled = LabelledRows([0, 2, 3, 7], ["a", "b", "c", "d"], ["pond", "pier", "pier", "pond"], 3)
    embeddings = {0: (0.8, 0.6), 2: (0.6, 0.8), 7: (0.6, 0.8)}  # 3 cannot be read
    encoder = Planted()
    result = classify(
        encoder, ((row, torch.tensor(values)) for row, values in embeddings.items()), labelled,
        {"pond": "a pond", "pier": "pier"}, ["{}!"], batch_size=2,
    )  # fmt: skip
    assert encoder.batches == [2, 1]
    assert result.names == ["a", "b", "d"]
    assert result.labels.tolist() == [0, 1, 0]
    assert result.predicted.tolist() == [0, 1, 1]
    assert result.cosines.tolist() == pytest.approx([0.8, 0.8, 0.8])
    assert (result.broken, result.without) == (1, 3)
    assert result.confusion.tolist() == [[1, 1], [0, 1]]
    assert summary(result, worst=1) == (
        "accuracy 66.67 %, mean of classes 75.00 %, of 3 images in 2 classes, 2 to choose from; 1 cannot be read; 3 "
        "have no label\n  pond   50.00 %, most taken for pier"
    )
    with pytest.raises(DataError, match="none of the 4 images can be read"):
        classify(encoder, [], labelled, {"pond": "a pond", "pier": "pier"}, ["{}!"])


def test_the_picture_shows_shares_of_a_row() -> None:
    picture = draw_confusion(torch.tensor([[2, 0], [4, 0]]), ["", ""])
    corner = [2 * GAP + n * CELL + 4 for n in range(2)]
    colours = [[picture.getpixel((x, y)) for x in corner] for y in corner]
    assert colours == [[RIGHT, (255, 255, 255)], [WRONG, (255, 255, 255)]]
    labels = [f"class {n}" for n in range(30)]
    assert draw_confusion(torch.eye(30).long(), labels).width > 30 * CELL  # without numbers


def test_the_command_on_folders_of_classes(pair: str, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = scenes.parent / "to"
    arguments = ["classify", pair, "--data.source=classes", f"--data.path={scenes}", f"--to={to}"]
    with pytest.raises(DataError, match=r"1 of 12 rows of split 'test' are broken \(such as \['pond/2\.png'\]\)"):
        cli.main(arguments)
    templates = ["a photo of {}.", "{} from above"]
    cli.main([*arguments, "--data.max_broken=0.1", f"--templates={json.dumps(templates)}", "--batch_size=5"])
    shown = capsys.readouterr().out

    retriever = Retriever.from_pretrained(pair)
    classes = {"BareLand": "bare land", "pond": "pond", "storage_tanks": "storage tanks"}
    files = [file for file in sorted(scenes.rglob("*.png")) if file.parts[-2:] != ("pond", "2.png")]
    each = torch.stack([retriever.encode_texts([t.replace("{}", c) for c in classes.values()]) for t in templates])
    texts = torch.nn.functional.normalize(each.mean(0), dim=1)
    cosines = retriever.encode_images(files) @ texts.T
    with (to / "predictions.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    assert [row["filename"] for row in rows] == [file.relative_to(scenes).as_posix() for file in files]
    assert [row["predicted"] for row in rows] == [list(classes)[n] for n in cosines.argmax(1).tolist()]
    assert [float(row["cosine"]) for row in rows] == pytest.approx(cosines.amax(1).tolist(), abs=1e-4)
    right = [row["class"] == row["predicted"] for row in rows]
    assert [row["right"] for row in rows] == [str(int(value)) for value in right]
    assert f"accuracy {100 * sum(right) / 11:.2f} %" in shown
    assert "of 11 images in 3 classes, 3 to choose from; 1 cannot be read" in shown
    with (to / "classes.csv").open(newline="") as content:
        table = list(csv.DictReader(content))
    assert [(row["class"], row["text"], row["images"]) for row in table] == [
        ("BareLand", "bare land", "4"), ("pond", "pond", "3"), ("storage_tanks", "storage tanks", "4"),
    ]  # fmt: skip
    assert Image.open(to / "confusion.png").width > 3 * CELL


def test_the_command_refuses_in_words(pair: str, tiny_data: str) -> None:
    with pytest.raises(DataError, match=r"has no classes to tell apart: 3 of its 3 images have a label, of \['pond'\]"):
        cli.main(["classify", pair, "--data.source=parquet", f"--data.path={tiny_data}"])
    with pytest.raises(ValueError, match="--batch_size 0 is too small"):
        cli.main(["classify", pair, "--data.source=synthetic", "--batch_size=0"])
    for wrong in ("--data.split=all", "--data.augmentation=none"):
        with pytest.raises(SystemExit):
            cli.main(["classify", pair, wrong])


def test_pictures_are_read_as_they_are_needed(scenes: Path) -> None:
    source = build_source("classes", str(scenes), Columns())
    rows = [0, 2, 6, 11]  # the third is the broken one
    pictures = read_pictures(source, "test", rows, max_broken=0.5)
    assert [(row, picture.size) for row, picture in pictures] == [(row, (70, 60)) for row in (0, 2, 11)]
    stored = read_pictures(source, "test", rows, max_broken=0.0, decoded=False)
    assert [Path(file).name for _, file in stored] == ["0.png", "2.png", "2.png", "3.png"]
