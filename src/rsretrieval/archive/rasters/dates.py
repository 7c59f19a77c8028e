"""When a picture was taken: from its tags, its name or a table; always with where that stands."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rsretrieval.embeddings.errors import ArchiveError

log = logging.getLogger(__name__)
TAGS = {
    "ACQUISITIONDATETIME": "IMAGERY ACQUISITIONDATETIME",
    "NITF_IDATIM": "NITF IDATIM",
    "EXIF_DateTimeOriginal": "EXIF DateTimeOriginal",
    "TIFFTAG_DATETIME": "TIFF DateTime, which may be when the file was written",
}
"""GDAL's names of tags that give a date to what they are, from the surest to the least sure."""
UNKNOWN = re.compile(r"[\s0:/\-]*")
"""How EXIF and NITF write that they do not know."""
MOMENT = re.compile(
    r"(\d{4})[:/-]?(\d\d)[:/-]?(\d\d)(?:[T ]?(\d\d):?(\d\d):?(\d\d)(?:[.,](\d{1,6})\d*)?)?\s*"
    r"(?:Z|UTC|([+-])(\d\d):?(\d\d))?"
)
FIELDS = {
    "Y": r"\d{4}", "m": r"0[1-9]|1[0-2]", "d": r"0[1-9]|[12]\d|3[01]", "j": r"[0-2]\d\d|3[0-6]\d",
    "H": r"[01]\d|2[0-3]", "M": r"[0-5]\d", "S": r"[0-5]\d", "y": r"\d\d", "f": r"\d{1,6}",
}  # fmt: skip
"""Fields of ``strptime`` that a pattern may have, and what they stand for."""


class Dated(NamedTuple):
    """A moment in UTC, and where it stands."""

    datetime: datetime
    origin: str


def from_tags(tags: Mapping[str, str], name: str) -> Dated | None:
    """The date that a file's tags give; without a zone it is taken as UTC, which the origin says.

    TIFF 6.0 (``YYYY:MM:DD HH:MM:SS``), EXIF 2.32, MIL-STD-2500C (IDATIM, always UTC), GDAL's domain IMAGERY. A tag that
    cannot be understood is warned about, and the next one taken.

    Args:
        tags: by GDAL's names, see :attr:`rsretrieval.archive.rasters.raster.Raster.tags`.
        name: of the file, for the warning.

    Returns:
        None if there is no tag with a date.
    """
    for tag, origin in TAGS.items():
        text = tags.get(tag, "").strip("\0 ")
        if UNKNOWN.fullmatch(text):
            continue
        zone = tags.get("EXIF_OffsetTimeOriginal", "") if tag.startswith("EXIF") else ""
        try:
            return _dated(_moment(text + zone.strip("\0 ")), origin, is_utc=tag == "NITF_IDATIM")
        except ValueError as error:
            log.warning("%s: its tag %s, '%s', is no date (%s), and is not taken", name, tag, text, error)
    return None


def from_pattern(name: str, pattern: str) -> Dated:
    """The date in a file's name, in UTC.

    Args:
        name: of the file; its folders count only if the pattern has a ``/``.
        pattern: what the whole name looks like: ``*`` and ``?`` for any characters, and fields of ``strptime``, such as
            ``*_%Y%m%dT%H%M%S_*``. Where it fits in several ways, the first date of the name is taken. ``%y`` is of 1969
            to 2068.

    Raises:
        ArchiveError: if the pattern is not understood, or the name does not follow it, or the date does not exist.
    """
    match = expression(pattern).fullmatch(name if "/" in pattern else PurePosixPath(name).name)
    if match is None:
        raise ArchiveError(f"the name '{name}' does not follow the pattern '{pattern}'")
    fields = list(match.groupdict().items())
    try:
        moment = datetime.strptime(" ".join(text for _, text in fields), " ".join(f"%{key}" for key, _ in fields))
    except ValueError as error:
        raise ArchiveError(f"the name '{name}' gives no date by the pattern '{pattern}': {error}") from error
    return Dated(moment.replace(tzinfo=UTC), f"file name by {pattern}, taken as UTC")


def read_csv(path: Path) -> dict[str, Dated]:
    """Dates by source, from a table with the columns ``source`` and ``datetime`` (ISO 8601).

    Raises:
        ArchiveError: naming the file, and the line that is wrong: no date, or one source with two.
    """
    dates: dict[str, Dated] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as content:
            rows = csv.DictReader(content)
            if not {"source", "datetime"} <= set(rows.fieldnames or ()):
                raise ArchiveError(
                    f"'{path}' has the columns {', '.join(rows.fieldnames or ()) or '(none)'}: give source and datetime"
                )
            for row in rows:
                _add(dates, row, f"'{path}', line {rows.line_num}")
    except (OSError, UnicodeError, csv.Error) as error:
        raise ArchiveError(f"'{path}' cannot be read as a table in UTF-8: {error}") from error
    return dates


def _add(dates: dict[str, Dated], row: Mapping[str, str | None], where: str) -> None:
    source, text = row["source"], row["datetime"]
    if not source or not text:
        raise ArchiveError(f"{where}: there is no {'datetime' if source else 'source'}: leave the line out")
    try:
        date = _dated(datetime.fromisoformat(text.strip()), "CSV")
    except ValueError as error:
        raise ArchiveError(f"{where}: '{text}' is no date: write ISO 8601, such as 2024-05-01T10:30:00Z") from error
    if dates.setdefault(source, date) != date:
        raise ArchiveError(f"{where}: '{source}' has another date in a line before: leave one of the two out")


def _moment(text: str) -> datetime:
    """A date, with a zone if it states one.

    Raises:
        ValueError: saying why it is none.
    """
    match = MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("it is not of the form YYYY:MM:DD HH:MM:SS")
    zone = text[10:]
    date = "-".join(match.group(1, 2, 3)) + "T" + ":".join(part or "00" for part in match.group(4, 5, 6))
    date += f".{(match[7] or '').ljust(6, '0')}"
    if match[8]:
        date += f"{match[8]}{match[9]}:{match[10]}"
    elif zone.endswith(("Z", "UTC")):
        date += "+00:00"
    return datetime.fromisoformat(date)


def _dated(moment: datetime, origin: str, *, is_utc: bool = False) -> Dated:
    """In UTC, which it is taken for without a zone."""
    if moment.utcoffset() is None:
        return Dated(moment.replace(tzinfo=UTC), origin if is_utc else f"{origin}, taken as UTC")
    try:
        return Dated(moment.astimezone(UTC), origin)
    except OverflowError as error:
        raise ValueError(f"it is outside the years 1 to 9999 in UTC: {moment}") from error


def expression(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern of :func:`from_pattern`.

    Raises:
        ArchiveError: naming the field that is not understood, or what is missing.
    """
    parts, fields = [], []
    for part in re.findall(r"%.?|.", pattern, re.DOTALL):
        field = part[1:]
        if part in ("*", "?", "%%"):
            parts.append({"*": ".*?", "?": ".", "%%": "%"}[part])
        elif not part.startswith("%"):
            parts.append(re.escape(part))
        elif field in FIELDS and field not in fields:
            fields.append(field)
            parts.append(f"(?P<{field}>{FIELDS[field]})")
        else:
            raise ArchiveError(
                f"the pattern '{pattern}' has '{part}'{' twice' if field in fields else ''}: possible are *, ? and, "
                f"each once, {' '.join(f'%{key}' for key in FIELDS)}, such as *_%Y%m%dT%H%M%S_*"
            )
    if not ({"Y", "y"} & set(fields) and ({"m", "d"} <= set(fields) or "j" in fields)):
        raise ArchiveError(f"the pattern '{pattern}' gives no day: it takes %Y with %m and %d, or with %j")
    return re.compile("".join(parts), re.DOTALL)
