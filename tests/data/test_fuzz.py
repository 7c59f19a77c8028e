"""Whatever a table, a JSON or a CSV holds: it is read, or refused by an error that names the file; nothing else."""

import csv
import io
import itertools
import json
import tempfile
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import examples

from rsretrieval.data import Columns, DataError, build_source
from rsretrieval.data.datasets.layouts import CAPTIONS, NAMES
from rsretrieval.data.reader import ImageReader
from rsretrieval.data.table import build_table

FUZZ = settings(
    max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
Image.new("RGB", (4, 4)).save(_buffer := BytesIO(), "PNG")
PNG = _buffer.getvalue()


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def read_or_refused(source: str, path: Path, file: Path, columns: Columns) -> None:
    """Reads tables and images of every split; an error has to be a ``DataError`` that names the file."""
    try:
        rows = build_source(source, str(path), columns)
    except DataError as error:
        assert file.name in str(error)  # noqa: PT017 - reading it is as good
        return
    for split in ("train", "valid", "test"):
        try:
            table = build_table(rows, split, max_broken=1)
        except DataError as error:
            assert file.name in str(error)  # noqa: PT017
            continue
        assert all(isinstance(name, str) and name for name in table.names)
        assert all(isinstance(text, str) and text for texts in table.captions for text in texts)
        assert [len(values) for values in table.values] == [len(texts) for texts in table.captions]
        assert len(table.scenes) == len(table.names) == sum(table.blocks)
        for row in range(min(len(table.names), 2)):
            try:
                assert ImageReader(rows, split, table).image(row).mode == "RGB"
            except DataError as error:
                assert file.name in str(error)  # noqa: PT017


NAME = st.one_of(
    st.sampled_from(["a.png", "images\\a.png", "a.png ", "b/a.png", "../a.png", "/", "", "\0", "https://x.org/a.png"]),
    st.text(max_size=6),
)
WORDS = st.one_of(st.sampled_from(["a pond .", "two planes", "...", "", "['a', 'b']"]), st.text(max_size=8))
NUMBER = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans())
SPLIT = st.sampled_from(["train", "val", " Test", "dev", "restval", "", None, 0])


# --- Tables: a column of each of these types, under each of these names.

BYTES = st.binary(max_size=8) | st.just(PNG)
IMAGE = st.fixed_dictionaries({"bytes": st.none() | BYTES, "path": st.none() | NAME})
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), WORDS),
    "large text": (pa.large_string(), NAME),
    "text view": (pa.string_view(), NAME),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), WORDS),
    "integer": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "small integer": (pa.uint8(), st.integers(0, 255)),
    "float": (pa.float32(), st.floats(width=32)),
    "truth": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 1, 1))),
    "decimal": (pa.decimal128(5, 2), st.decimals(-9, 9, places=2).map(lambda d: Decimal(d).quantize(Decimal("0.01")))),
    "nothing": (pa.null(), st.none()),
    "bytes": (pa.binary(), BYTES),
    "image": (pa.struct({"bytes": pa.binary(), "path": pa.string()}), IMAGE),
    "path": (pa.struct({"path": pa.string()}), st.fixed_dictionaries({"path": st.none() | NAME})),
    "texts": (pa.list_(pa.string()), st.lists(st.none() | WORDS, max_size=3)),
    "large texts": (pa.large_list(pa.string()), st.lists(WORDS, max_size=3)),
    "two texts": (pa.list_(pa.string(), 2), st.lists(WORDS, min_size=2, max_size=2)),
    "numbers": (pa.list_(pa.float64()), st.lists(st.none() | st.floats(), max_size=3)),
    "nested": (pa.list_(pa.list_(pa.int8())), st.lists(st.lists(st.integers(-9, 9), max_size=2), max_size=2)),
    "raw": (pa.list_(pa.struct({"raw": pa.string()})), st.lists(st.fixed_dictionaries({"raw": WORDS}), max_size=2)),
    "tokens": (
        pa.struct({"tokens": pa.list_(pa.string())}),
        st.fixed_dictionaries({"tokens": st.lists(WORDS, max_size=2)}),
    ),
    "map": (pa.map_(pa.string(), pa.string()), st.lists(st.tuples(WORDS, WORDS), max_size=2)),
    "not UTF-8": (pa.binary(), st.sampled_from([b"\xc3(", b"a pond"])),
}
LIKELY = {
    "image": ["image", "bytes", "text", "path", "nested", "nothing"],
    "captions": ["text", "texts", "raw", "tokens", "not UTF-8", "integer"],
    "filename": ["text", "integer", "float", "nothing", "not UTF-8"],
    "scene": ["text", "integer", "truth", "float", "numbers"],
    "caption_values": ["numbers", "float", "text"],
    "split": ["text", "integer"],
}


@st.composite
def columns_of_a_table(draw: st.DrawFn) -> pa.Table:
    rows, odd = draw(st.integers(0, 4)), draw(st.sampled_from([0, 0, 1, 5]))
    required = [name for name in LIKELY if draw(st.integers(0, 9)) < (9 if name in ("image", "captions") else 3)]
    columns = {}
    for name in required:
        kinds = sorted(VALUES) if draw(st.integers(1, 6)) <= odd else LIKELY[name][: None if odd else 2]
        kind = draw(st.sampled_from(kinds))
        arrow, value = VALUES[kind]
        value = SPLIT.map(str) if name == "split" and kind == "text" else value
        values = draw(st.lists(st.none() | value, min_size=rows, max_size=rows))
        array = pa.array(values, arrow)
        columns[name] = array.view(pa.string()) if kind == "not UTF-8" else array
    return pa.Table.from_pydict(columns)


@FUZZ
@given(
    table=columns_of_a_table(),
    name=st.sampled_from(["train.parquet", "val-0.parquet", "ponds.parquet", "x_test.parquet"]),
    columns=st.builds(
        Columns,
        captions=st.sampled_from(["captions", "captions", "captions", "filename", "x"]),
        filename=st.sampled_from(["filename", "filename", None, "image", "captions"]),
        scene=st.sampled_from([None, None, "scene", "filename"]),
    ),
    damage=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 1, 40]),
)
def test_tables(table: pa.Table, name: str, columns: Columns, damage: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        try:
            pq.write_table(table, file)
        except pa.ArrowException:  # a type that parquet does not have
            return
        file.write_bytes(file.read_bytes()[: -damage or None])
        (Path(folder) / "a.png").write_bytes(PNG)
        read_or_refused("parquet", Path(folder), file, columns)


# --- JSON and CSV.

ANY = st.recursive(
    st.none() | NUMBER | WORDS | NAME,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CAPTIONS, "x"]), inner, max_size=3),
    max_leaves=6,
)
SENTENCES = st.one_of(
    WORDS,
    st.lists(st.fixed_dictionaries({"raw": WORDS}, optional={"tokens": st.just(["a"])}), max_size=3),
    st.lists(WORDS, max_size=3),
    ANY,
)
ENTRY = st.one_of(
    st.fixed_dictionaries(
        {"filename": NAME, "sentences": SENTENCES},
        optional={"split": SPLIT, "scene": ANY, "caption_values": ANY, "captions": ANY},
    ),
    st.dictionaries(st.sampled_from([*NAMES[:4], *CAPTIONS, "raw_1", "split", "scene"]), ANY, max_size=4),
    ANY,
)
GOOD = st.fixed_dictionaries(
    {
        "filename": st.sampled_from(["a.png", "b/a.png", "b.png"]) | st.integers(),
        "sentences": st.lists(st.fixed_dictionaries({"raw": st.sampled_from(["a pond .", "..."])}), max_size=3),
        "split": st.sampled_from(["train", "val", " Test", "restval"]),
    }
)
ENTRIES = st.one_of(
    st.lists(GOOD, min_size=1, max_size=4), st.lists(GOOD | ENTRY, max_size=4), st.lists(ENTRY, max_size=4)
)
JSON = st.one_of(
    ENTRIES,
    ENTRIES,
    ENTRIES.map(lambda rows: {"images": rows}),
    ENTRIES.map(lambda rows: {"images": rows}),
    st.dictionaries(st.sampled_from(["train", "val", "airport", "data", "info"]), ENTRIES | ANY, max_size=3),
    st.fixed_dictionaries({"images": ENTRIES, "annotations": ENTRIES | ANY}),
    ANY,
)
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gbk", "latin-1"]


@st.composite
def content_of_a_json(draw: st.DrawFn) -> tuple[str, bytes]:
    content, ending = draw(JSON), draw(st.sampled_from(["json", "json", "jsonl"]))
    lines = ending == "jsonl" and isinstance(content, list)
    text = "\n".join(json.dumps(row) for row in content) if lines else json.dumps(content, ensure_ascii=False)
    data = text.encode(draw(st.sampled_from(ENCODINGS)), errors="replace")
    damage = draw(st.sampled_from(["", "", "", "", "", "", "", "cut", "page", "bytes"]))
    if damage == "cut":
        data = data[: draw(st.integers(0, len(data)))]
    elif damage == "page":
        data = b"<!DOCTYPE html><html></html>"
    elif damage == "bytes":
        data = draw(st.binary(max_size=20))
    return ending, data


@st.composite
def content_of_a_csv(draw: st.DrawFn) -> tuple[str, bytes]:
    keys = st.sampled_from([*NAMES[:3], *CAPTIONS, "Caption_1", "split", "scene", "caption_values", "x"])
    usual = st.sampled_from(
        [["filename", "title"], ["title", "filename", "split"], ["file_name", "caption_1", "caption_2"]]
    )
    header = draw(usual | usual | st.lists(keys, max_size=5))
    cells = st.one_of(WORDS, NAME, st.sampled_from(["train", "0.5", "a.png", "a, b", 'a "b"', "a\nb"]))
    width = st.just(len(header)) if draw(st.integers(0, 5)) else st.integers(0, 4)
    rows = draw(st.lists(width.flatmap(lambda n: st.lists(cells, min_size=n, max_size=n)), max_size=4))
    buffer, separator = io.StringIO(newline=""), draw(st.sampled_from([",", "\t", ";"]))
    if draw(st.booleans()):
        csv.writer(buffer, delimiter=separator).writerows([header, *rows])
    else:  # without quotes
        buffer.write("\n".join(separator.join(row) for row in [header, *rows]))
    return draw(st.sampled_from(["csv", "tsv"])), buffer.getvalue().encode(
        draw(st.sampled_from(ENCODINGS)), errors="replace"
    )


@FUZZ
@given(
    content=content_of_a_json() | content_of_a_csv(),
    stem=st.sampled_from(["dataset", "x_train", "val", "湖 泊_test", "train_val"]),
    columns=st.builds(
        Columns,
        captions=st.sampled_from(["captions", "captions", "captions", "text", "scene"]),
        filename=st.sampled_from(["filename", "filename", "filename", None, "x"]),
        scene=st.sampled_from([None, None, None, "x"]),
    ),
    by_file=st.booleans(),
)
def test_json_and_csv(content: tuple[str, bytes], stem: str, columns: Columns, by_file: bool) -> None:
    ending, data = content
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{stem}.{ending}"
        file.write_bytes(data)
        (Path(folder) / "a.png").write_bytes(PNG)
        read_or_refused("folder", file if by_file else Path(folder), file, columns)


def test_the_examples_are_read_as_well_as_refused() -> None:
    """Else the two tests above would say little."""
    outcomes = dict.fromkeys(itertools.product(("parquet", "folder"), ("read", "refused")), 0)

    def count(source: str, path: Path, columns: Columns) -> None:
        try:
            build_table(build_source(source, str(path), columns), "train", max_broken=1)
        except DataError:
            outcomes[source, "refused"] += 1
        else:
            outcomes[source, "read"] += 1

    @settings(FUZZ, max_examples=100, derandomize=True, database=None)
    @given(table=columns_of_a_table(), content=content_of_a_json() | content_of_a_csv())
    def both(table: pa.Table, content: tuple[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in ("t", "f"):
                (Path(folder) / name).mkdir()
            (Path(folder) / "f" / f"train.{content[0]}").write_bytes(content[1])
            pq.write_table(table, Path(folder) / "t" / "train.parquet")
            for source, name in (("parquet", "t"), ("folder", "f")):
                count(source, Path(folder) / name, Columns())

    both()
    assert min(outcomes.values()) >= 5, outcomes
