"""What a row is, and the contract of a source of rows.

A source gives the text side of every row of a split at once (:class:`Record`, small even for a large archive) and the
images in blocks, so that a stream reads each block about once and a table reads any row alone.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
"""Our name of a split to the names that data sets give it."""


class DataError(ValueError):
    """Data that is not there or not as it must be."""


class MissingSplitError(DataError):
    """A split that a source does not have."""


class BrokenRowError(DataError):
    """A single row that cannot be used; a stream leaves it out, up to a share of all."""


class Record(NamedTuple):
    """The text side of a row: file name, raw captions; scene and the captions' values where a column has them."""

    filename: str
    captions: tuple[str, ...]
    scene: str | None = None
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table.

    For None, ``scene`` is the column ``scene`` and ``values``, a list of numbers beside the captions, the column
    ``caption_values``, each where there is one.
    """

    image: str = "image"
    captions: str = "captions"
    filename: str = "filename"
    scene: str | None = None
    values: str | None = None

    def text(self, have: Sequence[str]) -> dict[str, str]:
        """Field of :class:`Record` to column, for those that a table with the columns ``have`` offers."""
        optional = {"scene": self.scene or "scene", "values": self.values or "caption_values"}
        there = {field: column for field, column in optional.items() if column in have}
        return {"filename": self.filename, "captions": self.captions, **there}


class Source(ABC):
    """Contract of a source of rows."""

    @abstractmethod
    def records(self, split: str) -> list[Record]:
        """The text side of every row of a split, in order.

        Raises:
            MissingSplitError: if there is no such split.
        """

    def blocks(self, split: str) -> list[int]:
        """Rows of each block that is read at once; by default each row alone."""
        return [1] * len(self.records(split))

    @abstractmethod
    def read(self, split: str, block: int) -> Sequence[object]:
        """The images of a block, in order, each in a form that :func:`decode` takes."""


def record(row: Mapping[str, Any]) -> Record:
    """The record of a table's row, by the names of :meth:`Columns.text`."""
    values = row.get("values")
    return Record(
        row["filename"], tuple(row["captions"] or ()), row.get("scene"), None if values is None else tuple(values)
    )


def content(image: object) -> object:
    """What the hub's ``{bytes, path}`` holds, its bytes or else its path; anything else as it is."""
    return (image["path"] if image.get("bytes") is None else image["bytes"]) if isinstance(image, dict) else image


def decode(image: object, name: str) -> Image.Image:
    """An RGB image from an image, encoded bytes, the hub's ``{bytes, path}`` or a path.

    Raises:
        BrokenRowError: naming the image that cannot be read.
    """
    image = content(image)
    try:
        if not isinstance(image, Image.Image):
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else str(image))
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise BrokenRowError(f"the image of '{name}' cannot be decoded ({error}): replace or remove the row") from error


def check_columns(have: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table without the columns that are named.

    Raises:
        DataError: naming the missing ones and those that are there.
    """
    wanted = [
        c for c in (columns.image, columns.captions, columns.filename, columns.scene, columns.values) if c is not None
    ]
    missing = [column for column in wanted if column not in have]
    if missing:
        raise DataError(
            f"{where} has no column {missing}; it has {list(have)}: name the right ones, as in "
            "--data.columns.captions=NAME"
        )
