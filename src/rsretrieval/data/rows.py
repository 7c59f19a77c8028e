"""What a row is, and the contract of a source of rows.

A source gives the text side of every row of a split at once (:class:`Record`, small even for a large archive) and the
images in blocks, so that a stream reads each block about once and a table reads any row alone.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
"""Our name of a split to the names that data sets give it."""


class DataError(ValueError):
    """Data that is not there or not as it must be."""


class BrokenRowError(DataError):
    """A single row that cannot be used; a stream leaves it out, up to a share of all."""


class Record(NamedTuple):
    """The text side of a row: file name, raw captions, and the scene where a column has it."""

    filename: str
    captions: tuple[str, ...]
    scene: str | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; ``scene`` is None where there is none."""

    image: str = "image"
    captions: str = "captions"
    filename: str = "filename"
    scene: str | None = None


class Source(ABC):
    """Contract of a source of rows."""

    @abstractmethod
    def records(self, split: str) -> list[Record]:
        """The text side of every row of a split, in order.

        Raises:
            DataError: if there is no such split.
        """

    def blocks(self, split: str) -> list[int]:
        """Rows of each block that is read at once; by default each row alone."""
        return [1] * len(self.records(split))

    @abstractmethod
    def read(self, split: str, block: int) -> Sequence[object]:
        """The images of a block, in order, each in a form that :func:`decode` takes."""


def decode(image: object, name: str) -> Image.Image:
    """An RGB image from an image, encoded bytes, the hub's ``{bytes, path}`` or a path.

    Raises:
        BrokenRowError: naming the image that cannot be read.
    """
    if isinstance(image, dict):
        image = image["bytes"] if image.get("bytes") is not None else image["path"]
    try:
        if not isinstance(image, Image.Image):
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else str(image))
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise BrokenRowError(f"the image of '{name}' cannot be decoded ({error}): replace or remove the row") from error


def check_columns(have: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table without the columns that are named.

    Raises:
        DataError: naming the missing ones and those that are there.
    """
    wanted = [c for c in (columns.image, columns.captions, columns.filename, columns.scene) if c is not None]
    missing = [column for column in wanted if column not in have]
    if missing:
        raise DataError(
            f"{where} has no column {missing}; it has {list(have)}: name the right ones, as in "
            "--data.columns.captions=NAME"
        )
