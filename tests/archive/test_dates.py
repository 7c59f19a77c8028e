"""Dates of tags, names and tables; a wrong one has a reason."""

import logging
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsretrieval.archive.rasters import Dated
from rsretrieval.archive.rasters.dates import from_pattern, from_tags, read_csv
from rsretrieval.embeddings import ArchiveError

MOMENT = datetime(2024, 5, 1, 10, 30, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tags", "expected", "origin"),
    [
        ({"TIFFTAG_DATETIME": "2024:05:01 10:30:07"}, MOMENT, "TIFF DateTime, which may be when .*, taken as UTC"),
        (
            {"TIFFTAG_DATETIME": "2024-05-01T10:30:07Z\0"},
            MOMENT,
            "TIFF DateTime, which may be when the file was written",
        ),
        ({"TIFFTAG_DATETIME": "2024:05:01"}, datetime(2024, 5, 1, tzinfo=UTC), "TIFF DateTime, .*, taken as UTC"),
        ({"NITF_IDATIM": "20240501103007"}, MOMENT, "NITF IDATIM"),
        ({"ACQUISITIONDATETIME": "2024-05-01 10:30:07"}, MOMENT, "IMAGERY ACQUISITIONDATETIME, taken as UTC"),
        ({"EXIF_DateTimeOriginal": "2024:05:01 10:30:07"}, MOMENT, "EXIF DateTimeOriginal, taken as UTC"),
        (
            {"EXIF_DateTimeOriginal": "2024:05:01 08:00:07", "EXIF_OffsetTimeOriginal": "-02:30"},
            MOMENT,
            "EXIF DateTimeOriginal",
        ),
        (
            {"TIFFTAG_DATETIME": "2025:01:01 00:00:00", "ACQUISITIONDATETIME": "2024-05-01T10:30:07.25"},
            MOMENT.replace(microsecond=250_000),
            "IMAGERY ACQUISITIONDATETIME, taken as UTC",
        ),
        ({"EXIF_DateTimeOriginal": "0000:00:00 00:00:00", "NITF_IDATIM": "20240501103007"}, MOMENT, "NITF IDATIM"),
    ],
)
def test_tags(tags: dict[str, str], expected: datetime, origin: str, caplog: pytest.LogCaptureFixture) -> None:
    dated = from_tags(tags, "pond.tif")
    assert dated is not None
    assert dated.datetime == expected
    assert dated.datetime.tzinfo is UTC
    assert re.fullmatch(origin, dated.origin)
    assert not caplog.records


@pytest.mark.parametrize("text", ["", "  ", "--------------", "    :  :     :  :  ", "00000000000000"])
def test_an_unknown_date_is_none(text: str, caplog: pytest.LogCaptureFixture) -> None:
    assert from_tags({"NITF_IDATIM": text, "TIFFTAG_SOFTWARE": "20240501103007"}, "pond.tif") is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024:13:01 10:30:07", "month must be in 1..12"),
        ("2024:02:30 10:30:07", "day is out of range|day .* must be in range"),
        ("1 May 2024", "not of the form YYYY:MM:DD HH:MM:SS"),
        ("20240501------", "not of the form"),
        ("0001:01:01 00:00:00+05:00", "outside the years"),
    ],
)
def test_a_wrong_tag_is_said_and_the_next_one_taken(text: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "rsretrieval")
    tags = {"ACQUISITIONDATETIME": text, "NITF_IDATIM": "20240501103007"}
    assert from_tags(tags, "pond.tif") == Dated(MOMENT, "NITF IDATIM")
    (record,) = caplog.records
    assert re.search(rf"pond\.tif: its tag ACQUISITIONDATETIME, '.*', is no date \(.*({reason})", record.getMessage())


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("a/S2A_20240501T103007_N05_20240502T000000.tif", "*_%Y%m%dT%H%M%S_*", MOMENT),
        ("20240501.tif", "%Y%m%d.tif", datetime(2024, 5, 1, tzinfo=UTC)),
        ("pond_2024-122_x.tif", "*_%Y-%j*", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024/05/01/pond.tif", "%Y/%m/%d/*", datetime(2024, 5, 1, tzinfo=UTC)),
        ("IMG99920240501.tif", "*%Y%m%d*", datetime(2024, 5, 1, tzinfo=UTC)),
        ("01.05.99+%.tif", "%d.%m.%y+%%.???", datetime(1999, 5, 1, tzinfo=UTC)),
        ("20240501103007.250.tif", "%Y%m%d%H%M%S.%f.*", MOMENT.replace(microsecond=250_000)),
    ],
)
def test_names(name: str, pattern: str, expected: datetime) -> None:
    assert from_pattern(name, pattern) == Dated(expected, f"file name by {pattern}, taken as UTC")


@pytest.mark.parametrize(
    ("name", "pattern", "message"),
    [
        ("pond.tif", "*_%Y%m%d*", r"'pond.tif' does not follow the pattern '\*_%Y%m%d\*'"),
        ("20240501x.tif", "%Y%m%d.tif", "does not follow"),
        ("20240230.tif", "%Y%m%d.tif", "gives no date by the pattern '%Y%m%d.tif': day"),
        ("2024.tif", "%Y.tif", "gives no day: it takes %Y with %m and %d, or with %j"),
        ("x", "%m%d", "gives no day"),
        ("x", "%Y%m%d%B", "has '%B': possible are"),
        ("x", "%Y%m%d%Y", "has '%Y' twice: possible are"),
        ("x", "%Y%m%d%", "has '%': possible are"),
    ],
)
def test_wrong_names(name: str, pattern: str, message: str) -> None:
    with pytest.raises(ArchiveError, match=message):
        from_pattern(name, pattern)


@given(
    moment=st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2068, 1, 1)),
    pattern=st.permutations(["%Y", "%m", "%d", "%H", "%M", "%S"]).map("_".join),
    before=st.text("ab_.", max_size=4),
)
def test_names_there_and_back(moment: datetime, pattern: str, before: str) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert from_pattern(f"{before}{moment.strftime(pattern)}.tif", f"*{pattern}.tif").datetime == moment


@given(moment=st.datetimes(min_value=datetime(1000, 1, 1)), offset=st.none() | st.integers(-14 * 60, 14 * 60))
def test_tags_there_and_back(moment: datetime, offset: int | None) -> None:
    """Against the standard library's ISO 8601."""
    zone = None if offset is None else timezone(timedelta(minutes=offset))
    moment = moment.replace(tzinfo=zone)
    try:
        expected = moment.replace(tzinfo=UTC) if zone is None else moment.astimezone(UTC)
    except OverflowError:
        return
    dated = from_tags({"ACQUISITIONDATETIME": moment.isoformat()}, "pond.tif")
    assert dated is not None
    assert dated.datetime == expected
    assert dated.origin.endswith("taken as UTC") == (zone is None)


def test_a_table(tmp_path: Path) -> None:
    file = tmp_path / "dates.csv"
    lines = ["\ufeffid,source,datetime", "1,a/pond.tif,2024-05-01T10:30:07Z", '2,"b,c.tif",2024-05-01T12:30:07+02:00']
    file.write_text("\n".join([*lines, "3,d.tif,2024-05-01", "3,d.tif,2024-05-01T00:00:00"]), encoding="utf-8")
    midnight = Dated(datetime(2024, 5, 1, tzinfo=UTC), "CSV, taken as UTC")
    assert read_csv(file) == {"a/pond.tif": Dated(MOMENT, "CSV"), "b,c.tif": Dated(MOMENT, "CSV"), "d.tif": midnight}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source;datetime\na;2024-05-01", "has the columns source;datetime: give source and datetime"),
        ("", r"has the columns \(none\)"),
        ("source,datetime\na,2024-05-01\nb,1 May 2024", "line 3: '1 May 2024' is no date: write ISO 8601"),
        ("source,datetime\na,2024-02-30", "line 2: '2024-02-30' is no date"),
        ("source,datetime\na,", "line 2: there is no datetime: leave the line out"),
        ("source,datetime\na", "line 2: there is no datetime"),
        ("source,datetime\n,2024-05-01", "line 2: there is no source"),
        ("source,datetime\na,2024-05-01\na,2024-05-02", "line 3: 'a' has another date in a line before"),
        ("source,datetime\na,0001-01-01T00:00:00+05:00", "line 2: '.*' is no date"),
    ],
)
def test_a_wrong_table(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "dates.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ArchiveError, match=f"dates.csv'.*{message}"):
        read_csv(file)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"dates\.csv' cannot be read"):
        read_csv(tmp_path / "dates.csv")
    (tmp_path / "dates.csv").write_bytes(b"source,datetime\n\xff,2024-05-01")
    with pytest.raises(ArchiveError, match=r"dates\.csv' cannot be read as a table in UTF-8"):
        read_csv(tmp_path / "dates.csv")
