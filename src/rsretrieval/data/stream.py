"""Batches of one process: which samples an epoch holds and in which order is a pure function of seed and epoch.

Every training caption is used exactly once an epoch, up to the dropped last batch; every rank gets the same number of
batches. Rows of one block stay near each other, so that a stream reads a block about once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rsretrieval.data.captions import delete_words
from rsretrieval.data.randaugment import Array
from rsretrieval.data.rows import BrokenRowError, DataError, Source, decode
from rsretrieval.data.transforms import Transform
from rsretrieval.types import Batch, text_ids

Ints = NDArray[np.int64]
Read = Callable[[str, int], Sequence[object]]


@dataclass
class Table:
    """The text side of a split, ready for training: one entry a row.

    Attributes:
        names: file name of each row.
        captions: cleaned captions of each row.
        values: value of each caption.
        scenes: scene class of each row, an index into ``scene_names``.
        blocks: rows of each block of the source.
        scene_names: every scene class.
        broken: names of rows without a caption; they are left out.
    """

    names: list[str]
    captions: list[list[str]]
    values: list[list[float]]
    scenes: list[int]
    blocks: list[int]
    scene_names: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def training_pairs(
    table: Table, epoch: int, seed: int, per_image: int | None, window: int, *, shuffle: bool = True
) -> Ints:
    """``(P, 2)`` row and caption of every sample of an epoch, in its order.

    Args:
        table: the split.
        epoch: counted from 0.
        seed: of the order.
        per_image: captions of each image this epoch, taking turns over the epochs; None for all.
        window: rows that are shuffled together where blocks hold several rows.
        shuffle: False keeps the source's order.
    """
    counts = np.array([len(captions) for captions in table.captions])
    rng = np.random.default_rng([seed, epoch])
    if per_image is None:
        rows = np.repeat(np.arange(len(counts)), counts)
        captions = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    else:
        start = np.random.default_rng(seed).integers(0, np.maximum(counts, 1))
        rows = np.repeat(np.arange(len(counts)), np.minimum(per_image, counts))
        turn = np.concatenate([np.arange(min(per_image, count)) for count in counts])
        captions = (start[rows] + epoch * per_image + turn) % counts[rows]
    blocks = np.array(table.blocks)
    if not shuffle:
        order = np.arange(len(rows))
    elif (blocks == 1).all():
        order = rng.permutation(len(rows))
    else:
        shuffled = rng.permutation(len(blocks))
        group = np.empty(len(blocks), np.int64)
        group[shuffled] = (np.cumsum(blocks[shuffled]) - blocks[shuffled]) // window
        order = np.lexsort((rng.random(len(rows)), np.repeat(group, blocks)[rows]))
    return np.stack([rows, captions], axis=1)[order]


def stack(images: Sequence[Array], out: Tensor | None = None) -> Tensor:
    """Equal arrays ``(H, W, 3)`` to ``(B, 3, H, W)``, channels last in memory as convolutions like it.

    Args:
        images: the arrays.
        out: ``(B, H, W, 3)`` uint8 to write to; None for new memory.
    """
    if out is None:
        out = torch.empty((len(images), *images[0].shape), dtype=torch.uint8)
    np.stack(images, out=out.numpy())
    return out.permute(0, 3, 1, 2)


class RetrievalStream(IterableDataset[Batch]):
    """Sized stream of a rank's batches.

    Args:
        source: where the images are.
        split: ``train``, ``valid`` or ``test``.
        table: the split's text side.
        transform: of an image.
        batch_size: of this rank.
        shard: this rank and the number of ranks.
        train: pairs in epoch's order, equal numbers of full batches; otherwise every row once with all its captions.
        seed: of order and augmentation.
        word_deletion: probability of each word in training.
        captions_per_image: see :func:`training_pairs`.
        window: see :func:`training_pairs`.
        shuffle: see :func:`training_pairs`.
    """

    def __init__(
        self,
        source: Source,
        split: str,
        table: Table,
        transform: Transform,
        batch_size: int,
        shard: tuple[int, int] = (0, 1),
        *,
        train: bool,
        seed: int = 0,
        word_deletion: float = 0.0,
        captions_per_image: int | None = None,
        window: int = 1024,
        shuffle: bool = True,
    ) -> None:
        self.source, self.split, self.table, self.transform = source, split, table, transform
        self.batch_size, self.shard, self.train, self.seed = batch_size, shard, train, seed
        self.word_deletion, self.captions_per_image, self.window = word_deletion, captions_per_image, window
        self.shuffle = shuffle
        self.epoch, self.skip = 0, 0
        # Set by a loader that copies a batch before it asks for the one that is `slots` further on: a worker then
        # writes to the same shared memory over and over; new memory for a batch takes as long as decoding its images.
        self.slots, self._ring = 0, list[Tensor]()
        self._ends = np.cumsum(table.blocks)
        # Enough blocks for two windows, where the batches of a worker pass from one to the next.
        self._kept = 1 if max(table.blocks, default=1) == 1 else 2 * (1 + window // max(min(table.blocks), 1))
        if train and not len(self):
            raise ValueError(
                f"split '{split}' does not fill one batch of {batch_size} on each of {shard[1]} processes: "
                "lower --data.batch_size"
            )

    def __len__(self) -> int:
        return len(self.batches(self.epoch))

    def batches(self, epoch: int) -> list[Ints]:
        """Row and caption (training) or row alone (evaluation) of each batch of this rank."""
        rank, world = self.shard
        if self.train:
            pairs = training_pairs(
                self.table, epoch, self.seed, self.captions_per_image, self.window, shuffle=self.shuffle
            )
            count = len(pairs) // (self.batch_size * world)
            mine = pairs[: count * self.batch_size * world].reshape(world, count, self.batch_size, 2)[rank]
            return list(mine)
        described = np.flatnonzero([len(captions) for captions in self.table.captions])
        rows = np.array_split(described, world)[rank]
        return [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]

    def __iter__(self) -> Iterator[Batch]:
        batches = self.batches(self.epoch)
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        # After a resume the loader's first worker goes on where the interrupted run's turn was.
        lane = ((worker.id if worker else 0) + self.skip) % workers
        numbers = np.array_split(np.arange(len(batches)), workers)[lane]
        done = max(0, -(-(self.skip - lane) // workers))
        read = lru_cache(maxsize=self._kept)(self.source.read)
        for number in numbers[done:]:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, self.epoch, self.shard[0], int(number))) % 2**63)
                batch = self._batch(batches[number], read)
            if batch is None and self.train:
                raise DataError(f"no row of batch {number} of split '{self.split}' can be read: mend the data")
            if batch is not None:
                yield batch._replace(skipped=batch.skipped + self.table.broken) if number == 0 else batch

    def image(self, row: int, read: Read | None = None) -> Image.Image:
        """The image of a row, as it is.

        Raises:
            BrokenRowError: if it cannot be decoded.
        """
        return decode(self.encoded(row, read), self.table.names[row])

    def encoded(self, row: int, read: Read | None = None) -> object:
        """What the source gives for the image of a row, in one of the forms that ``decode`` takes."""
        block = int(np.searchsorted(self._ends, row, side="right"))
        images = (read or self.source.read)(self.split, block)
        return images[row - int(self._ends[block]) + self.table.blocks[block]]

    def _slot(self, images: Sequence[Array]) -> Tensor | None:
        """The next piece of shared memory for a batch, in a worker of a loader that empties it in time."""
        if not self.slots or get_worker_info() is None:
            return None
        if not self._ring:
            shape = (self.batch_size, *images[0].shape)
            self._ring = [torch.empty(shape, dtype=torch.uint8) for _ in range(self.slots)]
            for piece in self._ring:
                piece.share_memory_()  # type: ignore[no-untyped-call]
        self._ring.append(self._ring.pop(0))
        return self._ring[-1][: len(images)]

    def _batch(self, plan: Ints, read: Read) -> Batch | None:
        """The planned rows that can be read, in evaluation with all their captions; None if there are none."""
        images, kept, skipped = [], [], []
        for entry in plan.tolist():
            row = entry[0] if self.train else entry
            try:
                images.append(self.transform(self.image(row, read)))
                kept.append(entry)
            except BrokenRowError:
                skipped.append(self.table.names[row])
        if not images:
            return None
        rows = [row for row, _ in kept] if self.train else kept
        pick = kept if self.train else [(row, c) for row in rows for c in range(len(self.table.captions[row]))]
        texts = [self.table.captions[r][c] for r, c in pick]
        return Batch(
            images=stack(images, self._slot(images)),
            image_ids=torch.tensor(rows),
            texts=[delete_words(text, self.word_deletion) for text in texts] if self.train else texts,
            text_ids=text_ids(texts),
            owners=torch.tensor([r for r, _ in pick]),
            scenes=torch.tensor([self.table.scenes[r] for r, _ in pick]),
            caption_values=torch.tensor([self.table.values[r][c] for r, c in pick]),
            skipped=skipped,
        )
