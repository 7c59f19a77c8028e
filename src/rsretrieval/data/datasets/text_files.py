"""JSON, JSON lines, CSV and TSV files, whatever their encoding says it is, with errors that name file and place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsretrieval.data.datasets.base import DataError

JSON_LINES = {".jsonl", ".ndjson"}
TABLES = {".csv", ".tsv"}
SUFFIXES = {".json", *JSON_LINES, *TABLES}
"""Endings of the files that are read."""


class NoTableError(DataError):
    """A file that is no table of images and captions, or none that can be read."""


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises:
        NoTableError: naming the file, if it cannot be read or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise NoTableError(f"'{file}' cannot be read ({error.strerror or error})") from error
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = data[error.start : error.start + 1].hex()
        raise NoTableError(
            f"'{file}' is not in {encoding.upper()} (byte 0x{byte} at {error.start}: {error.reason}); it may be in GBK "
            "or Latin-1: save it as UTF-8"
        ) from error


def read_json(file: Path) -> Any:  # noqa: ANN401
    """The content of a JSON, or the list of the values of JSON lines.

    Raises:
        NoTableError: naming the file, and where it stops to be JSON.
    """
    text = read_text(file)
    if text.lstrip()[:1] == "<":
        raise NoTableError(f"'{file}' is a web page (HTML or XML), not JSON: fetch the file itself again")
    if file.suffix.lower() in JSON_LINES:
        return _json_lines(text, file)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.count("\n") and text.lstrip()[:1] in "{[":
            try:
                return _json_lines(text, file)
            except NoTableError:
                pass  # then what is wrong with it as a whole is said
        raise NoTableError(f"'{file}' is no JSON ({error}): it may be cut off, fetch or write it again") from error


def _json_lines(text: str, file: Path) -> list[Any]:
    values = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise NoTableError(
                    f"'{file}', line {number}, is no JSON ({error}): each line is to be one value"
                ) from error
    return values


def read_cells(file: Path, separators: Sequence[str]) -> dict[str, list[tuple[int, list[str]]]]:
    """The lines of a table in text, parted in each of several ways; lines without text are left out.

    Args:
        file: CSV or TSV.
        separators: of cells, such as ``","``.

    Returns:
        By separator, number and cells of each line, the header first; without those that part nothing.

    Raises:
        NoTableError: naming file and line, if no way of parting them works.
    """
    text = read_text(file)
    if text.lstrip()[:1] == "<":
        raise NoTableError(f"'{file}' is a web page (HTML or XML), not a table: fetch the file itself again")
    tables, errors = {}, []
    for separator in separators:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
        except csv.Error as error:
            errors.append(f"line {reader.line_num}: {error}")
            continue
        if lines and len(lines[0][1]) > 1:
            tables[separator] = lines
    if not tables and errors:
        raise NoTableError(f"'{file}', {errors[0]}: put quotes around cells that hold separators or quotes")
    return tables
