"""Whether an input has changed since it was embedded, without reading it if that can be."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from rsretrieval.archive.inputs import HUB, Input
from rsretrieval.data.datasets.lookup import walk

SMALL = 2**20
"""Bytes of a file up to which its content tells whether it changed, where its time differs."""


def size_and_time(item: Input) -> tuple[int, int]:
    """Bytes, and the time of the last change in nanoseconds; of the hub, which has commits, a number of the commit.

    Raises:
        OSError: if it is not there.
    """
    if item.place.startswith(HUB):
        commit = item.place.partition("@")[2].partition("/")[0]
        return 0, int.from_bytes(blake2b(commit.encode(), digest_size=7).digest(), "big")
    place = Path(item.place)
    states = [file.stat() for file in walk(place)] if place.is_dir() else [place.stat()]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def content_digest(item: Input, size: int) -> str:
    """Of a small file's content; empty for larger ones, folders, and what is not on this machine."""
    if item.place.startswith(HUB) or size > SMALL or not Path(item.place).is_file():
        return ""
    return blake2b(Path(item.place).read_bytes(), digest_size=16).hexdigest()
