"""The pictures that rows of an archive are of, read again from their files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from rsretrieval.archive.inputs import HUB, Input, kind_of
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import Piece, Reader
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.archive.state import SOURCES
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError, Rendering, decode


class _Eye:
    """Sees pictures as they are, no side longer than ``image_size``."""

    channels = 3

    def __init__(self, image_size: int, rendering: Rendering) -> None:
        self.image_size, self.rendering = image_size, rendering

    def square_of(self, image: object, rendering: Rendering | None = None) -> NDArray[Any]:
        picture = decode(image, rendering or self.rendering)
        picture.thumbnail((self.image_size, self.image_size))
        return np.asarray(picture)


def picture(
    folder: Path, about: dict[str, Any], source: str, pixel_bbox: Sequence[int], max_side: int = 224
) -> Image.Image:
    """The picture of a row.

    Args:
        folder: of the archive.
        about: what its embeddings say of themselves.
        source: of the row.
        pixel_bbox: left, top, right, bottom of the row.
        max_side: longest side of the result, in pixels.

    Raises:
        ArchiveError: if the file is no longer there.
        BrokenImageError: if it cannot be read any more.
    """
    item = input_of(folder, about, source)
    reader = reader_of(folder, about, item.name, max_side)
    if source != item.name:
        for piece in reader.pieces(item):
            if piece.id == source:
                return loaded(reader, piece)
        raise ArchiveError(f"'{item.place}' no longer holds '{source}': embed it again")
    piece = next(iter(reader.pieces(item)))
    part = None if piece.part is None else window(pixel_bbox, max_side)
    return loaded(reader, piece._replace(part=part))


def window(pixel_bbox: Sequence[int], max_side: int) -> Tile:
    """A part of a raster, read no longer than ``max_side`` pixels; the box is left, top, right, bottom."""
    left, top, right, bottom = pixel_bbox
    shrink = min(1.0, max_side / max(right - left, bottom - top))
    sides = [max(1, round(side * shrink)) for side in (right - left, bottom - top)]
    return Tile(left, top, right - left, bottom - top, *sides)


def loaded(reader: Reader, piece: Piece) -> Image.Image:
    """A piece's picture.

    Raises:
        BrokenImageError: if it cannot be read, or nothing is in it any more.
    """
    read = reader.load(piece)
    if read is None:
        raise BrokenImageError(f"{piece.id} holds no data any more: embed it again")
    return Image.fromarray(read.square)


def input_of(folder: Path, about: dict[str, Any], source: str) -> Input:
    """The file that a row is of, as it was given to be embedded.

    Args:
        folder: of the archive.
        about: what its embeddings say of themselves.
        source: of the row.

    Raises:
        ArchiveError: if it is no longer there.
    """
    root = Path(os.path.normpath(folder / about["root"]))
    for name in (source, source.partition("::")[0]):
        if name.startswith(HUB):
            place = source.partition("::")[0]
            return Input(place, place, kind_of(Path(place)) or "picture")
        if (root / name).exists():
            return Input(name, os.fspath(root / name), kind_of(root / name) or "raster")
    raise ArchiveError(
        f"the file of '{source}' is not below '{root}' any more: move the images beside the archive as they were, or "
        "embed them again"
    )


def reader_of(folder: Path, about: dict[str, Any], name: str, max_side: int) -> Reader:
    """Reads an input as it was embedded, no side longer than ``max_side``; the others as of :func:`input_of`."""
    options = about.get("options", {})
    if (folder / SOURCES).exists():
        table = pq.read_table(folder / SOURCES, columns=["source", "options"], filters=[("source", "==", name)])
        options = json.loads(table["options"][0].as_py()) if len(table) else options
    chosen = Options(**options)
    scale = chosen.scale or about["preprocessing"]["scale"]
    rendering = Rendering.parse(scale, chosen.numbers or about["preprocessing"]["bands"])
    return Reader(_Eye(max_side, rendering), chosen)
