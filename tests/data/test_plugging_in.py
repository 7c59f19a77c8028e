"""A stranger's data set, what is imported with the package, and settings that are refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rsretrieval.data import (
    SOURCES,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    RetrievalDataModule,
    Source,
    register_dataset,
)


@register_dataset("harbours")
class Harbours(Source):
    """Images in memory, and how often its methods are called."""

    def __init__(self, path: str, columns: Columns) -> None:
        self.path, self.columns, self.calls = path, columns, list[str]()

    def prepare(self) -> None:
        self.calls.append("prepare")

    def records(self, split: str) -> list[Record]:
        if split == "test":
            raise MissingSplitError("no test split")
        self.calls.append(f"records {split}")
        return [Record(f"pier_{n}.png", (f"pier {n}", "a pier")) for n in range(10)]

    def blocks(self, split: str) -> list[int]:
        return [1] * 10

    def read(self, split: str, block: int) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), (block,) * 3)]


def test_a_strangers_data_set() -> None:
    data = RetrievalDataModule(
        "harbours", "some/where", Columns(image="tile"), image_size=8, batch_size=4, num_workers=0, augmentation="none"
    )
    data.prepare_data()
    data.setup("fit")
    source = data.source
    assert isinstance(source, Harbours)
    assert (source.path, source.columns.image) == ("some/where", "tile")
    assert len(data.train_dataloader()) == 5
    batch = next(iter(data.val_dataloader()))
    assert batch.images[:, 0, 0, 0].tolist() == batch.image_ids.tolist() == list(range(10))
    assert batch.texts[:2] == ["pier 0", "a pier"]


def test_the_source_is_built_and_its_tables_are_read_once() -> None:
    data = RetrievalDataModule("harbours", image_size=8, batch_size=4, num_workers=0)
    data.prepare_data()
    source = data.source
    for _ in range(2):
        data.setup("fit")
        assert len(list(data.train_dataloader())) == 5
        assert len(list(data.val_dataloader())) == 1
    assert data.table("train") is data.table("train")
    assert data.source is source
    assert source.calls == ["prepare", "records train", "records valid"]


def test_a_function_is_a_data_set_too() -> None:
    @register_dataset("quays")
    def quays(path: str, columns: Columns, revision: str | None = None) -> Source:
        source = Harbours(path, columns)
        source.revision = revision or "newest"
        return source

    assert RetrievalDataModule("quays").source.revision == "newest"
    assert RetrievalDataModule("quays", revision="old").source.revision == "old"
    with pytest.raises(DataError, match=r"'harbours' has no revisions: leave out --data.revision \('old'\)"):
        RetrievalDataModule("harbours", revision="old").setup()


def test_names_that_are_taken() -> None:
    assert {"hub", "parquet", "folder", "synthetic", "harbours"} <= set(SOURCES)
    with pytest.raises(ValueError, match="'rsicd' is a data set of the catalogue already"):
        register_dataset("rsicd")
    with pytest.raises(ValueError, match="data source 'hub' is registered already"):
        register_dataset("hub")(Harbours)
    with pytest.raises(DataError, match=r"no data source 'harbour' \(did you mean 'harbours'\?\); possible are"):
        RetrievalDataModule("harbour").setup()


def test_holdout_over_a_validation_split_is_refused() -> None:
    with pytest.raises(DataError, match=r"holdout=0.5 would replace the validation split .*\(10 images\): set --data"):
        RetrievalDataModule("harbours", holdout=0.5).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--data.batch_size 0 is too small: give a whole number, 1 or more"),
        ({"eval_batch_size": -1}, "--data.eval_batch_size -1 is too small"),
        ({"captions_per_image": 0}, "--data.captions_per_image 0 is too small"),
        ({"image_size": 0}, "--data.image_size 0 is too small"),
        ({"eval_image_size": 0}, "--data.eval_image_size 0 is too small"),
        ({"max_words": 0}, "--data.max_words 0 is too small"),
        ({"num_workers": -1}, "--data.num_workers -1 is too small: give a whole number, 0 or more"),
        ({"word_deletion": 1.5}, "--data.word_deletion 1.5 is no fraction: give a number between 0 and 1"),
        ({"max_broken": -0.1}, "--data.max_broken -0.1 is no fraction"),
        ({"holdout": 2.0}, "--data.holdout 2.0 is no fraction"),
        ({"augmentation": "x"}, r"--data.augmentation 'x' is unknown: possible are \['aerial', 'flips'"),
        ({"predict_split": "dev"}, r"--data.predict_split 'dev' is unknown: possible are \['test', 'train', 'valid'\]"),
    ],
)
def test_settings_out_of_bounds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetrievalDataModule(**options)


def test_what_takes_long_to_import_is_imported_where_it_is_used() -> None:
    """So that the catalogue, and the help of preparing, are there at once."""
    program = """
import sys
from jsonargparse import ArgumentParser
import rsretrieval.data, rsretrieval.data.datasets, rsretrieval.data.datasets.registry
from rsretrieval.data.prepare import prepare
parser = ArgumentParser()
parser.add_function_arguments(prepare)
parser.format_help()
rsretrieval.data.datasets.describe_datasets()
print(sorted({"torch", "lightning", "datasets", "pyarrow", "numpy", "PIL", "tqdm"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    from rsretrieval import data

    for name in data.__all__:
        assert getattr(data, name).__name__ == name if name not in ("DATASETS", "SOURCES") else getattr(data, name)
    with pytest.raises(AttributeError, match=r"module 'rsretrieval.data' has no attribute 'Holdout'"):
        _ = data.Holdout


def test_captions_and_values_that_differ_in_number() -> None:
    data = RetrievalDataModule("harbours")
    data.source.records = lambda split: [Record("a.png", ("a pier", "two"), None, (1.0,))]
    with pytest.raises(DataError, match=r"'a.png' has 2 captions and 1 values of captions: give one for each"):
        data.table("train")


def test_files_are_small() -> None:
    """One idea a file."""
    folder = Path(sys.modules["rsretrieval.data"].__file__ or "").parent
    assert all(len(file.read_text().splitlines()) <= 250 for file in folder.rglob("*.py"))
