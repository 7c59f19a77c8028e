"""Images a second from parquet to augmented batch, beside the same workers doing nothing but JPEG decoding.

    python benchmarks/data.py                 # 8,192 generated JPEGs of 224 px
    python benchmarks/data.py --path FOLDER   # the first of one's own parquet files (column names as RSICD's)

Also the growth of the loading processes' memory over an epoch. The targets (issue: data path): 0.6 of decoding alone
for the plain pipeline, 0.35 with RSICD's whole augmentation, growth under 5 %.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import psutil
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.shards import FEATURES
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.images import decode


def write_images(folder: Path, count: int, size: int) -> None:
    """JPEGs whose smooth noise compresses about as aerial images do, the same 256 over and over."""
    rng = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {name: [] for name in FEATURES}
    encoded: list[bytes] = []
    for _ in range(256):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=75)
        encoded.append(buffer.getvalue())
    for number in range(count):
        row = {
            "filename": f"noise_{number}.jpg",
            "captions": [f"noise {number}"],
            "image": {"bytes": encoded[number % len(encoded)], "path": None},
            "scene": "noise",
            "caption_values": [1.0],
        }
        for name, value in row.items():
            columns[name].append(value)
    datasets.Dataset.from_dict(columns, features=FEATURES).to_parquet(folder / "train-00000-of-00001.parquet")


class Decoding(IterableDataset[int]):
    """Decodes each image of a stream to an array and lets it go; gives how many."""

    def __init__(self, stream: RetrievalStream) -> None:
        self.stream, self.batches = stream, stream.batches

    def __iter__(self) -> Iterator[int]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in self.stream.batches(0)[first::step]:
            for row, _ in batch.tolist():
                np.asarray(decode(self.stream.encoded(row)))
            yield len(batch)


def resident() -> int:
    """Bytes of memory of this process and its workers."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True)))


def measure(loader: DataLoader[Any]) -> tuple[float, float]:
    """Images a second in the middle half of an epoch, and the growth of memory over it, in percent."""
    batches = iter(loader)
    total, images, start, memory = len(loader.dataset.batches(0)), 0, 0.0, 0  # type: ignore[attr-defined]
    for number in range(total):
        batch = next(batches)
        images += batch if isinstance(batch, int) else len(batch.images)
        if number == total // 4:
            images, memory, start = 0, resident(), time.perf_counter()
        if number == 3 * total // 4:  # towards the end workers are done and gone
            end, growth = time.perf_counter(), 100 * (resident() / memory - 1)
            measured = images
    return measured / (end - start), growth


def main() -> None:
    """Print one line for each pipeline, medians over the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="folder of train-*.parquet; generated images without it")
    parser.add_argument("--images", type=int, default=8192, help="how many to generate")
    parser.add_argument("--size", type=int, default=224, help="side of a batch's images, in pixels")
    spare = max((os.cpu_count() or 2) - 1, 1)  # one core for who takes the batches
    parser.add_argument("--workers", type=int, default=spare)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.path:
            write_images(Path(folder), args.images, args.size)
        plain, full = (module(args, folder, augmentation) for augmentation in ("none", "rsicd"))
        alone = Decoding(plain.stream("train", train=True))
        loaders = {
            "decoding alone": DataLoader(alone, batch_size=None, num_workers=args.workers),
            "plain": plain.train_dataloader(),
            "rsicd": full.train_dataloader(),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
        for _ in range(args.repeat):  # in turn, since a machine's speed drifts
            for name, loader in loaders.items():
                found[name].append(measure(loader))
    reference = median(speed for speed, _ in found["decoding alone"])
    for name, results in found.items():
        speed, growth = (median(values) for values in zip(*results, strict=True))
        shown = f"{name:15} {speed:7.0f} images/s  {speed / reference:5.2f} of decoding  memory {growth:+.1f} %"
        print(shown)  # noqa: T201 - a command's output


def module(args: argparse.Namespace, folder: str, augmentation: str) -> RetrievalDataModule:
    """Every image once an epoch."""
    return RetrievalDataModule(
        "parquet",
        args.path or folder,
        image_size=args.size,
        batch_size=args.batch_size,
        num_workers=args.workers,
        augmentation=augmentation,
        captions_per_image=1,
    )


if __name__ == "__main__":
    main()
