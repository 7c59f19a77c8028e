"""Evaluation on less than all: what cannot be read is counted over all processes; a figure of a part says so."""

import logging
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import torch
from lightning import Trainer
from PIL import Image

from rsretrieval import RetrievalDataModule, RetrievalModule, TowerConfig
from rsretrieval.data import BrokenRowError, Columns, DataError, Record, RetrievalStream, Source, register_dataset
from rsretrieval.data.table import build_table
from rsretrieval.data.transforms import evaluation
from rsretrieval.training import Stage
from rsretrieval.training.callbacks import EmbeddingWriter, RetrievalReport, ValueGuidedLearning

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


@register_dataset("broken ponds")
class BrokenPonds(Source):
    """``path`` says how many rows there are, and which of them cannot be read: ``40:3,4``."""

    def __init__(self, path: str, columns: Columns) -> None:
        rows, _, broken = path.partition(":")
        self.rows, self.broken = int(rows), {int(row) for row in broken.split(",") if row}

    def records(self, split: str) -> list[Record]:
        return [Record(f"pond_{n}.png", (f"pond {n}", f"water {n}")) for n in range(self.rows)]

    def read(self, split: str, block: int) -> list[Image.Image]:
        if block in self.broken:
            raise BrokenRowError(f"there is no file 'pond_{block}.png'")
        return [Image.new("RGB", (8, 8), (5 * block % 256, 90, 60))]


def data(path: str, **options: Any) -> RetrievalDataModule:
    settings = {"image_size": 64, "batch_size": 4, "eval_batch_size": 4, "num_workers": 0, "augmentation": "none"}
    return RetrievalDataModule("broken ponds", path, **settings | options)


def module(clip: str) -> RetrievalModule:
    torch.manual_seed(0)
    return tiny.module(TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", clip))


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    settings = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": folder,
        "callbacks": [ValueGuidedLearning([Stage(0, {"contrastive": 1})]), RetrievalReport(0), *callbacks],
    }  # fmt: skip
    return Trainer(**settings | options)


TWO = {"devices": 2, "strategy": "ddp_fork"}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_which_nothing_can_be_read_are_named_in_the_next_one(workers: int) -> None:
    broken = {4, 5, 6, 7, 17, 36, 37, 38, 39}
    source = data(f"40:{','.join(map(str, broken))}", max_broken=0.5, num_workers=workers)
    loader = source.val_dataloader()
    batches = list(loader)
    skipped = [name for batch in batches for name in batch.skipped]
    assert sorted(skipped) == sorted(f"pond_{row}.png" for row in broken)
    assert Counter(row for batch in batches for row in batch.image_ids.tolist()) == Counter(set(range(40)) - broken)
    assert loader.unreadable["pond_36.png"] == "there is no file 'pond_36.png'"
    last = next(batch for batch in batches if not len(batch.images))
    assert last.images.shape == (0, 3, 64, 64)
    assert last.texts == []
    assert last.image_ids.shape == last.owners.shape == last.text_ids.shape == (0,)
    assert {row for batch in batches if len(batch.images) for row in batch.owners.tolist()} == set(range(40)) - broken


def test_the_loader_stops_early_with_the_first_reason() -> None:
    with pytest.raises(
        DataError,
        match=r"9 of 40 rows of split 'valid' are broken \(such as \['pond_4.png'.*there is no file 'pond_4.png'. More",
    ):
        list(data("40:4,5,6,7,8,9,10,11,12", max_broken=0.1).val_dataloader())
    with pytest.raises(DataError, match=r"batch 0 of split 'train' can be read. The first, 'pond_\d.png': there is no"):
        list(data("8:0,1,2,3,4,5,6,7").train_dataloader())


def test_every_image_missing_is_an_error_of_the_data(tmp_path: Path, tiny_clip: str) -> None:
    everything = "8:" + ",".join(map(str, range(8)))
    with pytest.raises(DataError, match=r"8 of 8 rows of split 'valid' are broken.*there is no file 'pond_0.png'"):
        trainer(tmp_path).validate(module(tiny_clip), data(everything), verbose=False)
    with pytest.raises(DataError, match=r"no image of split 'test' was evaluated. The first: there is no file 'pond_0"):
        trainer(tmp_path).test(module(tiny_clip), data(everything, max_broken=1.0), verbose=False)


@pytest.mark.parametrize("processes", [{}, TWO], ids=["alone", "on two processes"])
def test_figures_and_counts_are_of_what_can_be_read(
    processes: dict[str, Any], tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The second process can read nothing."""
    broken = data("16:1," + ",".join(map(str, range(8, 16))), max_broken=0.6)
    runner = trainer(tmp_path, **processes)
    caplog.set_level(logging.INFO)
    figures = runner.validate(module(tiny_clip), broken, verbose=False)[0]
    assert figures["val/skipped"] == 9
    whole = trainer(tmp_path).validate(module(tiny_clip), data("8:1", max_broken=0.6), verbose=False)[0]
    assert {**figures, "val/skipped": 1} == pytest.approx(whole)
    if not processes:
        note = "on 7 of the 16 images of split 'valid' (9 cannot be read)"
        assert f"figures {note}" in caplog.text
        assert f"\n{note}" in caplog.text  # below the table
    runner = trainer(tmp_path, **processes)
    assert runner.test(module(tiny_clip), broken, verbose=False)[0]["test/skipped"] == 9


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_the_fraction_is_that_of_all_processes(call: str, tmp_path: Path, tiny_clip: str) -> None:
    """One row on each process is one in twenty, and together they are too many."""
    part = data("20:1,11", max_broken=0.06)
    with pytest.raises(
        Exception, match=r"2 of 20 rows of split '\w+' are broken \(such as \['pond_1.png', 'pond_11.png'\]"
    ):
        getattr(trainer(tmp_path, **TWO), call)(module(tiny_clip), part)
    assert not list(tmp_path.glob("embeddings*"))
    getattr(trainer(tmp_path), call)(module(tiny_clip), data("20:1", max_broken=0.06))


def test_skipped_rows_of_training_are_added_up_over_processes(tmp_path: Path, tiny_clip: str) -> None:
    """All of them are seen in an epoch; a row without a caption counts once."""
    part = data("16:1,2", max_broken=0.2, captions_per_image=1, batch_size=4)
    runner = trainer(tmp_path, max_epochs=1, limit_val_batches=0, **TWO)
    runner.fit(module(tiny_clip), part)
    assert runner.callback_metrics["data/skipped"] == 2


@pytest.mark.parametrize(
    ("call", "limit", "note"),
    [
        ("validate", {"limit_val_batches": 2}, "figures on 8 of the 20 images of split 'valid' (12 left out by the"),
        ("test", {"limit_test_batches": 0.4}, "figures on 8 of the 20 images of split 'test' (12 left out by the"),
        ("test", {"fast_dev_run": True}, "figures on 4 of the 20 images of split 'test' (16 left out by the"),
        ("predict", {"limit_predict_batches": 1}, "embeddings on 4 of the 20 images of split 'valid' (16 left out by"),
        ("fit", {"limit_val_batches": 1, "max_epochs": 1}, "figures on 4 of the 20 images of split 'valid'"),
        ("validate", {}, ""),
    ],
)
def test_a_part_is_called_a_part(
    call: str, limit: dict[str, Any], note: str, tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    getattr(trainer(tmp_path, **limit), call)(module(tiny_clip), data("20"))
    if not note:
        assert "20 images" not in caplog.text
        return
    assert note in caplog.text
    tables = [message for message in caplog.messages if "i2t_R@1" in message]
    assert all(table.splitlines()[-1].startswith(note.removeprefix("figures ")) for table in tables)
    assert len(tables) == (call != "predict")


@pytest.mark.parametrize("processes", [{}, TWO], ids=["alone", "on two processes"])
def test_embeddings_of_what_can_be_read(
    processes: dict[str, Any], tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The second of two processes has no row to write."""
    broken = data("8:2,4,5,6,7", max_broken=1.0)
    trainer(tmp_path, EmbeddingWriter(), **processes).predict(module(tiny_clip), broken, return_predictions=False)
    files = sorted(tmp_path.glob("embeddings-*.parquet"))
    tables = [pq.read_table(file) for file in files]
    assert len(files) == (2 if processes else 1)
    assert [name for table in tables for name in table["filename"].to_pylist()] == [
        "pond_0.png",
        "pond_1.png",
        "pond_3.png",
    ]
    assert len(datasets.Dataset.from_parquet([str(file) for file in files])) == 3
    alone = module(tiny_clip).eval()
    image = next(iter(broken.predict_dataloader())).images[:1]
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(tables[0]["embedding"][0].as_py()), alone.model.encode_image(image)[0], atol=1e-5, rtol=0
        )
    if not processes:
        assert "embeddings on 3 of the 8 images of split 'valid' (5 cannot be read)" in caplog.text
        assert "no embedding of 'pond_7.png': there is no file 'pond_7.png'" in caplog.text


def test_fewer_images_than_processes(tmp_path: Path, tiny_clip: str) -> None:
    for call, message in (
        (
            "fit",
            r"split 'train' \(1 images with captions\) does not fill one batch of 4 on each of 2 processes: lower",
        ),
        (
            "validate",
            r"split 'valid' has 1 images with captions, fewer than there are processes \(2\): give it more, or use",
        ),
        ("predict", r"split 'valid' has 1 images, fewer than there are processes \(2\)"),
    ):
        with pytest.raises(Exception, match=message):
            getattr(trainer(tmp_path, max_epochs=1, **TWO), call)(module(tiny_clip), data("1"))
    with pytest.raises(DataError, match="split 'valid' has 0 images with captions"):
        data("0").val_dataloader()


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "captions_per_image", "image_size", "max_words"])
def test_zero_sizes(name: str) -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match=rf"--data\.{name} {size} is too small: give a whole number, 1 or more"):
            RetrievalDataModule(**{name: size})


class Rows(list):  # type: ignore[type-arg]
    """A block that can be watched."""

    __hash__ = object.__hash__


class Watched(Source):
    """Counts how often each block is read, and how many rows are in memory."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.reads = sizes, Counter[int]()
        self.alive: weakref.WeakSet[Rows] = weakref.WeakSet()
        self.peak = 0

    def records(self, split: str) -> list[Record]:
        return [Record(f"{n}.png", ("a",)) for n in range(sum(self.sizes))]

    def blocks(self, split: str) -> list[int]:
        return self.sizes

    def read(self, split: str, block: int) -> Rows:
        self.reads[block] += 1
        rows = Rows([Image.new("RGB", (1, 1))] * self.sizes[block])
        self.alive.add(rows)
        self.peak = max(self.peak, sum(map(len, self.alive)))
        return rows


@pytest.mark.parametrize("sizes", [[100] * 60 + [1], [1] + [100] * 60, [7, 300, 2, 90] * 15, [50] * 120])
@pytest.mark.parametrize("train", [True, False])
def test_blocks_in_memory_are_counted_in_rows(sizes: list[int], train: bool) -> None:
    """One short block keeps no split in memory, and each block is read once."""
    source, window = Watched(sizes), 256
    stream = RetrievalStream(
        source, "train", build_table(source, "train"), evaluation(1), 64, train=train, window=window
    )
    for _ in stream:
        pass
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == len(sizes)
    assert source.peak <= (2 * window + 3 * max(sizes) if train else 2 * max(sizes)) < sum(sizes) / 2
