"""The images of a split by their row, read block by block."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rsretrieval.data.datasets.base import BrokenRowError, Source

if TYPE_CHECKING:
    from PIL import Image

    from rsretrieval.data.table import Table


class ImageReader:
    """Reads images of a split.

    Args:
        source: where they are.
        split: ``train``, ``valid`` or ``test``.
        table: the split's text side.
        cached_blocks: how many of the blocks that were read last stay in memory.
    """

    def __init__(self, source: Source, split: str, table: Table, cached_blocks: int = 1) -> None:
        self.split, self.table = split, table
        self._ends = np.cumsum(table.blocks)
        self._read = lru_cache(maxsize=cached_blocks)(source.read)

    def encoded(self, row: int) -> object:
        """What the source gives for the image of a row, in one of the forms that ``rsretrieval.images.decode`` takes.

        Raises:
            BrokenRowError: if the source has no single image of that name.
        """
        block = int(np.searchsorted(self._ends, row, side="right"))
        images = self._read(self.split, block)
        return images[row - int(self._ends[block]) + self.table.blocks[block]]

    def image(self, row: int) -> Image.Image:
        """The image of a row, as it is, in RGB.

        Raises:
            BrokenRowError: if it cannot be decoded.
        """
        return decode_row(self.encoded(row), self.table.names[row])


def decode_row(image: object, name: str) -> Image.Image:
    """An RGB image from one of the forms that :func:`rsretrieval.images.decode` takes.

    Args:
        image: picture, encoded bytes, the hub's ``{bytes, path}`` or a path.
        name: of the row.

    Raises:
        BrokenRowError: naming the row whose image cannot be decoded.
    """
    from rsretrieval.images import BrokenImageError, decode

    try:
        return decode(image)
    except BrokenImageError as error:
        raise BrokenRowError(f"the image of '{name}' cannot be decoded ({error}): replace or remove the row") from error
