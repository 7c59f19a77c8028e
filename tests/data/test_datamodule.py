"""The data module on the embedded scenes."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rsretrieval.data import DataError, Record, RetrievalDataModule


def test_loaders_and_their_lengths() -> None:
    data = RetrievalDataModule(image_size=32, batch_size=40, num_workers=0, captions_per_image=1, augmentation="none")
    loader = data.train_dataloader()
    assert len(loader) == 2400 // 40
    batch = next(iter(loader))
    assert batch.images.shape == (40, 3, 32, 32)
    assert batch.owners.equal(batch.image_ids)
    valid = next(iter(data.val_dataloader()))
    assert len(valid.texts) == 5 * 64
    assert {round(value, 2) for value in valid.caption_values.tolist()} <= {0.95, 1.0}


@pytest.mark.parametrize("train", [True, False])
def test_batches_stay_what_they_were_while_workers_go_on(train: bool) -> None:
    """Workers write to the same memory again and again; who keeps batches must not notice."""
    loaders = []
    for workers in (0, 2):
        data = RetrievalDataModule(image_size=32, batch_size=64, num_workers=workers, captions_per_image=1)
        data.source.sizes = {"train": 960, "valid": 300}
        loaders.append(list(data.train_dataloader() if train else data.val_dataloader()))
    assert len(loaders[0]) == len(loaders[1]) > 4
    by_row: dict[int, torch.Tensor] = {}
    for batch in loaders[0]:
        by_row.update(zip(batch.image_ids.tolist(), batch.images, strict=True))
    for batch in loaders[1]:
        assert batch.images.dtype == torch.uint8
        for row, image in zip(batch.image_ids.tolist(), batch.images, strict=True):
            assert image.equal(by_row[row])


def test_caption_values_are_replaceable() -> None:
    def halves(captions: Sequence[str]) -> list[float]:
        return [0.5] * len(captions)

    table = RetrievalDataModule(caption_values=halves).table("valid")
    assert {value for row in table.values for value in row} == {0.5}


def test_empty_captions_are_refused() -> None:
    data = RetrievalDataModule()
    data.source.records = lambda split: [Record("a.png", ("...",)), Record("b.png", ("a pond",))]
    with pytest.raises(DataError, match=r"1 of 2 rows of split 'valid' are broken \(such as \['a.png'\]\): no caption"):
        data.table("valid")


def write(folder: Path, broken_images: set[int], captions: dict[int, list[str | None] | None]) -> None:
    """200 training rows, of which some cannot be used."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    whole = buffer.getvalue()
    columns = {
        "filename": [f"pond_{n}.png" for n in range(200)],
        "captions": [captions.get(n, [f"pond {n}"]) for n in range(200)],
        "image": [{"bytes": whole[:40] if n in broken_images else whole, "path": None} for n in range(200)],
    }
    features = datasets.Features(
        {
            "filename": datasets.Value("string"),
            "captions": datasets.List(datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    for split in ("train", "valid"):
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def parquet(folder: Path, **options: object) -> RetrievalDataModule:
    return RetrievalDataModule(
        "parquet", str(folder), image_size=8, batch_size=10, num_workers=0, augmentation="none", **options
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_rows_are_left_out_counted_and_named_once(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {7}, {3: ["...", None, "a pond"], 5: None})
    data = parquet(tmp_path, word_deletion=0.0)
    data.num_workers = workers
    for loader in (data.train_dataloader(), data.val_dataloader()):
        caplog.clear()
        batches = [batch for _ in range(2) for batch in loader]
        rows = [row for batch in batches[: len(batches) // 2] for row in batch.image_ids.tolist()]
        assert len(rows) == len(set(rows))
        assert {5, 7}.isdisjoint(rows)
        assert all(len(batch.images) == len(batch.image_ids) for batch in batches)
        assert {name for batch in batches for name in batch.skipped} == {"pond_5.png", "pond_7.png"}
        assert [caplog.text.count(f"row 'pond_{n}.png' is broken") for n in (5, 7)] == [1, 1]
    assert [text for batch in data.val_dataloader() for text in batch.texts][3] == "a pond"
    assert len({row for batch in data.val_dataloader() for row in batch.image_ids.tolist()}) == 198


def test_too_many_broken_rows_stop_the_run(tmp_path: Path) -> None:
    write(tmp_path, {1, 2, 3}, {})
    with pytest.raises(
        DataError, match=r"3 of 200 rows of split 'valid' are broken \(such as \['pond_1.png'.*More than 1%"
    ):
        list(parquet(tmp_path).val_dataloader())
    assert len(list(parquet(tmp_path, max_broken=0.02).val_dataloader())) == 4


def test_workers_that_are_not_forked_open_the_files_themselves(tmp_path: Path) -> None:
    """As on macOS and Windows; after rows were read here, where mapped pages are given back now and then.

    They stay from epoch to epoch, and learn of the next one.
    """
    write(tmp_path, set(), {})
    stream = parquet(tmp_path).stream("train", train=True)
    loader = DataLoader(
        stream, batch_size=None, num_workers=1, multiprocessing_context="spawn", persistent_workers=True
    )
    for epoch in (0, 1):
        stream.epoch = epoch
        expected = [list(stream) for _ in range(3)][-1]
        batches = list(loader)
        assert len(expected) == len(batches) == 20
        for batch, of_worker in zip(expected, batches, strict=True):
            assert batch.image_ids.equal(of_worker.image_ids)
            assert batch.images.equal(of_worker.images)
