"""Work off the event loop: a few threads with short queues, and one of the model that encodes for several at once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

WAITING = 128
"""Requests in a queue; further ones are told to come back."""
T = TypeVar("T")


class BusyError(Exception):
    """A queue that is full."""


class Lane:
    """Threads that do work in the order that it comes in; what nobody waits for any more is not begun.

    Args:
        name: of the threads.
        threads: how many.
        waiting: pieces of work that may wait for them.
    """

    def __init__(self, name: str, threads: int, waiting: int = WAITING) -> None:
        self._threads, self._most = ThreadPoolExecutor(threads, name), threads + waiting
        self._count, self._lock = 0, threading.Lock()

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401
        """The result of a function.

        Raises:
            BusyError: if too many wait.
        """
        with self._lock:
            if self._count >= self._most:
                raise BusyError
            self._count += 1
        future = self._threads.submit(work, *arguments)
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def _leave(self, _: object) -> None:
        with self._lock:
            self._count -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Encoder(NamedTuple):
    """How a kind of items is encoded.

    Attributes:
        encode: of a list, whose result has a row for each item.
        together: items at once, where they come in so.
    """

    encode: Callable[[list[Any]], NDArray[Any]]
    together: int


class _Job(NamedTuple):
    items: Sequence[Any]
    future: Future[NDArray[Any]]


class ModelThread:
    """One thread that encodes for several requests at once, of each kind in turn; who has gone away is left out.

    Args:
        encoders: of each kind.
        waiting: requests that may wait.
    """

    def __init__(self, encoders: Mapping[str, Encoder], waiting: int = WAITING) -> None:
        self._encoders, self._most = encoders, waiting
        self._jobs: dict[str, deque[_Job]] = {kind: deque() for kind in encoders}
        self._changed, self._is_closed = threading.Condition(), False
        threading.Thread(target=self._run, name="model", daemon=True).start()

    async def __call__(self, kind: str, items: Sequence[Any]) -> NDArray[Any]:
        """Items encoded, ``(n, …)``.

        Raises:
            BusyError: if too many wait.
        """
        future: Future[NDArray[Any]] = Future()
        with self._changed:
            if sum(map(len, self._jobs.values())) >= self._most:
                raise BusyError
            self._jobs[kind].append(_Job(items, future))
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End once the work is done that is there."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or any(self._jobs.values()))
                if not any(self._jobs.values()):
                    return
                batches = {kind: self._taken(kind) for kind in self._encoders}
            for kind, jobs in batches.items():
                if jobs:
                    self._encode(kind, jobs)

    def _taken(self, kind: str) -> list[_Job]:
        """The next jobs of a kind, as many as are encoded together, one at least if there is any."""
        taken: list[_Job] = []
        waiting, room = self._jobs[kind], self._encoders[kind].together
        while waiting and (not taken or len(waiting[0].items) <= room):
            job = waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                taken.append(job)
                room -= len(job.items)
        return taken

    def _encode(self, kind: str, jobs: Sequence[_Job]) -> None:
        """Encode for several; where that fails each alone, so that one does not fail the others."""
        try:
            rows = self._encoders[kind].encode([item for job in jobs for item in job.items])
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._encode(kind, [job])
            return
        ends = np.cumsum([len(job.items) for job in jobs])
        for job, part in zip(jobs, np.split(rows, ends[:-1]), strict=True):
            job.future.set_result(part)
