"""The layouts of captions in JSON, CSV and TSV files, as rows of one form.

JSON: a list of rows, or one below ``images``; an object of scene class or split to such lists; COCO's ``images`` beside
``annotations``. A row names an image and has captions, under one of the keys that the field's data sets use.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsretrieval.data.datasets.base import Columns, DataError
from rsretrieval.data.datasets.coco import with_annotations
from rsretrieval.data.datasets.splits import split_of
from rsretrieval.data.datasets.text_files import TABLES, NoTableError, read_cells, read_json

log = logging.getLogger(__name__)
NAMES = (
    "filename",
    "file_name",
    "image",
    "image_name",
    "img",
    "img_name",
    "image_path",
    "img_path",
    "filepath",
    "path",
)
CAPTIONS = ("sentences", "captions", "caption", "raw", "title", "text", "sentence")
REGIONS = "points"
"""The key of AIR-SLT's rows that marks which part of an image a sentence is of."""
SEPARATORS = (",", "\t", ";", "|")


class Row(NamedTuple):
    """One row of a file.

    Attributes:
        values: field of :class:`rsretrieval.data.Record` to what the file has.
        split: as it is written; None where the row does not say.
        where: in the file.
        keys: field to its key.
    """

    values: dict[str, Any]
    split: object
    where: str
    keys: dict[str, str]


class Keys:
    """Which of a row's keys are which field.

    Args:
        columns: those that are named; a name that differs from the default goes before all others.
        file: for messages.
    """

    def __init__(self, columns: Columns, file: Path) -> None:
        default = Columns()
        named = [
            getattr(columns, field)
            for field in ("filename", "image")
            if getattr(columns, field) not in (None, getattr(default, field))
        ]
        self.names = tuple(named) or NAMES
        self.captions = CAPTIONS if columns.captions == default.captions else (columns.captions,)
        self.scene, self.values, self.file = columns.scene or "scene", columns.values or "caption_values", file
        self.needed = [column for column in (columns.scene, columns.values) if column is not None]
        self._told = False

    def name_of(self, row: Mapping[str, Any]) -> str | None:
        """The key of the image's name."""
        return next((key for key in self.names if key in row), None)

    def captions_of(self, row: Mapping[str, Any]) -> list[str]:
        """The keys of the captions: one, and the numbered ones beside it (``raw``, ``raw_1``, …)."""
        for key in self.captions:
            numbered = [other for other in row if re.fullmatch(rf"{re.escape(key)}(?:[_ -]?\d+)?", str(other))]
            if numbered:
                return numbered
        return []

    def _tell(self, row: Mapping[str, Any], captions: Sequence[str]) -> None:
        """Say once which of several keys has the captions."""
        others = [key for key in row if key in self.captions and key not in captions]
        if (others or len(captions) > 1) and not self._told:
            left = f", not from {others}" if others else ""
            log.info(
                "'%s': captions are read from %s%s (--data.columns.captions NAME)", self.file, list(captions), left
            )
            self._told = True

    def wanted(self) -> str:
        """What a row needs, in words."""
        return f"an image ({' or '.join(self.names)}) with captions ({' or '.join(self.captions)})"

    def header(self, cells: Sequence[str]) -> list[str]:
        """The header of a CSV, with the names that are known in the case that they are known by."""
        known = {key.lower(): key for key in (*self.names, *self.captions, self.scene, self.values, "split")}
        names = [known.get(cell.strip().lower(), cell.strip()) for cell in cells]
        return [
            name.lower() if self.captions_of({name.lower(): ""}) and name not in known.values() else name
            for name in names
        ]

    def fits(self, row: object) -> bool:
        """Whether a row names an image and has captions."""
        return isinstance(row, Mapping) and self.name_of(row) is not None and bool(self.captions_of(row))

    def row(self, row: object, where: str, split: object = None, scene: str | None = None) -> Row:
        """A row of the one form.

        Raises:
            DataError: naming file and row, if it lacks the name or the captions.
        """
        if not isinstance(row, Mapping):
            raise DataError(f"'{self.file}', {where}, is no object with an image and its captions: fix or remove it")
        name, captions = self.name_of(row), self.captions_of(row)
        lacks = [column for column in self.needed if column not in row]
        lacks += [] if name else [" or ".join(self.names)]
        lacks += [] if captions else [" or ".join(self.captions)]
        if name is None or lacks:
            raise DataError(
                f"'{self.file}', {where}, has no {', no '.join(lacks)}; it has {list(row)[:20]}: add it, remove the "
                "row, or name the right key, as in --data.columns.captions=NAME"
            )
        self._tell(row, captions)
        texts = row[captions[0]] if len(captions) == 1 else [text for key in captions for text in _listed(row[key])]
        label = row.get(self.scene)
        values = {"filename": row[name], "captions": texts, "scene": scene if label is None else label}
        keys = {"filename": name, "captions": captions[0], "scene": self.scene, "values": self.values}
        return Row({**values, "values": row.get(self.values)}, row.get("split", split), where, keys)


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def read_rows(file: Path, columns: Columns) -> list[Row]:
    """The rows of a file.

    Args:
        file: JSON, JSON lines, CSV or TSV.
        columns: names of the keys.

    Raises:
        NoTableError: if it is no table of images and captions.
        DataError: naming the file, if it cannot be read, or a row of its table lacks something.
    """
    keys = Keys(columns, file)
    if file.suffix.lower() in TABLES:
        return list(_rows_of_cells(file, keys))
    return list(_rows_of_json(read_json(file), keys))


def _rows_of_json(table: Any, keys: Keys) -> Iterator[Row]:  # noqa: ANN401
    lists = table if isinstance(table, dict) else {"": table}
    if isinstance(lists.get("images"), list):
        lists = {"images": with_annotations(lists["images"], lists.get("annotations"), CAPTIONS, keys.file)}
    objects = [row for rows in lists.values() if isinstance(rows, list) for row in rows if isinstance(row, dict)]
    if objects and all(REGIONS in row for row in objects):
        raise NoTableError(
            f"'{keys.file}' marks regions of images ('{REGIONS}'), so its sentences are of parts of them, for semantic "
            "localisation: it is no table of captions"
        )
    tables = {key: rows for key, rows in lists.items() if isinstance(rows, list) and any(map(keys.fits, rows))}
    if not tables:
        raise NoTableError(f"'{keys.file}' is no table of captions: {_describe(lists)}, and {keys.wanted()} is needed")
    for key, rows in tables.items():
        for number, row in enumerate(rows):
            split = key if isinstance(row, dict) and "split" not in row and split_of(key) else None
            of_class = split is None and (len(tables) > 1 or (isinstance(row, dict) and "raw" in row))
            yield keys.row(row, f"{key}[{number}]", split, key if of_class and key not in ("", "images") else None)


def _describe(lists: Mapping[str, Any]) -> str:
    """What a JSON has instead of rows with images and captions."""
    for key, rows in lists.items():
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict):
                return f"rows{f' of {key!r}' if key else ''} have {list(row)[:20]}"
    return f"it has {list(lists)[:20]}" if set(lists) != {""} else f"it is a {type(lists['']).__name__}"


def _rows_of_cells(file: Path, keys: Keys) -> Iterator[Row]:
    """The lines of a table in text whose header has a name and captions, by the first separator that gives both."""
    header: list[str] = []
    for lines in read_cells(file, SEPARATORS).values():
        (_, header), *cells = lines
        header = keys.header(header)
        if not keys.fits(dict.fromkeys(header)):
            continue
        if len(set(header)) < len(header):
            raise DataError(f"'{file}' has a column twice in its header, {header}: rename or remove one")
        if not cells:
            raise NoTableError(f"'{file}' has no rows below its header: write or fetch it again")
        for number, line in cells:
            if len(line) != len(header):
                raise DataError(
                    f"'{file}', line {number}, has {len(line)} cells and the header {len(header)}: put quotes around "
                    "texts that hold the separator"
                )
            values: dict[str, Any] = {key: c if c.strip() else None for key, c in zip(header, line, strict=True)}
            if values.get(keys.values):
                values[keys.values] = _number(values[keys.values])
            yield keys.row(values, f"line {number}")
        return
    raise NoTableError(f"'{file}' is no table of captions: its header is {header}, and {keys.wanted()} is needed")


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
