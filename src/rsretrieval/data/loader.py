"""The loader of a stream: follows the epoch, goes on in its middle after a resume, counts broken rows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
from torch.utils.data import DataLoader

from rsretrieval.data.datasets.base import check_broken
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.types import Batch

log = logging.getLogger(__name__)


def _one_thread(_: int) -> None:
    """Workers share the cores; OpenCV and tokenisers would use them all in each, and their threads fear forks."""
    cv2.setNumThreads(0)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


class EpochLoader(DataLoader[Batch]):
    """Follows the epoch, goes on in its middle after a resume, and watches how many rows are broken.

    The stream's epoch is set when the first batch is asked for: Lightning makes the iterator before it is known.

    Args:
        stream: what to load.
        epoch: gives the current epoch.
        position: ``epoch`` and ``batches``, how many of its batches were taken; kept up to date, and the place to start
            from. After the last batch of an epoch ``batches`` is 0: none of a running epoch.
        max_broken: fraction of the split's rows that may be broken.
        options: see DataLoader.
    """

    dataset: RetrievalStream

    def __init__(
        self,
        stream: RetrievalStream,
        epoch: Callable[[], int],
        position: dict[str, int],
        max_broken: float,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(stream, batch_size=None, worker_init_fn=_one_thread, **options)
        # A worker is ahead by what is prefetched, while one more batch is being copied.
        stream.buffers = (self.prefetch_factor or 0) + 2
        self._epoch, self._max_broken = epoch, max_broken
        self._broken: set[str] = set()
        self._position = position

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The rest of the current epoch's batches.

        Raises:
            DataError: if too many rows are broken.
        """
        stream, epoch = self.dataset, self._epoch()
        length = len(stream)
        taken = self._position["batches"] if self._position["epoch"] == epoch else 0
        stream.epoch, stream.skip = epoch, taken if taken < length else 0
        for number, batch in enumerate(super().__iter__(), stream.skip + 1):
            self._position.update(epoch=epoch, batches=number if number < length else 0)
            self._check_skipped(batch.skipped)
            # A worker writes to the same buffer again; pinning has copied the images already.
            reused = self.num_workers > 0 and not batch.images.is_pinned()
            yield batch._replace(images=batch.images.clone()) if reused else batch

    def _check_skipped(self, skipped: Sequence[str]) -> None:
        stream = self.dataset
        for name in set(skipped) - self._broken:
            self._broken.add(name)
            log.warning("split '%s': row '%s' is broken and left out", stream.split, name)
        check_broken(sorted(self._broken), len(stream.table.names), stream.split, self._max_broken)
