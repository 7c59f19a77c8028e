"""How much of the image tower's speed `rsretrieval embed` keeps: images/s of both, on files of the machine's own disk.

The bare loop is the tower alone on batches that are in memory already. `embed` reads, decodes, resizes, encodes and
writes; what it does once a call (loading the model, sorting at the end) is counted apart.

    python benchmarks/embed.py [--model NAME] [--images 2000] [--side 256] [--repeat 3]

A model of `rsretrieval models list`, a folder, or open_clip:ARCHITECTURE with random weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rsretrieval import Retriever
from rsretrieval.archive.embedding import embed
from rsretrieval.archive.encode import Encoder
from rsretrieval.images import stack


def retriever_of(name: str) -> Retriever:
    """A model by name, or of an architecture with random weights."""
    if not name.startswith("open_clip:"):
        return Retriever.from_pretrained(name)
    import open_clip

    architecture = name.removeprefix("open_clip:")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.manual_seed(0)
        torch.save(open_clip.create_model(architecture, pretrained=None).state_dict(), weights)
        return Retriever.from_open_clip(architecture, str(weights), activation="gelu")


def bare(retriever: Retriever, squares: list[np.ndarray], batch: int) -> float:
    """Images/s of the tower alone."""
    batches = [stack(squares[start : start + batch]) for start in range(0, len(squares), batch)]
    with torch.inference_mode():
        retriever.model.encode_image(batches[0])
        start = time.perf_counter()
        for images in batches:
            retriever.model.encode_image(images)
        return len(squares) / (time.perf_counter() - start)


def whole(retriever: Retriever, images: Path, to: Path, batch: int) -> tuple[float, float]:
    """Images/s of `embed`'s loop, and seconds of everything else that it does."""
    run, seconds = Encoder.run, 0.0

    def timed(self: Encoder, *args: object, **more: object) -> int:
        nonlocal seconds
        start = time.perf_counter()
        count = run(self, *args, **more)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        return count

    Encoder.run = timed  # type: ignore[method-assign,assignment]
    start = time.perf_counter()
    report = embed(retriever, str(images), to, batch_size=batch, progress=False)
    Encoder.run = run  # type: ignore[method-assign]
    return report.added / seconds, time.perf_counter() - start - seconds


def main() -> None:
    """Print one line a repetition, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rsicd-lite")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    retriever = retriever_of(options.model)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        images, random = Path(folder) / "images", np.random.default_rng(0)
        images.mkdir()
        for number in range(options.images):  # smooth noise, which JPEG packs as it packs imagery
            small = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            small.resize((options.side, options.side), Image.Resampling.BICUBIC).save(images / f"{number:05d}.jpg")
        some = sorted(images.iterdir())
        squares = [retriever.square_of(file) for file in some]
        for number in range(options.repeat):
            alone = bare(retriever, squares, options.batch)
            embedded, rest = whole(retriever, images, Path(folder) / f"to{number}", options.batch)
            ratios.append(embedded / alone)
            print(  # noqa: T201
                f"{options.model}: bare {alone:.1f} images/s, embed {embedded:.1f} images/s ({embedded / alone:.3f}), "
                f"other {rest:.1f} s"
            )
    print(f"median {statistics.median(ratios):.3f} of the bare loop, {torch.get_num_threads()} threads")  # noqa: T201


if __name__ == "__main__":
    main()
