"""The images of a split by their row, read block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rsretrieval.data.datasets.base import BrokenRowError, DataError, Source
from rsretrieval.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from rsretrieval.data.table import Table
    from rsretrieval.images import Rendering


class ImageReader:
    """Reads images of a split.

    Args:
        source: where they are.
        split: ``train``, ``valid`` or ``test``.
        table: the split's text side.
        cached_rows: rows of the blocks that stay in memory beside each other; one block always does.
        rendering: of images that are not 8-bit, or of many bands; None refuses them.
    """

    def __init__(
        self, source: Source, split: str, table: Table, cached_rows: int = 1, rendering: Rendering | None = None
    ) -> None:
        self.split, self.table, self.rendering = split, table, rendering
        self._source, self._where = source, source.where(split)
        self._ends = np.cumsum(table.blocks)
        self._blocks: Recent[int, Sequence[object]] = Recent(cached_rows, len)

    def encoded(self, row: int) -> object:
        """What the source gives for the image of a row, in one of the forms that ``rsretrieval.images.decode`` takes.

        Raises:
            BrokenRowError: if the source has no single image of that name.
        """
        block = int(np.searchsorted(self._ends, row, side="right"))
        images = self._blocks.kept(block, lambda: self._source.read(self.split, block))
        return images[row - int(self._ends[block]) + self.table.blocks[block]]

    def image(self, row: int) -> Image.Image:
        """The image of a row, as it is, in RGB.

        Raises:
            BrokenRowError: if it cannot be decoded.
            DataError: if it needs a rendering.
        """
        image = self.encoded(row)
        try:
            return decode_row(image, self.table.names[row], self.rendering)
        except DataError as error:
            raise type(error)(f"{self._where}, row {row}: {error}") from error


def decode_row(image: object, name: str, rendering: Rendering | None = None) -> Image.Image:
    """An RGB image from one of the forms that :func:`rsretrieval.images.decode` takes.

    Args:
        image: picture, encoded bytes, the hub's ``{bytes, path}``, a path or an array.
        name: of the row.
        rendering: see :func:`rsretrieval.images.decode`.

    Raises:
        BrokenRowError: naming the row whose image cannot be decoded.
        DataError: if it can, and needs a setting; such rows are never left out.
    """
    from rsretrieval.images import BrokenImageError, RenderingError, decode

    try:
        return decode(image, rendering)
    except RenderingError as error:
        raise DataError(f"the image of '{name}' needs a setting: {error}") from error
    except BrokenImageError as error:
        raise BrokenRowError(f"the image of '{name}' cannot be decoded ({error}): replace or remove the row") from error
