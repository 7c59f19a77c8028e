"""What a row is, and the contract of a source of rows.

A source gives the text side of every row of a split at once (:class:`Record`, small even for a large archive) and the
images in blocks, so that a stream reads each block about once and a table reads any row alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
"""Our name of a split to the names that data sets give it."""


class DataError(ValueError):
    """Data that is missing or not as it must be."""


class MissingSplitError(DataError):
    """A split that a source does not have."""


class BrokenRowError(DataError):
    """A single row that cannot be used; a stream leaves it out, up to a fraction of all."""


class Record(NamedTuple):
    """The text side of a row.

    Attributes:
        filename: name of the image.
        captions: as they are written, before cleaning.
        scene: scene class; None where no column has it.
        values: value of each caption in the weighted contrastive loss; None where no column has them.
    """

    filename: str
    captions: tuple[str, ...]
    scene: str | None = None
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table.

    Attributes:
        image: of the images.
        captions: of the lists of captions.
        filename: of the file names.
        scene: of the scene classes; None for the column ``scene`` where there is one.
        values: of the lists of numbers beside the captions; None for the column ``caption_values`` where there is one.
    """

    image: str = "image"
    captions: str = "captions"
    filename: str = "filename"
    scene: str | None = None
    values: str | None = None

    def text(self, available: Sequence[str]) -> dict[str, str]:
        """Field of :class:`Record` to column, for those that a table with the columns ``available`` offers."""
        optional = {"scene": self.scene or "scene", "values": self.values or "caption_values"}
        offered = {field: column for field, column in optional.items() if column in available}
        return {"filename": self.filename, "captions": self.captions, **offered}


class Source(ABC):
    """Contract of a source of rows.

    Splits are called ``train``, ``valid`` and ``test``. A source is sent to the loader's worker processes, so it must
    be picklable, and leave open files and connections out of its pickled state.

    Attributes:
        revision: which version of the rows it reads, for sources that change under their name; else None.

    Example:
        >>> class Ponds(Source):
        ...     def records(self, split: str) -> list[Record]:
        ...         return [Record("a.png", ("a pond",)), Record("b.png", ("two ponds", "water"))]
        ...
        ...     def read(self, split: str, block: int) -> list[str]:
        ...         return [("ponds/a.png", "ponds/b.png")[block]]
        >>> Ponds().blocks("train")
        [1, 1]
    """

    revision: str | None = None

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
        """The images of a block, in order, each in a form that :func:`rsretrieval.images.decode` takes."""

    def prepare(self) -> None:  # noqa: B027 - optional
        """Fetch what is fetched once for all processes of a node; by default nothing.

        One process of each node calls it before the others build the source, so it may write to disk.
        """


def record(row: Mapping[str, Any]) -> Record:
    """The record of a table's row, by the names of :meth:`Columns.text`."""
    values = row.get("values")
    return Record(
        row["filename"], tuple(row["captions"] or ()), row.get("scene"), None if values is None else tuple(values)
    )


def check_columns(available: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table without the columns that are named.

    Args:
        available: the table's columns.
        columns: those that are wanted.
        where: what the table is, for the message.

    Raises:
        DataError: naming the missing ones and those of the table.
    """
    named = (columns.image, columns.captions, columns.filename, columns.scene, columns.values)
    missing = [column for column in named if column is not None and column not in available]
    if missing:
        raise DataError(
            f"{where} has no column {missing}; it has {list(available)}: name the right ones, as in "
            "--data.columns.captions=NAME"
        )


def check_broken(names: Sequence[str], rows: int, split: str, fraction: float) -> None:
    """Refuse a split of which more than a fraction is broken.

    Args:
        names: of the broken rows.
        rows: of the split, broken ones among them.
        split: its name.
        fraction: of the rows that may be broken, in [0, 1].

    Raises:
        DataError: naming some of the rows.
    """
    if len(names) > fraction * rows:
        raise DataError(
            f"{len(names)} of {rows} rows of split '{split}' are broken (such as {list(names[:3])}): no caption with "
            f"a word in it, or an image that cannot be decoded. More than {fraction:.0%} stops the run: fix or remove "
            "the rows, or allow more by --data.max_broken"
        )
