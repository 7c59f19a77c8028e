"""Indexes of an archive: time to build, memory, time of one query and recall@10, as a table in Markdown.

    python benchmarks/search.py                                   # 10 k and 100 k vectors of width 512
    python benchmarks/search.py --rows 10000 100000 1000000 --width 512 1024

Vectors are of a mixture of 1,000 Gaussians, seed 0. Means and deviations share a spectrum, of standard deviation
``i ** -decay`` in dimension ``i``, and deviations are ``--sigma`` times as long as means. With 0.5 and 1 the cosine of
two vectors of a Gaussian is about 0.5, and that of two of different ones 0 with a deviation near 0.2: they overlap, and
few dimensions hold most of the variance, as with the embeddings of models. ``--decay 0`` makes them round: Gaussians
then lie far apart, and all vectors within one are about equally near.

Queries are fresh draws, one at a time, k = 10, after 20 others to warm up. Memory is the growth of the resident set
over opening the index and all queries, in a process of their own; of a memory-mapped file that counts touched pages.
The targets (issue 17): hnsw under 10 ms (p50) with recall of 0.95 or more at 1 M, on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsretrieval.archive.index import build_index, open_index
from rsretrieval.archive.index.measure import recall
from rsretrieval.embeddings import Row, table
from rsretrieval.embeddings.file import KEY, NAME
from rsretrieval.lazy import needs

BLOCK = 8192
HEADER = "| width | rows | kind | build, s | on disk, MB | memory, MB | p50, ms | p95, ms | recall@10, queries | rows |"


class Mixture(NamedTuple):
    """1,000 Gaussians on the sphere."""

    means: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, width: int, sigma: float, decay: float) -> Mixture:
        """Of a spectrum; see the head of this file."""
        spectrum = np.arange(1, width + 1, dtype=np.float32) ** -decay
        means = np.random.default_rng(0).standard_normal((1000, width), dtype=np.float32) * spectrum
        return cls(means, np.float32(sigma) * spectrum)

    def draw(self, count: int, seed: int) -> NDArray[np.float32]:
        """``(count, width)``, L2-normalised."""
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((count, len(self.scale)), dtype=np.float32) * self.scale
        vectors = self.means[rng.integers(0, len(self.means), count)] + noise
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def write(folder: Path, rows: int, mixture: Mixture) -> None:
    """An archive in float32, block by block, in the order that vectors are drawn."""
    about = {"model": {"name": "benchmark", "digest": "0"}, "written": "1", "data_type": "float32", "root": "."}
    form = _part(0, mixture, 1).schema.with_metadata({KEY: json.dumps(about)})
    partial = folder / f"{NAME}.partial"
    with pq.ParquetWriter(partial, form, compression="none") as writer:
        for start in range(0, rows, BLOCK):
            part = _part(start, mixture, min(BLOCK, rows - start))
            writer.write_table(part.replace_schema_metadata(form.metadata))
    partial.rename(folder / NAME)


def _part(start: int, mixture: Mixture, count: int) -> pa.Table:
    names = [f"{number:08d}.png" for number in range(start, start + count)]
    rows = [Row(name, name, (0, 0, 224, 224)) for name in names]
    return table(rows, mixture.draw(count, 1 + start), "float32").drop_columns(["geometry", "bbox"])


def ask(folder: Path, kind: str, queries: NDArray[np.float32]) -> tuple[float, list[float], float]:
    """Growth of memory in MB, milliseconds of each query, and recall; in a process that has not built the index."""
    warm = np.ones((1, queries.shape[1]), np.float32)
    needs("lancedb" if kind == "lancedb" else "faiss", "archive")
    before = psutil.Process().memory_info().rss
    opened = open_index(folder, kind)
    times = []
    for query in (*[warm] * 20, *queries[:, None]):
        start = time.perf_counter()
        opened.index.search(query, 10)
        times.append(1e3 * (time.perf_counter() - start))
    memory = psutil.Process().memory_info().rss - before
    return memory / 1e6, times[20:], recall(opened.index, queries, opened.embeddings.vectors())


def measure(folder: Path, kind: str, queries: NDArray[np.float32]) -> list[str]:
    """The cells of a kind's row."""
    report = build_index(folder, kind)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        memory, times, fresh = process.submit(ask, folder, kind, queries).result()
    p50, p95 = np.quantile(times, [0.5, 0.95])
    sizes = [f"{report.seconds:.1f}" if report.added else "built before", f"{report.bytes / 1e6:.0f}", f"{memory:.0f}"]
    return [kind, *sizes, f"{p50:.2f}", f"{p95:.2f}", f"{fresh:.4f}", f"{report.recall_at_10:.4f}"]


@contextmanager
def place(args: Any, name: str) -> Iterator[str]:  # noqa: ANN401
    """A folder for an archive of that name; it goes afterwards, unless it is to be kept."""
    if args.keep is None:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            yield folder
    else:
        folder = str(Path(args.keep) / name)
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield folder


def lines(args: Any) -> Iterator[str]:  # noqa: ANN401
    """Lines of the table, as they are measured."""
    yield HEADER
    yield "|---" * HEADER.count("| ") + "|"
    for width in args.width:
        mixture = Mixture.of(width, args.sigma, args.decay)
        queries = mixture.draw(args.queries, 10**9)
        for rows in args.rows:
            with place(args, f"{width}-{rows}-{args.sigma}-{args.decay}") as folder:
                if not (Path(folder) / NAME).is_file():
                    write(Path(folder), rows, mixture)
                for kind in args.kinds:
                    yield "| " + " | ".join([f"{width}", f"{rows:,}", *measure(Path(folder), kind, queries)]) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, nargs="+", default=[512])
    parser.add_argument("--kinds", nargs="+", default=["flat", "hnsw", "lancedb"])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--sigma", type=float, default=1.0, help="length of deviations over that of means")
    parser.add_argument("--decay", type=float, default=0.5, help="of the spectrum; 0 for round Gaussians")
    parser.add_argument("--folder", help="for what is generated; the system's by default")
    parser.add_argument(
        "--keep", help="a folder in which archives and indexes stay, to be asked again without building"
    )
    for line in lines(parser.parse_args()):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
