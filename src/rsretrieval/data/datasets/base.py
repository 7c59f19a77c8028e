"""What a row is, and the contract of a source of rows.

A source gives the text side of every row of a split at once (:class:`Record`, small even for a large archive) and the
images in blocks, so that a stream reads each block about once and a table reads any row alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SPLITS = {"train": ("train", "training"), "valid": ("valid", "val", "validation", "dev"), "test": ("test", "testing")}
"""Our name of a split to the names that data sets give it, in lower case."""


class DataError(ValueError):
    """Data that is missing or not as it must be."""


class MissingSplitError(DataError):
    """A split that a source does not have."""

    @classmethod
    def of(cls, where: str, split: str, names: Sequence[str], needs: str = "", notes: str = "") -> MissingSplitError:
        """The error with what is there, and what to do.

        Args:
            where: the data set.
            split: that it does not have.
            names: of the splits that it has, as it writes them.
            needs: what would be such a split.
            notes: what else was seen and not read.
        """
        advice = {
            "train": "name the split of training so",
            "valid": "validate on a part of the training images by --data.holdout 0.1",
            "test": "evaluate on another split, as by `rsretrieval validate`",
        }[split]
        has = f": it needs {needs} and has the splits {list(names)}" if needs else f"; it has {list(names)}"
        return cls(
            f"{where} has no split '{split}'{has}{notes and f', and {notes}'}. Names of it are {list(SPLITS[split])}: "
            f"add it, or {advice}"
        )


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
        captions: of the captions: a string, or a list of strings.
        filename: of the file names; null for a table without. Where the default is not there, an image's own path
            serves, and without one the number of its row.
        scene: of the scene classes; None for the column ``scene`` where there is one.
        values: of the lists of numbers beside the captions; None for the column ``caption_values`` where there is one.
    """

    image: str = "image"
    captions: str = "captions"
    filename: str | None = "filename"
    scene: str | None = None
    values: str | None = None

    def text(self, available: Sequence[str]) -> dict[str, str]:
        """Field of :class:`Record` to column, for those that a table with the columns ``available`` offers."""
        names = self.filename if self.filename != self.image else None  # then the images' own paths serve
        optional = {"scene": self.scene or "scene", "values": self.values or "caption_values"}
        offered = {field: column for field, column in optional.items() if column in available}
        named = {"filename": names} if names is not None and names in available else {}
        return {**named, "captions": self.captions, **offered}


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

    def text_columns(self, split: str) -> Any:  # noqa: ANN401 - the type's import would make that of the help slow
        """What :meth:`records` gives in arrays, :class:`rsretrieval.data.datasets.text_columns.TextColumns`; or None.

        None where it needs a look: a value of another type, one that is missing, or several rows of one name.
        """
        return None

    def names(self, split: str) -> list[str]:
        """File name of every row of a split, in order."""
        columns = self.text_columns(split)
        return [record.filename for record in self.records(split)] if columns is None else list(columns.names)

    def blocks(self, split: str) -> list[int]:
        """Rows of each block that is read at once; by default each row alone."""
        return [1] * len(self.records(split))

    @abstractmethod
    def read(self, split: str, block: int) -> Sequence[object]:
        """The images of a block, in order, each in a form that :func:`rsretrieval.images.decode` takes."""

    def where(self, split: str) -> str:
        """What a split is read from, for messages."""
        return f"split '{split}'"

    def fingerprint(self) -> str | None:
        """What changes when the source's files change, for sources without revisions; None if that is not known."""
        return None

    def prepare(self) -> None:  # noqa: B027 - optional
        """Fetch what is fetched once for all processes of a node; by default nothing.

        One process of each node calls it before the others build the source, so it may write to disk.
        """

    def fetch(self, split: str) -> None:  # noqa: B027 - optional
        """Fetch what reading the images of a split needs, where it is not here yet; by default nothing.

        Called before the loader's workers start, by several processes at once; nothing for splits that are not there.
        """


def check_columns(available: Sequence[str], columns: Columns, where: str) -> None:
    """Refuse a table without the columns that are named.

    Args:
        available: the table's columns.
        columns: those that are wanted.
        where: what the table is, for the message.

    Raises:
        DataError: naming the missing ones and those of the table; or if captions have the column of something else.
    """
    names = columns.filename if columns.filename != Columns().filename else None  # the default one may be missing
    named = (columns.image, columns.captions, names, columns.scene, columns.values)
    missing = [column for column in named if column is not None and column not in available]
    if missing:
        raise DataError(
            f"{where} has no column {missing}; it has {list(available)}: name the right ones, as in "
            "--data.columns.captions=NAME"
        )
    roles = ("image", "filename", "scene", "values")
    twice = [role for role in roles if getattr(columns, role) == columns.captions]
    if twice:
        raise DataError(
            f"{where}: --data.columns.captions and --data.columns.{twice[0]} are both '{columns.captions}', and need "
            "columns of their own. A table without file names needs none: leave out --data.columns.filename"
        )


def check_broken(names: Sequence[str], rows: int, split: str, fraction: float, reason: str = "") -> None:
    """Refuse a split of which more than a fraction is broken.

    Args:
        names: of the broken rows.
        rows: of the split, broken ones among them.
        split: its name.
        fraction: of the rows that may be broken, in [0, 1].
        reason: what is wrong with the first of them, with its file and row as far as they are known.

    Raises:
        DataError: naming some of the rows, and the reason.
    """
    if len(names) > fraction * rows:
        raise DataError(
            f"{len(names)} of {rows} rows of split '{split}' are broken (such as {list(names[:3])}): "
            f"no caption with a word in it, or an image that cannot be decoded{reason and f'; the first: {reason}'}. "
            f"More than {fraction:.0%} stops the run: fix or remove the rows, or allow more by --data.max_broken"
        )
