"""What tables, JSON and CSV files can hold, as the fields of a :class:`Record`.

The one place where a value of whatever type becomes a caption, a file name, a scene or a number, or is refused by
column, row and type. Falsy values are values: a scene 0 is the scene "0".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from rsretrieval.data.datasets.base import DataError, Record

CAPTION_KEYS = ("raw", "caption", "text", "sentence", "captions", "sentences")
"""Where the caption is, if it is given as a JSON object; the first that is there."""

WRITTEN_OUT = re.compile(r"""\s*(array\()?\s*[\[({]+\s*['"].*[\])}]\s*$""", re.DOTALL)
"""A list, tuple, object or array as Python, JSON or numpy writes it."""
MISSING = ("None", "nan", "NaN", "<NA>")
"""Captions that are none, as Python and pandas write them."""


ROW = "row "
"""Beginning of the name of an image that has none; its row's number follows."""


def is_row_number(name: str) -> bool:
    """Whether it is the name of an image that has none.

    Example:
        >>> is_row_number("row 12"), is_row_number("row 12.jpg")
        (True, False)
    """
    return name.startswith(ROW) and name.removeprefix(ROW).isdecimal()


def is_writable(text: str) -> bool:
    r"""Whether a text is one in UTF-8: it has no half of a character, and no byte of a file's name as it was.

    Example:
        >>> is_writable("ünï"), is_writable("\udcff")
        (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def class_name(label: Any, number: int | None) -> str | None:  # noqa: ANN401 - datasets' ClassLabel
    """The name of a class of a ``ClassLabel`` column; None for a row without one, which may be written as -1."""
    return None if number is None or number < 0 else str(label.int2str(number))


@dataclass(frozen=True)
class Place:
    """Where a row is, for messages.

    Attributes:
        file: or what else holds the rows.
        row: its number from 0, or another way to say which.
        columns: field of :class:`Record` to the name of its column.
    """

    file: str
    row: int | str
    columns: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.file}, {f'row {self.row}' if isinstance(self.row, int) else self.row}"

    def refuse(self, field: str, value: object, possible: str) -> DataError:
        """An error that says what a field of the row holds, and what it may hold."""
        column = self.columns.get(field, field)
        return DataError(
            f"{self}: '{column}' holds {describe(value)}; possible is {possible}. Change these values, or "
            f"name another column as --data.columns.{field}"
        )


def describe(value: object) -> str:
    """Type of a value, and how it begins.

    Example:
        >>> describe([1, 2])
        'list of int ([1, 2])'
    """
    value = _plain(value)
    kind = type(value).__name__
    if isinstance(value, list | tuple) and value:
        kind += " of " + " and ".join(dict.fromkeys(type(item).__name__ for item in value[:100]))
    begin = ascii(value[:20] if isinstance(value, list | tuple | str | bytes) else value)
    return f"{kind} ({begin if len(begin) < 60 else begin[:60] + '…'})"


def record(row: Mapping[str, Any], number: int, place: Place) -> Record:
    """The record of a row.

    Args:
        row: field of :class:`Record` to the value of its column; fields may be missing.
        number: of the row, for one without a file name.
        place: of the row, for messages.

    Raises:
        DataError: naming file, row and column of a value that is not possible.
    """
    captions = _captions(row.get("captions"), place)
    values = _numbers(row.get("values"), place)
    name = _scalar("filename", row.get("filename"), place)
    name = name if name is not None and name.strip() else f"{ROW}{number}"
    if values is not None and len(values) != len(captions):
        raise DataError(
            f"{place}: '{name}' has {len(captions)} captions and {len(values)} values of captions: give one for each, "
            "or name another column as --data.columns.values"
        )
    return Record(
        name,
        tuple(caption for caption in captions if caption is not None),
        _scalar("scene", row.get("scene"), place),
        values and tuple(value for value, caption in zip(values, captions, strict=True) if caption is not None),
    )


def _plain(value: object) -> Any:  # noqa: ANN401
    """Arrays and their scalars as Python has them."""
    return value.tolist() if hasattr(value, "tolist") else value


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _string(field: str, value: str, place: Place) -> str:
    """The string, if it can be written anywhere."""
    if not is_writable(value):
        raise place.refuse(field, value, "text; this has half of a character")
    return value


def _scalar(field: str, value: object, place: Place) -> str | None:
    """A file name or a scene: text as it is, numbers and dates as text; None where there is none."""
    value = _plain(value)
    if _missing(value):
        return None
    if isinstance(value, bytes | bytearray | memoryview | Mapping) or (
        not isinstance(value, str) and hasattr(value, "__iter__")
    ):
        raise place.refuse(field, value, "a string or a number")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps
    return _string(field, os.fspath(value) if isinstance(value, os.PathLike) else str(value), place)


def _captions(value: object, place: Place) -> tuple[str | None, ...]:
    """A string is one caption; of a list, each is one, and None where it is missing."""
    value = _plain(value)
    if _missing(value):
        return ()
    if isinstance(value, Mapping):
        return _captions(_of_object(value, place), place)
    if isinstance(value, list | tuple):
        return tuple(_caption(item, place) for item in value)
    return (_caption(value, place),)


def _caption(value: object, place: Place) -> str | None:
    value = _plain(value)
    if isinstance(value, Mapping):
        value = _of_object(value, place)
    if _missing(value):
        return None
    if not isinstance(value, str):
        raise place.refuse(
            "captions", value, "a string, a list of strings, or objects with " + " or ".join(CAPTION_KEYS)
        )
    if match := WRITTEN_OUT.match(value):
        what = "an object" if "{" in match[0][:3] else "a list"
        raise place.refuse("captions", value, f"a string or a list of strings; this is {what} that was written as text")
    if value in MISSING:
        return None
    return _string("captions", value, place)


def _of_object(value: Mapping[Any, Any], place: Place) -> object:
    """The caption of an object such as ``{"raw": "a plane .", "tokens": ["a", "plane"]}``."""
    for key in CAPTION_KEYS:
        if key in value:
            return value[key]
    raise place.refuse("captions", dict(value), "an object with " + " or ".join(CAPTION_KEYS))


def _numbers(value: object, place: Place) -> tuple[float, ...] | None:
    """The values of the captions; None where the row has none."""
    value = _plain(value)
    if _missing(value):
        return None
    numbers: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    possible = "a list of numbers, one for each caption"
    if not all(isinstance(number, Real | Decimal) and not isinstance(number, bool) for number in numbers):
        raise place.refuse("values", value, possible)
    try:
        floats = tuple(float(number) for number in numbers)  # type: ignore[arg-type]
    except OverflowError as error:
        raise place.refuse("values", value, possible) from error
    if not all(map(math.isfinite, floats)):
        raise place.refuse("values", value, possible)
    return floats
