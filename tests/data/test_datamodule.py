"""The data module on the embedded scenes."""

from collections.abc import Sequence

import pytest

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.rows import DataError, Record


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


def test_caption_values_are_replaceable() -> None:
    def halves(captions: Sequence[str]) -> list[float]:
        return [0.5] * len(captions)

    table = RetrievalDataModule(caption_values=halves).table("valid")
    assert {value for row in table.values for value in row} == {0.5}


def test_empty_captions_are_refused() -> None:
    data = RetrievalDataModule()
    data.table("valid")
    data.source.records = lambda split: [Record("a.png", ("...",)), Record("b.png", ("a pond",))]
    with pytest.raises(DataError, match=r"1 of 2 rows of split 'valid' are broken \(such as \['a.png'\]\): no caption"):
        data.table("valid")
