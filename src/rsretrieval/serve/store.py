"""The archive that is served: opened anew when it or its index has changed; requests keep what they began with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rsretrieval.archive.index.saved import FOLDER, LAST, REPORT
from rsretrieval.embeddings.file import NAME
from rsretrieval.serve.snapshot import Snapshot
from rsretrieval.serve.work import BusyError, Lane

log = logging.getLogger(__name__)
INTERVAL = 1.0
"""Seconds between two looks at the files."""
T = TypeVar("T")


class Store:
    """The newest snapshot of an archive.

    Args:
        first: that was opened at the start, whose model all later ones have.
        kind: of index; None for the one that was built last.
    """

    def __init__(self, first: Snapshot, kind: str | None = None) -> None:
        self.current, self._kind = first, kind
        self._state, self._complaint = _state(first.folder), ""
        self._lane, self._turn = Lane("open", 1), asyncio.Lock()

    async def watch(self) -> None:
        """Look at the files every second, until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.refresh()

    async def refresh(self) -> None:
        """Open the archive anew if its files have changed; what cannot be opened is said, and the old one stays."""
        async with self._turn:
            state = _state(self.current.folder)
            if state == self._state:
                return
            model = self.current.model.retriever
            try:
                fresh = await self._lane(lambda: Snapshot.open(self.current.folder, model, kind=self._kind))
            except Exception as error:
                if str(error) != self._complaint:
                    log.warning("the archive has changed, and is served as it was: %s", error)
                self._complaint = str(error)
                return
            log.info("the archive has changed: %d rows, before %d", len(fresh), len(self.current))
            self.current, self._state, self._complaint = fresh, state, ""

    async def ask(self, lane: Lane, work: Callable[[Snapshot], T]) -> T:
        """Work on the newest snapshot; where that is gone from the disk meanwhile, on the one that took its place.

        Args:
            lane: that does it.
            work: of a snapshot.
        """
        snapshot = self.current
        try:
            return await lane(work, snapshot)
        except BusyError:
            raise
        except Exception:
            await self.refresh()
            if self.current is snapshot:
                raise
            return await lane(work, self.current)

    def close(self) -> None:
        """Open nothing more."""
        self._lane.close()


def _state(folder: Path) -> list[tuple[int, int, int] | None]:
    """What changes when the archive or an index of it is written."""
    reports = sorted((folder / FOLDER).glob(f"*/{REPORT}"))
    return [_status(file) for file in (folder / NAME, folder / FOLDER / LAST, *reports)]


def _status(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
