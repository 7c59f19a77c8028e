"""Blocks of images in memory, as many as fit a number of rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

Images = Sequence[object]


class BlockCache:
    """Reads the blocks of a split, and keeps those that were used last.

    Args:
        read: gives the images of a block.
        rows: of the kept blocks together; the block that was read last is kept whatever its size.

    Example:
        >>> blocks = BlockCache(lambda block: ["image"] * 3, rows=7)
        >>> [len(blocks(block)) for block in (0, 1, 2)], blocks.rows
        ([3, 3, 3], 6)
    """

    def __init__(self, read: Callable[[int], Images], rows: int) -> None:
        self._read, self._limit = read, rows
        self._blocks: OrderedDict[int, Images] = OrderedDict()
        self.rows = 0
        """Rows in memory now."""

    def __call__(self, block: int) -> Images:
        """The images of a block."""
        if block in self._blocks:
            self._blocks.move_to_end(block)
            return self._blocks[block]
        images = self._read(block)
        while self._blocks and self.rows + len(images) > self._limit:
            self.rows -= len(self._blocks.popitem(last=False)[1])
        self._blocks[block] = images
        self.rows += len(images)
        return images
