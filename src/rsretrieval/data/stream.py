"""Batches of one process, of a split.

Their order is in :mod:`rsretrieval.data.order`; what is random in a batch follows from seed, epoch, rank and the
batch's number, whichever worker makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from rsretrieval.data.buffers import BufferRing
from rsretrieval.data.collate import Collate, Sample
from rsretrieval.data.datasets.base import BrokenRowError, DataError, Source
from rsretrieval.data.order import (
    Ints,
    evaluation_batches,
    training_batches,
    training_length,
    training_pairs,
)
from rsretrieval.data.reader import ImageReader
from rsretrieval.data.table import Table
from rsretrieval.data.transforms import Transform
from rsretrieval.types import Batch, Tokenizer

if TYPE_CHECKING:
    from PIL import Image


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

    Raises:
        ValueError: if a training split does not fill one batch on each rank.
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
    ) -> None:
        self.source, self.split, self.table, self.transform = source, split, table, transform
        self.batch_size, self.shard, self.train, self.seed = batch_size, shard, train, seed
        self.captions_per_image, self.window, self.shuffle = captions_per_image, window, shuffle
        self.collate = Collate(table, word_deletion if train else None, tokenizer)
        self.buffers = 0
        """Set by a loader that copies a batch in time, see :class:`BufferRing`; 0 for new memory for each batch."""
        self._ring: BufferRing | None = None
        # Shared with workers, forked or not, that stay from epoch to epoch.
        self._position = torch.zeros(2, dtype=torch.int64)
        self._position.share_memory_()  # type: ignore[no-untyped-call]
        if train and not len(self):
            raise ValueError(
                f"split '{split}' does not fill one batch of {batch_size} on each of {shard[1]} processes: "
                "lower --data.batch_size"
            )

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

    def __len__(self) -> int:
        if self.train:
            return training_length(self.table, self.captions_per_image, self.batch_size, self.shard[1])
        return len(self.batches(0))

    def batches(self, epoch: int) -> list[Ints]:
        """Of each batch of this rank, rows and caption numbers ``(B, 2)`` in training, rows ``(B,)`` in evaluation."""
        if not self.train:
            return evaluation_batches(self.table, self.batch_size, self.shard)
        pairs = training_pairs(self.table, epoch, self.seed, self.captions_per_image, self.window, shuffle=self.shuffle)
        return training_batches(pairs, self.batch_size, self.shard)

    def __iter__(self) -> Iterator[Batch]:
        """This worker's part of the batches.

        Raises:
            DataError: if no row of a training batch can be read.
        """
        epoch = self.epoch  # it may change while batches are on their way
        batches = self.batches(epoch)
        reader = self._reader(self._cached_blocks())
        for number in self._numbers(len(batches)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, epoch, self.shard[0], number)) % 2**63)
                batch = self._batch(batches[number], reader)
            if batch is None and self.train:
                raise DataError(
                    f"no row of batch {number} of split '{self.split}' can be read: fix or remove these rows"
                )
            if batch is not None:
                yield batch._replace(skipped=batch.skipped + self.table.broken) if number == 0 else batch

    def _numbers(self, count: int) -> Sequence[int]:
        """Which of ``count`` batches this worker makes: one part of the epoch in its order, after those to skip."""
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        # After a resume the loader's first worker goes on where the interrupted run's turn was.
        lane = ((worker.id if worker else 0) + self.skip) % workers
        done = max(0, -(-(self.skip - lane) // workers))
        quotient, remainder = divmod(count, workers)
        first = lane * quotient + min(lane, remainder)
        return range(first + done, first + quotient + (lane < remainder))

    def _cached_blocks(self) -> int:
        """Enough blocks for two windows, where the batches of a worker pass from one to the next."""
        if max(self.table.blocks, default=1) == 1:
            return 1
        return 2 * (1 + self.window // max(min(self.table.blocks), 1))

    def _reader(self, cached_blocks: int = 0) -> ImageReader:
        return ImageReader(self.source, self.split, self.table, cached_blocks)

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

    def _batch(self, plan: Ints, reader: ImageReader) -> Batch | None:
        """The planned rows that can be read, in evaluation with all their captions; None if there are none."""
        samples: list[Sample] = []
        skipped: list[str] = []
        for entry in plan.tolist():
            row = entry[0] if self.train else entry
            caption_numbers = entry[1:] if self.train else range(len(self.table.captions[row]))
            try:
                samples.append(Sample(self.transform(reader.image(row)), row, caption_numbers))
            except BrokenRowError:
                skipped.append(self.table.names[row])
        return self.collate(samples, skipped, self._buffer(samples)) if samples else None
