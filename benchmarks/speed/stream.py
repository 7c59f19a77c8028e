"""The start of a stream over a million captions, and the memory that it takes.

python benchmarks/speed/stream.py 10000 1000000 5000000      # the same for other numbers of captions, as JSON lines
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from ratios import Row, compare

from rsretrieval.data.datasets.base import Columns
from rsretrieval.data.datasets.registry import build_source
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.data.table import build_table
from rsretrieval.data.transforms import evaluation

PER_IMAGE = 5
TEXTS = ["filename", "captions"]
WORDS = (
    "a the of some many green plane planes airport terminal runway trees river bridge near beside two three large "
    "small building buildings white parked water road with and are is in field"
).split()
KINDS = ("airport", "bridge", "farmland", "harbor", "parking", "river", "school", "square")


def write(folder: Path, captions: int) -> Path:
    """A training split with images of one byte, five captions each, of 5 to 14 words."""
    rng = random.Random(0)
    images = captions // PER_IMAGE
    texts = [" ".join([*rng.choices(WORDS, k=rng.randint(5, 14)), "."]) for _ in range(images * PER_IMAGE)]
    table = pa.table(
        {
            "filename": [f"{rng.choice(KINDS)}_{number}.jpg" for number in range(images)],
            "captions": [texts[first : first + PER_IMAGE] for first in range(0, len(texts), PER_IMAGE)],
            "image": pa.array([{"bytes": b"x", "path": None}] * images),
        }
    )
    file = folder / "train-00000-of-00001.parquet"
    pq.write_table(table, file, row_group_size=10_000)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    return file


def start(file: Path) -> RetrievalStream:
    """The stream, with the batches of its first epoch."""
    source = build_source("parquet", str(file), Columns())
    stream = RetrievalStream(source, "train", build_table(source, "train"), evaluation(224), 64, train=True)
    assert len(stream) == len(stream.batches(0))
    return stream


def check(file: Path, stream: RetrievalStream) -> None:
    """Its captions are those of the file, and an epoch has each."""
    columns = pq.read_table(file, columns=TEXTS)
    assert stream.table.names == columns["filename"].to_pylist()
    for row in range(0, len(columns), 997):
        assert stream.table.captions[row] == [text[:-2] for text in columns["captions"][row].as_py()]
    assert len({(row, number) for batch in stream.batches(0) for row, number in batch.tolist()}) == 64 * len(stream)


def memory(file: Path) -> int:
    """Bytes by which a fresh process grows."""
    code = f"import stream; from pathlib import Path; print(stream.grown(Path({str(file)!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True)
    return int(done.stdout.splitlines()[-1])


def grown(file: Path) -> int:
    """Bytes by which this process grows, beyond what a small stream imports."""
    with tempfile.TemporaryDirectory() as folder:
        start(write(Path(folder), 1000))
    datasets.config.HF_DATASETS_CACHE = file.parent / "cache"
    process = psutil.Process()
    before = process.memory_info().rss
    stream = start(file)
    after = process.memory_info().rss
    assert len(stream)
    return int(after - before)


def measured(captions: int) -> list[Row]:
    """Time against reading the columns, and memory."""
    what = f"start of a stream over {captions:,} captions"
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), captions)
        check(file, start(file))
        arrays = compare(
            what,
            "pyarrow reads the columns as arrays",
            lambda: start(file),
            lambda: pq.read_table(file, columns=TEXTS),
            must="<= 2",
            note="with the first epoch's order, once the images are in arrow, as at a data set's second use",
        )
        values = compare(
            what,
            "pyarrow reads the columns to Python's lists",
            lambda: start(file),
            lambda: pq.read_table(file, columns=TEXTS).to_pydict(),
            rounds=3,
        )
        texts, grown = pq.read_table(file, columns=TEXTS).nbytes, memory(file)
    note = "the ratio is bytes a caption, of a process of its own"
    return [arrays, values, Row(what, "the columns", grown, texts, grown / captions, "<= 300", note, "bytes")]


def rows() -> Iterator[Row]:
    """Of a million captions."""
    yield from measured(1_000_000)


def main(counts: list[str]) -> None:
    """Print the figures of each number of captions."""
    for count in map(int, counts):
        arrays, values, grown = measured(count)
        figures = {"captions": count, "seconds": arrays.ours, "as arrays": arrays.reference, "bytes": grown.ours}
        print(json.dumps({**figures, "as lists": values.reference}), flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    main(sys.argv[1:])
