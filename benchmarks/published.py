"""Images and texts a second of the models that come with the package, turn by turn in one process.

    python benchmarks/published.py [--images 64] [--rounds 3]     # nothing else should be at work on the machine

Random pictures of 256 pixels in memory, and as many sentences of different words; medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict

import numpy as np
from PIL import Image

from rsretrieval import Retriever
from rsretrieval.models.catalogue import published


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (options.images, 256, 256, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in pixels]
    sentences = [f"{number} planes are parked next to a terminal with many cars" for number in range(options.images)]
    models = {name: Retriever.from_pretrained(name) for name in published()}
    seconds = defaultdict(list)
    for _ in range(options.rounds):
        for name, model in models.items():
            for kind, encode, inputs in (
                ("images", model.encode_images, pictures), ("texts", model.encode_texts, sentences)
            ):  # fmt: skip
                start = time.perf_counter()
                encode(inputs)
                seconds[name, kind].append(time.perf_counter() - start)
    for (name, kind), each in seconds.items():
        print(f"{name}: {options.images / statistics.median(each):.1f} {kind}/s")  # noqa: T201 - a script's output


if __name__ == "__main__":
    main()
