"""A table's text side read in arrays is what it is row by row, and is left to rows where a value needs a look."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rsretrieval.data.captions import clean, length_values
from rsretrieval.data.datasets.base import Columns
from rsretrieval.data.datasets.holdout import hold_out
from rsretrieval.data.datasets.parquet import ParquetSource
from rsretrieval.data.datasets.ragged import Ragged, lengths
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.data.table import Table, build_table
from rsretrieval.data.transforms import evaluation
from rsretrieval.data.words import AT_ONCE, word_counts

CAPTIONS = [["Two planes, near the Terminal .", "a_b 3x", "..."], [], ["ünï planes\u00a0here", "a b c d e f"], ["x"]]
PLAIN: dict[str, Any] = {"filename": ["airport_1.jpg", "airport_22.jpg", "port_3.jpg", "7.jpg"], "captions": CAPTIONS}


def source(folder: Path, **columns: Any) -> ParquetSource:
    content = {**PLAIN, "image": [{"bytes": b"x", "path": None}] * 4, **columns}
    pq.write_table(pa.table(content), folder / "train-00000-of-00001.parquet")
    return ParquetSource(str(folder), Columns())


@hypothesis.given(st.lists(st.text(max_size=12) | st.text("aZ09 _.\t\x1c'-", max_size=300)))
@hypothesis.example([])
@hypothesis.example(["", "", "a", ""])
@hypothesis.example(["a b"] * AT_ONCE + ["", "a " * 300, "é a"])
def test_words_are_counted_as_cleaning_leaves_them(captions: list[str]) -> None:
    expected = [len(clean(caption, 10**9).split()) for caption in captions]
    assert word_counts(pa.array(["to be cut off", *captions], pa.large_string())[1:]).tolist() == expected


def test_ragged_is_a_sequence_of_lists() -> None:
    rows = Ragged.of(CAPTIONS, pa.large_string())
    assert rows == CAPTIONS
    assert rows != CAPTIONS[:3]
    assert (rows[-1], rows[1:3], pickle.loads(pickle.dumps(rows))) == (["x"], CAPTIONS[1:3], CAPTIONS)
    assert lengths(rows).tolist() == lengths(CAPTIONS).tolist() == [3, 0, 2, 1]
    assert rows.rows(np.array([True, False, False, True])) == [CAPTIONS[0], ["x"]]
    with pytest.raises(IndexError):
        rows[4]


@pytest.mark.parametrize("as_written", [False, True])
@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"scene": ["a", None, "c", ""]},
        {"caption_values": [[0.25, 0.5, 1.0], [], [0.75, 1.0], [1.0]]},
        {"captions": ["a pond .", "b", "c c", "d"], "caption_values": [0.25, 0.5, 1.0, 0.75]},
        {"split": ["train", "valid", "train", "train"]},
    ],
)
def test_arrays_give_the_table_that_rows_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], as_written: bool
) -> None:
    def table() -> Table:
        return build_table(hold_out(source(tmp_path, **columns), 0.0), "train", max_broken=1, as_written=as_written)

    assert source(tmp_path, **columns).text_columns("train") is not None
    of_arrays = table()
    monkeypatch.setattr(ParquetSource, "text_columns", lambda *_: None)
    of_rows = table()
    assert of_arrays == of_rows
    assert of_arrays.digest == of_rows.digest
    content = json.dumps([of_rows.names, list(of_rows.captions), of_rows.blocks]).encode()
    assert of_rows.digest == hashlib.blake2b(content, digest_size=16).hexdigest()  # as older checkpoints have it
    if "caption_values" not in columns and not as_written:
        values = length_values([text for texts in of_rows.captions for text in texts])
        assert [value for of_row in of_rows.values for value in of_row] == values


@pytest.mark.parametrize(
    "columns",
    [
        {"captions": [["a", None], [], [], []]},
        {"captions": [["['a', 'b']"], [], [], []]},
        {"captions": [["a pond", "array(['a', 'b'])"], [], [], []]},
        {"captions": [["{'raw': 'a'}"], [], [], []]},
        {"captions": [["a pond"], ["nan"], [], []]},
        {"captions": [[1], [], [], []]},
        {"captions": pa.array([[b"\xff"], [], [], []], pa.list_(pa.binary())).cast(pa.list_(pa.string()), safe=False)},
        {"filename": ["a", "a", "b", "c"]},
        {"filename": ["a", " ", "b", "c"]},
        {"filename": ["a", None, "b", "c"]},
        {"scene": [1, 2, 3, 4]},
        {"caption_values": [[0.5], [], [], []]},
        {"caption_values": [[0.5, 1.0, float("nan")], [], [1.0, 1.0], [1.0]]},
        {"caption_values": [[1, 1, 1], [], [1, 1], [1]]},
    ],
)
def test_what_needs_a_look_is_left_to_rows(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert source(tmp_path, **columns).text_columns("train") is None


def test_a_hold_out_of_arrays_is_that_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tables() -> list[Table]:
        divided = hold_out(source(tmp_path, scene=["a", "b", "c", "d"]), 0.5)
        return [build_table(divided, split, max_broken=1) for split in ("train", "valid")]

    of_arrays = tables()
    monkeypatch.setattr(ParquetSource, "text_columns", lambda *_: None)
    assert of_arrays == tables()


def test_an_epoch_is_laid_out_once(tmp_path: Path) -> None:
    rows = source(tmp_path)
    stream = RetrievalStream(rows, "train", build_table(rows, "train", max_broken=1), evaluation(8), 2, train=True)
    first = stream.batches(0)
    assert stream.batches(0) is first
    assert stream.batches(1) is not first
    again = stream.batches(0)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
