"""The loader of a stream: follows the epoch, goes on in its middle after a resume, counts broken rows."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
from torch.utils.data import DataLoader, SequentialSampler

from rsretrieval.data.datasets.base import check_broken
from rsretrieval.data.resume import Position
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.types import Batch

log = logging.getLogger(__name__)


def check_unreadable(stream: RetrievalStream, unreadable: Mapping[str, str], max_broken: float) -> None:
    """Refuse a split of which too much cannot be read.

    Args:
        stream: of the split.
        unreadable: names of rows, with the reasons.
        max_broken: fraction of the split's images.

    Raises:
        DataError: with the first row's reason.
    """
    reason = next(iter(unreadable.values()), "")
    check_broken(list(unreadable), stream.table.images, stream.split, max_broken, reason)


def _begin_worker(_: int) -> None:
    """Workers share the cores; OpenCV and tokenisers would use them all in each, and their threads fear forks."""
    cv2.setNumThreads(0)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where a worker ends at any SIGTERM
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_heed_sigterm, daemon=True).start()
    threading.Thread(target=_end_with_parent, daemon=True).start()  # with SIGTERM blocked, as every thread


def _end_with_parent() -> None:
    """End where the parent was killed: torch's own watch waits for ever where a batch is half handed over."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _heed_sigterm() -> None:
    """End at the parent's SIGTERM, as torch's own handler does; leave the first of others aside.

    Clusters send it to every process of a run, which needs its workers to its last batch.
    """
    for count in itertools.count():
        is_parents = signal.sigwaitinfo({signal.SIGTERM}).si_pid == os.getppid()
        if is_parents or count:
            os._exit(0 if is_parents else 128 + signal.SIGTERM)


class _InTheStreamsOrder(SequentialSampler):
    """What a stream has for a sampler: it says that nothing shuffles but the stream itself."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield None


class EpochLoader(DataLoader[Batch]):
    """Follows the epoch, goes on in its middle after a resume, and watches how many rows are broken.

    The stream's epoch is set when the first batch is asked for: Lightning makes the iterator before it is known.

    Args:
        stream: what to load.
        epoch: gives the current epoch.
        position: gives the run's position, where this loader is the one that the run trains on: it is kept up to date,
            and the first iteration after a resume starts from it. None for others, which start at the beginning.
        max_broken: fraction of the split's rows that may be broken.
        options: see DataLoader.

    Attributes:
        max_broken: see the arguments.
        unreadable: names of the broken rows that this process came upon, with the reasons.
        waited: seconds that this process has waited for batches so far.
    """

    dataset: RetrievalStream

    def __init__(
        self,
        stream: RetrievalStream,
        epoch: Callable[[], int],
        position: Callable[[], Position | None],
        max_broken: float,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(stream, batch_size=None, worker_init_fn=_begin_worker, **options)
        # Lightning's overfit_batches would put another in its place; DataLoader itself lets nobody change it.
        self.__dict__["sampler"] = _InTheStreamsOrder(stream)
        # A worker is ahead by what is prefetched, while one more batch is being copied.
        stream.buffers = (self.prefetch_factor or 0) + 2
        self._epoch, self._position, self.max_broken = epoch, position, max_broken
        self.unreadable: dict[str, str] = {}
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The current epoch's batches; the rest of them, in the first iteration after a resume.

        Raises:
            DataError: if too many rows are broken.
        """
        stream, epoch, position = self.dataset, self._epoch(), self._position()
        length = len(stream)
        taken = position.start(epoch) if position is not None else 0
        stream.epoch, stream.skip = epoch, taken if taken < length else 0
        for number, batch in enumerate(self._timed(super().__iter__), stream.skip + 1):
            if position is not None:
                position.epoch, position.batches, position.is_complete = epoch, number, number == length
            self._check_skipped(batch)
            # A worker writes to the same buffer again; pinning has copied the images already.
            reused = self.num_workers > 0 and not batch.images.is_pinned()
            yield batch._replace(images=batch.images.clone()) if reused else batch

    def _timed(self, begin: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """Batches, and in ``waited`` how long each took to come; the first one with the start of the workers."""
        batches: Iterator[Batch] | None = None
        while True:
            asked = time.monotonic()
            batches = begin() if batches is None else batches
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def _check_skipped(self, batch: Batch) -> None:
        stream = self.dataset
        for name, reason in zip(batch.skipped, batch.reasons, strict=True):
            if name not in self.unreadable:
                self.unreadable[name] = reason
                log.warning("split '%s': row '%s' is broken and left out: %s", stream.split, name, reason)
        check_unreadable(stream, self.unreadable, self.max_broken)
