"""What a million and a billion images cost: hours of embedding, machines, bytes of the archive and of each index.

    python benchmarks/scale.py            # a few minutes; nothing else should be at work on the machine

Measured here: images a second of `Retriever.encode_images` (pictures decoded beforehand), and bytes a row of archives
and indexes with places on earth, as the second half of 20,000 rows adds them. Everything else is these figures times a
number of rows, and says so.
The vectors are those of benchmarks/search.py; what a search takes and finds is measured there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from embed import retriever_of
from PIL import Image
from search import Mixture

sys.path.append(str(Path(__file__).parent / "speed"))
from ratios import timed

from rsretrieval import Retriever
from rsretrieval.archive.index import build_index
from rsretrieval.embeddings import Row, table
from rsretrieval.embeddings.file import KEY, NAME
from rsretrieval.embeddings.rows import DataType
from rsretrieval.embeddings.wkb import to_wkb

ROWS, SIDE, KINDS = 20_000, 256, ("flat", "hnsw", "lancedb")
SCALES = (1_000_000, 100_000_000, 1_000_000_000)


def rate(retriever: Retriever, images: int) -> float:
    """Images a second, the median of three calls after one that does not count."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(images)]
    return images / timed(partial(retriever.encode_images, pictures))


def placed_rows(vectors: np.ndarray, dtype: DataType) -> pa.Table:
    """Tiles of a few scenes, each with its footprint."""
    rows = []
    for number in range(len(vectors)):
        west, south = number % 360 - 180.0, number // 360 % 170 - 85.0
        box = (west, south, west + 0.02, south + 0.02)
        corners = [(box[side], box[end]) for side, end in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
        name = f"scene_{number // 4096:04d}.tif"
        left, top = number % 64 * SIDE, number // 64 % 64 * SIDE
        window = (left, top, left + SIDE, top + SIDE)
        rows.append(
            Row(
                f"{name}#{','.join(map(str, window))}",
                name,
                window,
                to_wkb({"type": "Polygon", "coordinates": [corners]}),
                box,
            )
        )
    return table(rows, vectors, dtype)


def sizes(vectors: np.ndarray) -> dict[str, int]:
    """Bytes of the archive's file by data type, and of each kind of index."""
    about = {"model": {"name": "benchmark", "digest": "0"}, "written": "1", "data_type": "float32", "root": "."}
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dtype in get_args(DataType):
            content = placed_rows(vectors, dtype)
            pq.write_table(content, folder / "file", compression="zstd")
            found[dtype] = (folder / "file").stat().st_size
            if dtype == "float32":
                pq.write_table(content.replace_schema_metadata({KEY: json.dumps(about)}), folder / NAME)
        for kind in KINDS:
            found[kind] = build_index(folder, kind, rebuild=True).bytes
    return found


def bytes_a_row(width: int, rows: int) -> dict[str, float]:
    """What the second half of the rows adds, since some bytes do not depend on their number."""
    vectors = Mixture.of(width, sigma=1.0, decay=0.5).draw(rows, 0)
    half, whole = sizes(vectors[: rows // 2]), sizes(vectors)
    return {name: (whole[name] - half[name]) / (rows - rows // 2) for name in whole}


def amount(count: float) -> str:
    """Bytes.

    >>> amount(2.5e12)
    '2.5 TB'
    """
    power = min(int(np.log10(max(count, 1))) // 3, 5)
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def tables(models: list[str], images: int, rows: int) -> Iterator[str]:
    """Both tables, line by line."""
    yield (
        "| model | width | images/s | "
        + " | ".join(f"{scale:,} images" for scale in SCALES)
        + " | machines for a day |"
    )
    yield "|---|---|---|" + "---|" * (len(SCALES) + 1)
    widths = {}
    for name in models:
        retriever = retriever_of(name)
        widths[name] = retriever.model.embed_dim
        speed = rate(retriever, images)
        hours = [scale / speed / 3600 for scale in SCALES]
        cells = [f"{hour:,.0f} h" for hour in hours]
        last = hours[-1] / 24
        yield f"| {name} | {widths[name]} | {speed:.1f} | {' | '.join(cells)} | {last:,.0f} (a billion images) |"
    yield ""
    yield "| width | what | bytes a row | " + " | ".join(f"{scale:,} rows" for scale in SCALES) + " |"
    yield "|---|---|---|" + "---|" * len(SCALES)
    for width in sorted(set(widths.values())):
        for what, size in bytes_a_row(width, rows).items():
            what = f"index `{what}`" if what in KINDS else f"archive, {what}"
            yield f"| {width} | {what} | {size:,.0f} | {' | '.join(amount(size * scale) for scale in SCALES)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["rsicd-lite", "open_clip:ViT-B-32"], help="see embed.py")
    parser.add_argument("--images", type=int, default=64, help="that the rate is measured with")
    parser.add_argument("--rows", type=int, default=ROWS, help="that bytes are measured with")
    options = parser.parse_args()
    for line in tables(options.models, options.images, options.rows):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
