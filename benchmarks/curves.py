"""How times grow: a step's losses with the batch, recall with the images, the start of a stream with its captions.

    python benchmarks/curves.py --to docs/scaling.png      # about ten minutes; needs the extra report

Prints the points as a table and draws them, on logarithmic axes. Search is in benchmarks/search.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "speed"))
from losses import of_a_group, pairs_of, stage_one
from ratios import timed
from recall import embeddings
from stream import start, write

from rsretrieval.lazy import needs
from rsretrieval.losses import Objective, ObjectiveConfig
from rsretrieval.metrics import retrieval_recall

Points = list[tuple[int, float]]


def losses(sizes: tuple[int, ...]) -> Points:
    """Forward and backward of stage 1, d = 512, in one process."""
    objective = Objective(ObjectiveConfig())
    return [(size, timed(partial(stage_one, pairs_of(size), objective))) for size in sizes]


def losses_of_two(sizes: tuple[int, ...]) -> Points:
    """The same on two processes of one thread each: processor time of one."""
    return [(size, of_a_group(2, size)[0]) for size in sizes]


def recall(sizes: tuple[int, ...]) -> Points:
    """Exact recall of so many images and five times as many captions, d = 64, on every core."""
    points = []
    for size in sizes:
        image, text, owners = embeddings(64, size)
        points.append((size, timed(partial(retrieval_recall, image=image, text=text, owners=owners), 1)))
    return points


def streams(sizes: tuple[int, ...]) -> Points:
    """From opening the file to the order of the first epoch."""
    points = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = write(Path(folder), size)
            points.append((size, timed(partial(start, file))))
    return points


def curves(most_images: float, most_captions: float) -> Iterator[tuple[str, str, Points]]:
    """Title, axis and points of each."""
    batches, images = (64, 128, 256, 512, 1024, 2048, 4096), (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
    captions = (10_000, 100_000, 1_000_000, 5_000_000)
    yield "losses, one process", "batch", losses(batches)
    yield "losses, a rank of two", "batch", losses_of_two(batches)
    yield "recall", "images", recall(tuple(size for size in images if size <= most_images))
    yield "start of a stream", "captions", streams(tuple(size for size in captions if size <= most_captions))


def draw(found: list[tuple[str, str, Points]], to: Path) -> None:
    """Each axis is a picture of its own."""
    pyplot = needs("matplotlib.pyplot", "report")
    axes = list(dict.fromkeys(axis for _, axis, _ in found))
    figure, pictures = pyplot.subplots(1, len(axes), figsize=(4 * len(axes), 3.2), layout="constrained")
    for axis, picture in zip(axes, pictures, strict=True):
        for title, its_axis, points in found:
            if its_axis == axis:
                picture.loglog(*zip(*points, strict=True), marker="o", label=title)
        picture.set(xlabel=axis, ylabel="s")
        picture.grid(alpha=0.3)
        picture.legend()
    figure.savefig(to, dpi=110)


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path)
    parser.add_argument("--images", type=float, default=torch.inf, help="at most")
    parser.add_argument("--captions", type=float, default=torch.inf, help="at most")
    options = parser.parse_args()
    found = []
    sys.stdout.write("| | | s |\n|---|---|---|\n")
    for title, axis, points in curves(options.images, options.captions):
        found.append((title, axis, points))
        for size, time in points:
            sys.stdout.write(f"| {title} | {size:,} {axis} | {time:.4f} |\n")
        sys.stdout.flush()
    if options.to:
        draw(found, options.to)


if __name__ == "__main__":
    main()
