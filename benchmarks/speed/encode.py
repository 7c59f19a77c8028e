"""Embedding of pictures, files and texts against the bare towers, and beside a busy neighbour against one thread."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ratios import Row, compare

from rsretrieval import Retriever
from rsretrieval.archive.embedding import embed
from rsretrieval.images import mirrorings, normalise, stack

sys.path.append(str(Path(__file__).parents[1]))
from embed import retriever_of

BATCH, SIDE = 64, 256
ARCHITECTURE = "ViT-B-32"
WORDS = "many green trees are around a red plane parked near two white ships in the harbour beside some roads".split()


def write_pictures(folder: Path, number: int) -> list[Path]:
    """Smooth noise, which JPEG packs as it packs imagery."""
    random, files = np.random.default_rng(0), [folder / f"{n:04d}.jpg" for n in range(number)]
    folder.mkdir()
    for file in files:
        small = Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file)
    return files


def sentences(number: int) -> list[str]:
    """Of 6 to 22 words each."""
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(6, 23))) for _ in range(number)]


def image_tower(retriever: Retriever, squares: list[np.ndarray]) -> Callable[[], torch.Tensor]:
    """The image tower on batches that are in memory, normalised, with every view that the model takes the mean of."""
    config = retriever.model.config
    images = normalise(stack(squares), config.preprocessing)
    views = [batch for view in mirrorings(images, config.eval_views) for batch in torch.split(view, BATCH)]

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return torch.cat([retriever.model.image_tower(view).pooled for view in views])

    return run


def text_tower(retriever: Retriever, texts: list[str]) -> Callable[[], torch.Tensor]:
    """The text tower on batches that are tokenised."""
    batches = [retriever.model.tokenizer(texts[start : start + 128]) for start in range(0, len(texts), 128)]

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return torch.cat([retriever.model.text_tower(batch).pooled for batch in batches])

    return run


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Programs that keep every core busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(torch.get_num_threads())]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def on_one_thread(function: Callable[[], Any]) -> None:
    """Run it so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        function()
    finally:
        torch.set_num_threads(threads)


def rows_of(name: str, retriever: Retriever, folder: Path, number: int, texts: list[str]) -> Iterator[Row]:
    """Every row of one model, on so many pictures."""
    files = write_pictures(folder / "pictures", number)
    pictures = [Image.open(file).convert("RGB") for file in files]
    bare = image_tower(retriever, [retriever.square_of(picture) for picture in pictures])
    to, against = count(), "the tower on batches in memory"
    alone = torch.cat([retriever.encode_images([file]) for file in files[:4]])
    torch.testing.assert_close(retriever.encode_images(pictures)[:4], alone, atol=1e-5, rtol=0)
    ratio = partial(compare, must=">= 0.9", rounds=3, faster=True)
    yield ratio(f"{name}: encode_images, {number} pictures", against, lambda: retriever.encode_images(pictures), bare)
    yield ratio(f"{name}: encode_images, {number} files", against, lambda: retriever.encode_images(files), bare)
    yield ratio(
        f"{name}: embed, {number} files", against,
        lambda: embed(retriever, str(folder / "pictures"), folder / f"to{next(to)}", progress=False), bare,
    )  # fmt: skip
    yield ratio(
        f"{name}: encode_texts, {len(texts)} sentences", against,
        lambda: retriever.encode_texts(texts), text_tower(retriever, texts),
    )  # fmt: skip
    few = pictures[: number // 4]
    with busy_neighbour():
        yield compare(
            f"{name}: encode_images, {len(few)} pictures, every core busy already", "the same on one thread",
            lambda: retriever.encode_images(few), lambda: on_one_thread(lambda: retriever.encode_images(few)),
            must="<= 1.1", rounds=3,
        )  # fmt: skip


def rows() -> Iterator[Row]:
    """Of the model that comes with the package, and of one of open_clip with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a").mkdir(), (Path(folder) / "b").mkdir()
        yield from rows_of("rsicd-lite", retriever_of("rsicd-lite"), Path(folder) / "a", 32, sentences(512))
        yield from rows_of(
            ARCHITECTURE, retriever_of(f"open_clip:{ARCHITECTURE}"), Path(folder) / "b", 128, sentences(256)
        )
