"""Batches of one process, of a split.

Their order is in :mod:`rsretrieval.data.order`; what is random in a batch follows from seed, epoch, rank and the
batch's number, whichever worker makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rsretrieval.data.buffers import BufferRing
from rsretrieval.data.collate import Collate, Sample
from rsretrieval.data.datasets.base import BrokenRowError, DataError, Source
from rsretrieval.data.datasets.ragged import Ints
from rsretrieval.data.order import (
    evaluation_batches,
    has_blocks,
    training_batches,
    training_length,
    training_pairs,
)
from rsretrieval.data.reader import ImageReader
from rsretrieval.data.table import Table
from rsretrieval.data.transforms import Transform
from rsretrieval.images import Rendering
from rsretrieval.types import Batch, Tokenizer


class Unreadable(NamedTuple):
    """A row that cannot be read."""

    name: str
    reason: str


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
        captions_per_image: see :func:`rsretrieval.data.order.training_pairs`.
        window: see :func:`rsretrieval.data.order.training_pairs`.
        shuffle: see :func:`rsretrieval.data.order.training_pairs`.
        tokenizer: see :class:`rsretrieval.data.collate.Collate`.
        rendering: see :class:`rsretrieval.data.reader.ImageReader`.

    Raises:
        DataError: if a training split does not fill one batch on each rank, or another has fewer images than ranks.
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
        tokenizer: Tokenizer | None = None,
        rendering: Rendering | None = None,
    ) -> None:
        self.source, self.split, self.table, self.transform = source, split, table, transform
        self.batch_size, self.shard, self.train, self.seed = batch_size, shard, train, seed
        self.captions_per_image, self.window, self.shuffle = captions_per_image, window, shuffle
        self.collate = Collate(table, word_deletion if train else None, tokenizer, image_keys=not train)
        self.rendering = rendering
        self.buffers = 0
        """Set by a loader that copies a batch in time, see :class:`BufferRing`; 0 for new memory for each batch."""
        self._ring: BufferRing | None = None
        self._layout: tuple[int, list[Ints]] | None = None  # of the epoch that was asked for last
        # Shared with workers, forked or not, that stay from epoch to epoch.
        self._position = torch.zeros(2, dtype=torch.int64)
        self._position.share_memory_()  # type: ignore[no-untyped-call]
        self._check_size()

    @property
    def epoch(self) -> int:
        """The epoch that an iteration gives, counted from 0."""
        return int(self._position[0])

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._position[0] = epoch

    @property
    def skip(self) -> int:
        """Batches of the epoch that an iteration leaves out at its start."""
        return int(self._position[1])

    @skip.setter
    def skip(self, skip: int) -> None:
        self._position[1] = skip

    def _check_size(self) -> None:
        """Every process needs a batch."""
        images, world = len(self.table.evaluated), self.shard[1]
        which = " with captions" if self.table.needs_captions else ""
        fewer = "" if world == 1 else ", or use fewer processes (--trainer.devices, --trainer.num_nodes)"
        if self.train and not len(self):
            raise DataError(
                f"split '{self.split}' ({images} images{which}) does not fill one batch of {self.batch_size} on "
                f"each of {world} processes: lower --data.batch_size{fewer}"
            )
        if not self.train and images < world:
            raise DataError(
                f"split '{self.split}' has {images} images{which}, fewer than there are processes ({world}): "
                f"give it more{fewer}"
            )

    def __len__(self) -> int:
        if self.train:
            return training_length(self.table, self.captions_per_image, self.batch_size, self.shard[1])
        return len(self.batches(0))

    def batches(self, epoch: int) -> list[Ints]:
        """Of each batch of this rank, rows and caption numbers ``(B, 2)`` in training, rows ``(B,)`` in evaluation."""
        epoch = epoch if self.train else 0
        if self._layout is None or self._layout[0] != epoch:
            self._layout = epoch, self._lay_out(epoch)
        return self._layout[1]

    def _lay_out(self, epoch: int) -> list[Ints]:
        if not self.train:
            return evaluation_batches(self.table, self.batch_size, self.shard)
        pairs = training_pairs(self.table, epoch, self.seed, self.captions_per_image, self.window, shuffle=self.shuffle)
        return training_batches(pairs, self.batch_size, self.shard, take_turns=not has_blocks(self.table))

    def __iter__(self) -> Iterator[Batch]:
        """This worker's part of the batches.

        In evaluation rows that cannot be read are named in the next batch that has others, and where there is none in
        a last one without images.

        Raises:
            DataError: if no row of a training batch can be read.
        """
        epoch = self.epoch  # it may change while batches are on their way
        batches = self.batches(epoch)
        reader = self._reader(self._cached_rows())
        unreadable: list[Unreadable] = []
        for number in self._numbers(len(batches)):
            if number == 0 and self.shard[0] == 0:
                unreadable += [Unreadable(name, "no caption with a word in it") for name in self.table.broken]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, epoch, self.shard[0], number)) % 2**63)
                batch = self._batch(batches[number], reader, unreadable)
            if batch is None and self.train:
                first = unreadable[-len(batches[number])]
                raise DataError(
                    f"no row of batch {number} of split '{self.split}' can be read. The first, '{first.name}': "
                    f"{first.reason}. Fix or remove these rows"
                )
            if batch is not None:
                yield _naming(batch, unreadable)
                unreadable = []
        if unreadable:
            yield _naming(self._without_images(), unreadable)

    def _numbers(self, count: int) -> Sequence[int]:
        """Which of ``count`` batches this worker makes, after those to skip, so that workers who take turns are right.

        By turns; where blocks hold several rows one part of the epoch in its order, so that none reads another's
        blocks.
        """
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        number = worker.id if worker else 0
        if not has_blocks(self.table):
            return range(self.skip + number, count, workers)
        # After a resume the loader's first worker goes on where the interrupted run's turn was.
        lane = (number + self.skip) % workers
        done = max(0, -(-(self.skip - lane) // workers))
        quotient, remainder = divmod(count, workers)
        first = lane * quotient + min(lane, remainder)
        return range(first + done, first + quotient + (lane < remainder))

    def _cached_rows(self) -> int:
        """Enough for two windows, whose rows the batches of a worker mix; in the source's order one block is enough."""
        largest = max(self.table.blocks, default=1)
        mixed = self.train and self.shuffle and has_blocks(self.table)
        return 2 * (self.window + largest) if mixed else largest

    def _reader(self, cached_rows: int = 1) -> ImageReader:
        return ImageReader(self.source, self.split, self.table, cached_rows, self.rendering)

    def image(self, row: int) -> Image.Image:
        """See :meth:`ImageReader.image`."""
        return self._reader().image(row)

    def encoded(self, row: int) -> object:
        """See :meth:`ImageReader.encoded`."""
        return self._reader().encoded(row)

    def _buffer(self, samples: Sequence[Sample]) -> Tensor | None:
        """Shared memory for the images, in a worker of a loader that copies them in time."""
        if not self.buffers or get_worker_info() is None:
            return None
        if self._ring is None:
            self._ring = BufferRing(self.buffers, (self.batch_size, *samples[0].image.shape))
        return self._ring.next(len(samples))

    def _batch(self, plan: Ints, reader: ImageReader, unreadable: list[Unreadable]) -> Batch | None:
        """The planned rows that can be read, in evaluation with all their captions; None if there are none.

        The others are added to ``unreadable``.
        """
        samples: list[Sample] = []
        for entry in plan.tolist():
            row = entry[0] if self.train else entry
            caption_numbers = entry[1:] if self.train else range(len(self.table.captions[row]))
            try:
                samples.append(Sample(self.transform(reader.image(row)), row, caption_numbers))
            except BrokenRowError as error:
                unreadable.append(Unreadable(self.table.names[row], str(error)))
        return self.collate(samples, buffer=self._buffer(samples)) if samples else None

    def _without_images(self) -> Batch:
        height, width, channels = self.transform(Image.new("RGB", (8, 8))).shape
        none = torch.zeros(0, dtype=torch.int64)
        images = torch.zeros(0, channels, height, width, dtype=torch.uint8)
        return Batch(images, none, [], none, none, none, torch.zeros(0))


def _naming(batch: Batch, unreadable: Sequence[Unreadable]) -> Batch:
    names, reasons = ([row[field] for row in unreadable] for field in (0, 1))
    return batch._replace(skipped=names, reasons=reasons)
