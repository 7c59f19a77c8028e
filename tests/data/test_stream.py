"""Exactly once an epoch, equal batches on all ranks, deterministic, resumable; sources and their errors."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from rsretrieval.data import (
    Columns,
    DataError,
    MissingSplitError,
    Record,
    RetrievalStream,
    Source,
    Table,
    build_source,
)
from rsretrieval.data.captions import clean, delete_words, length_values
from rsretrieval.data.datasets.holdout import HoldoutSource
from rsretrieval.data.order import training_pairs
from rsretrieval.data.scenes import scene_names, stated_scenes
from rsretrieval.data.transforms import AUGMENTATIONS, evaluation, training
from rsretrieval.types import text_ids


class Blocks(Source):
    """Training rows in blocks; each image's pixels say which row it is."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def records(self, split: str) -> list[Record]:
        if split != "train":
            raise MissingSplitError(split)
        return [Record(f"{row}.png", ("a",)) for row in range(sum(self.sizes))]

    def blocks(self, split: str) -> list[int]:
        return self.sizes

    def read(self, split: str, block: int) -> list[Image.Image]:
        first = sum(self.sizes[:block])
        return [Image.new("RGB", (4, 4), (first + i,) * 3) for i in range(self.sizes[block])]


def table(sizes: list[int]) -> Table:
    rows = range(sum(sizes))
    captions = [[f"row {r} caption {c}" for c in range(1 + r % 3)] for r in rows]
    return Table([f"{r}.png" for r in rows], captions, [[1.0] * len(c) for c in captions], [r % 2 for r in rows], sizes)


def stream(sizes: list[int], batch: int, shard: tuple[int, int] = (0, 1), **options: Any) -> RetrievalStream:
    return RetrievalStream(Blocks(sizes), "train", table(sizes), evaluation(4), batch, shard, **options)


def texts(source: RetrievalStream, workers: int = 0) -> list[list[str]]:
    return [batch.texts for batch in DataLoader(source, batch_size=None, num_workers=workers)]


@pytest.mark.parametrize("sizes", [[1] * 23, [23], [9, 3, 11], [2, 3, 5, 7, 6]])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_caption_exactly_once(sizes: list[int], world: int, workers: int) -> None:
    every = {caption for row in table(sizes).captions for caption in row}
    ranks = [texts(stream(sizes, 4, (r, world), train=True, window=6), workers) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = Counter(t for batches in ranks for batch in batches for t in batch)
    assert set(seen.values()) == {1}
    assert len(every) - len(seen) < 4 * world
    assert set(seen) <= every


@pytest.mark.parametrize("world", [2, 3])
def test_batches_of_all_ranks_are_those_of_one_process(world: int) -> None:
    """Where rows are read one by one; with blocks each rank has a part of the epoch of its own."""
    one = texts(stream([1] * 23, 2 * world, train=True))
    ranks = [texts(stream([1] * 23, 2, (rank, world), train=True)) for rank in range(world)]
    assert [[text for batch in batches for text in batch] for batches in zip(*ranks, strict=True)] == one


def test_text_ids_are_those_of_the_whole_captions() -> None:
    captions = {text: int(text_ids([text])[0]) for row in table([1] * 23).captions for text in row}
    batches = list(stream([1] * 23, 4, train=True, word_deletion=0.9))
    assert not {text for batch in batches for text in batch.texts} & set(captions)  # every one lost a word
    seen = [number for batch in batches for number in batch.text_ids.tolist()]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(captions.values())


@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_sees_every_image_once_with_its_own_captions(world: int) -> None:
    sizes = [9, 3, 11]
    seen: list[int] = []
    for rank in range(world):
        for batch in stream(sizes, 4, (rank, world), train=False):
            seen += batch.image_ids.tolist()
            assert batch.images[:, 0, 0, 0].tolist() == batch.image_ids.tolist()
            assert [int(t.split()[1]) for t in batch.texts] == batch.owners.tolist()
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("skip", [0, 1, 4, 7])
def test_resume_gives_the_rest_of_the_epoch(workers: int, skip: int) -> None:
    whole, rest = stream([9, 3, 11], 4, train=True), stream([9, 3, 11], 4, train=True)
    rest.skip = skip
    assert texts(rest, workers) == texts(whole, workers)[skip:]


def test_epochs_differ_and_seeds_repeat() -> None:
    a, b = stream([23], 4, train=True, seed=1), stream([23], 4, train=True, seed=1)
    assert texts(a) == texts(b)
    b.epoch = 1
    assert texts(a) != texts(b)
    assert texts(a) != texts(stream([23], 4, train=True, seed=2))


def test_one_caption_an_image_takes_turns() -> None:
    pairs = [training_pairs(table([6]), epoch, 0, 1, 8) for epoch in range(3)]
    assert all(sorted(p[:, 0].tolist()) == list(range(6)) for p in pairs)
    assert {tuple(x) for p in pairs for x in p.tolist()} == {(r, c) for r in range(6) for c in range(1 + r % 3)}


def test_too_large_a_batch() -> None:
    with pytest.raises(ValueError, match=r"lower --data\.batch_size"):
        stream([3], 64, train=True)


def test_captions() -> None:
    assert clean("Some-Trees, near  a 'POND' .") == "some trees near a pond"
    assert len(clean("a " * 50).split()) == 30
    torch.manual_seed(0)
    left = [len(delete_words("a b c d e f g h i j", 0.3).split()) for _ in range(500)]
    assert sum(left) / 5000 == pytest.approx(0.7, abs=0.02)
    assert delete_words("plane", 1.0) == "plane"
    assert length_values(["a b", "a b c d e", "a b c d e"]) == [0.95, 1.0, 1.0]


def test_scene_labels_in_their_order() -> None:
    records = [
        Record("x/airport_1.jpg", ("planes on an apron",)),
        Record("harbour_2.jpg", ("ships in water",)),
        Record("00003.jpg", ("two ships",)),
        Record("00004.jpg", ("planes",)),
        Record("00005.jpg", ("pier",), "dock"),
    ]
    captions = [record.captions for record in records]
    labels, names = stated_scenes(records, {"00004.jpg": "apron"}), [record.filename for record in records]
    assert scene_names(labels, names, captions) == ["airport", "harbour", "harbour", "apron", "dock"]
    assert len(set(scene_names([None, None], ["1.jpg", "2.jpg"], [["a"], ["a"]]))) == 2


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_give_images(name: str) -> None:
    image = Image.effect_noise((50, 60), 80).convert("RGB")
    torch.manual_seed(0)
    for _ in range(20):
        out = training(name, 32)(image)
        assert out.shape == (32, 32, 3)
        assert out.dtype == np.uint8
    with pytest.raises(ValueError, match=r"no augmentation 'x'; possible are \['aerial'"):
        training("x", 32)


def test_synthetic_source() -> None:
    source = build_source("synthetic", "", Columns())
    records = [source.records(split) for split in ("train", "valid", "test")]
    assert [len(split) for split in records] == [2400, 300, 300]
    assert len({record.filename for split in records for record in split}) == 3000
    assert source.read("valid", 0)[0].size == (96, 96)


class WithoutValidation(Source):
    """The synthetic scenes as a data set that comes without a validation split."""

    def __init__(self) -> None:
        self.scenes = build_source("synthetic", "", Columns())

    def records(self, split: str) -> list[Record]:
        if split == "valid":
            raise MissingSplitError(split)
        return self.scenes.records(split)

    def read(self, split: str, block: int) -> Sequence[object]:
        return self.scenes.read(split, block)


def test_holdout_takes_validation_out_of_training() -> None:
    source = WithoutValidation()
    split = HoldoutSource(source, 0.2, seed=0)
    train, valid = split.records("train"), split.records("valid")
    assert len(valid) == 480
    assert sorted(train + valid) == sorted(source.records("train"))
    assert split.records("test") == source.records("test")
    row = source.records("train").index(valid[7])
    assert split.read("valid", 7)[0].tobytes() == source.read("train", row)[0].tobytes()
    with pytest.raises(DataError, match="number between 0 and 1"):
        HoldoutSource(source, 2, seed=0)
    with pytest.raises(
        DataError, match=r"holdout=0.2 would replace the validation split that the data set has \(300 images\): set"
    ):
        HoldoutSource(source.scenes, 0.2)


def test_holdout_out_of_blocks() -> None:
    split = HoldoutSource(Blocks([3, 1, 4]), 0.4, seed=0)
    seen = []
    for name in ("train", "valid"):
        names = [record.filename for record in split.records(name)]
        sizes = split.blocks(name)
        images = [image for block in range(len(sizes)) for image in split.read(name, block)]
        assert 0 not in sizes
        assert len(images) == sum(sizes) == len(names)
        assert [f"{image.getpixel((0, 0))[0]}.png" for image in images] == names
        seen += names
    assert sorted(seen) == [f"{row}.png" for row in range(8)]
