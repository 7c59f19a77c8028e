"""The pictures of rows, as a browser shows them: whole, small, and with what lies around a tile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from rsretrieval.archive.pictures import input_of, loaded, reader_of, window
from rsretrieval.archive.pieces import Piece, Reader
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.embeddings import ArchiveError
from rsretrieval.recent import Recent

SIDE = 2048
"""Longest side of a picture that is sent, in pixels."""
THUMBNAIL = 256
THUMBNAIL_BYTES = 64 * 2**20
"""Of thumbnails that are kept."""
OPEN = 32
"""Sources that stay open, the last that were read."""
FRAMES = ((0, "black"), (1, "white"))


class NoSurroundingsError(LookupError):
    """A row that is no tile."""


class Pictures:
    """Reads pictures of an archive's rows from their files; several threads may.

    Args:
        folder: of the archive.
        about: what its embeddings say of themselves.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self._folder, self._about = folder, about
        self._open: Recent[str, tuple[Reader, dict[str, Piece]]] = Recent(OPEN)
        self._small: Recent[str, bytes] = Recent(THUMBNAIL_BYTES, len)

    def picture(self, source: str, pixel_bbox: Sequence[int], side: int = SIDE) -> Image.Image:
        """A row's picture, no side longer than ``side``; a tile is read by window.

        Raises:
            ArchiveError: if the file is no longer there.
            BrokenImageError: if it cannot be read any more.
        """
        reader, pieces = self._opened(source)
        if source not in pieces:
            raise ArchiveError(f"the archive's files no longer hold '{source}': embed them again")
        piece = pieces[source]
        if isinstance(piece.part, Tile):
            piece = piece._replace(part=window(pixel_bbox, side))
        picture = loaded(reader, piece)
        picture.thumbnail((side, side))
        return picture

    def surroundings(self, id_: str, source: str, pixel_bbox: Sequence[int], margin: float, side: int) -> Image.Image:
        """A tile and what lies around it in its scene, framed where the tile is.

        Args:
            id_: of the row.
            source: of the row.
            pixel_bbox: of the row.
            margin: on each side, in widths and heights of the tile.
            side: longest of the result, in pixels.

        Raises:
            NoSurroundingsError: if the row is a whole picture.
        """
        if not id_.startswith(f"{source}#"):
            raise NoSurroundingsError
        reader, pieces = self._opened(source)
        piece = pieces[source]
        raster = reader.raster(piece.input)
        left, top, right, bottom = pixel_bbox
        across, down = round(margin * (right - left)), round(margin * (bottom - top))
        box = (
            max(0, left - across), max(0, top - down),
            min(raster.width, right + across), min(raster.height, bottom + down),
        )  # fmt: skip
        picture = loaded(reader, piece._replace(part=window(box, side)))
        scale = picture.width / (box[2] - box[0])
        draw = ImageDraw.Draw(picture)
        for inset, colour in FRAMES:
            corners = [(x - y) * scale for x, y in zip(pixel_bbox, (*box[:2], *box[:2]), strict=True)]
            near, far = [corner - 2 + inset for corner in corners[:2]], [corner + 1 - inset for corner in corners[2:]]
            draw.rectangle((*near, *far), outline=colour)
        return picture

    def thumbnail(self, key: str, source: str, pixel_bbox: Sequence[int]) -> bytes:
        """A small JPEG, kept in memory."""
        content = self._small.get(key)
        return content or self._small.put(key, jpeg(self.picture(source, pixel_bbox, THUMBNAIL), 85))

    def _opened(self, source: str) -> tuple[Reader, dict[str, Piece]]:
        """What reads a source's file, and the pieces that it has by source: a raster's first stands for all of it."""
        item = input_of(self._folder, self._about, source)
        if opened := self._open.get(item.name):
            return opened
        reader = reader_of(self._folder, self._about, item.name, SIDE)
        pieces = reader.pieces(item)
        found = {item.name: next(pieces)} if source == item.name else {piece.id: piece for piece in pieces}
        return self._open.put(item.name, (reader, found))


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    """A picture encoded."""
    content = io.BytesIO()
    picture.convert("RGB").save(content, "JPEG", quality=quality)
    return content.getvalue()
