"""Recall over 10,000 images and 50,000 captions, on one thread: against argsort, the bare product, and in memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch
from ratios import Row, compare, growth, seconds
from torch import Tensor

from rsretrieval.metrics import retrieval_recall
from rsretrieval.metrics.functional import ranks_of_pairs

IMAGES, CAPTIONS = 10_000, 5  # captions an image
NOISE = {64: 2.85, 512: 8.2}  # of a caption, times the length of its image's embedding; R@10 is near 50 % with these
SAMPLE = 100  # images that are ranked row by row, and as many captions of theirs; 1 % of all queries
ALLOWED = 500e6  # bytes over the inputs


def embeddings(width: int, images: int = IMAGES) -> tuple[Tensor, Tensor, Tensor]:
    """Images ``(N, d)``, captions ``(M, d)``, of which one in twenty repeats another image's, and their owners."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, width, generator=generator)
    image /= image.norm(dim=1, keepdim=True)
    text = torch.randn(images * CAPTIONS, width, generator=generator).mul_(NOISE[width] * width**-0.5)
    text.view(images, CAPTIONS, width).add_(image[:, None])
    text /= text.norm(dim=1, keepdim=True)
    copies, originals = torch.randperm(len(text), generator=generator)[: len(text) // 10].chunk(2)
    text[copies] = text[originals]
    return image, text, torch.arange(images).repeat_interleave(CAPTIONS)


def places(queries: Tensor, gallery: Tensor, own: Tensor) -> Tensor:
    """Place of the first own item of each query, row by row with argsort; ``own`` is ``(queries, gallery)``, bool."""
    found = [
        int(is_own[(gallery @ query).argsort(descending=True)].nonzero()[0, 0])
        for query, is_own in zip(queries, own, strict=True)
    ]
    return torch.tensor(found)


def against_argsort(image: Tensor, text: Tensor, owners: Tensor) -> Row:
    """How many times faster; a hundredth of the queries is ranked with argsort, and its time scaled."""
    some, texts = torch.arange(SAMPLE), torch.arange(SAMPLE * CAPTIONS)
    owned, owns = owners == some[:, None], torch.arange(IMAGES) == owners[texts, None]

    def reference() -> dict[str, Tensor]:
        return {"i2t": places(image[some], text, owned), "t2i": places(text[texts], image, owns)}

    ranks = ranks_of_pairs(image, text, torch.arange(len(text)), owners)
    for way, place in reference().items():  # products of other shapes round otherwise: by a place or two
        greater, foreign, _ = (count[: len(place)] for count in ranks[way])
        assert ((place >= greater - 2) & (place <= greater + foreign + 2)).all()
    rounds = [
        (seconds(lambda: retrieval_recall(image=image, text=text, owners=owners)), IMAGES / SAMPLE * seconds(reference))
        for _ in range(3)
    ]
    ours, theirs = (median(times) for times in zip(*rounds, strict=True))
    ratio = median(b / a for a, b in rounds)
    note = f"one thread; {SAMPLE / IMAGES:.0%} of the queries ranked, and the time scaled"
    return Row(f"recall, d = {image.shape[1]}", "argsort row by row", ours, theirs, ratio, ">= 20", note)


def against_product(image: Tensor, text: Tensor, owners: Tensor) -> Iterator[Row]:
    """How many times as long as one product of all images with all captions.

    Once in blocks of images times all captions, written over each other; and for the smaller width, where it differs,
    in blocks that stay in the cache, which is the fastest way that was found, and has no bound.
    """
    scores = torch.empty(1024, len(text))

    def recall() -> dict[str, float]:
        return retrieval_recall(image=image, text=text, owners=owners)

    def product() -> None:
        for rows in torch.split(image, 1024):
            torch.mm(rows, text.T, out=scores[: len(rows)])

    def cached_product() -> None:
        for rows in torch.split(image, 1024):
            for columns in torch.split(text, 1024):
                rows @ columns.T

    figures = recall()
    what = f"recall, d = {image.shape[1]}"
    note = f"one thread, both directions; R@10 {figures['i2t_R@10']:.0f} % i2t, {figures['t2i_R@10']:.0f} % t2i"
    yield compare(
        what, "one product, 1,024 images @ text.T at a time", recall, product, must="<= 2.5", rounds=3, note=note
    )
    if image.shape[1] == min(NOISE):
        yield compare(
            what, "one product, in blocks of 1,024 x 1,024", recall, cached_product, rounds=3, note="one thread"
        )


def memory(width: int) -> Row:
    """Peak over the inputs, of a process of its own."""
    grown = float(subprocess.check_output([sys.executable, __file__, str(width)], cwd=Path(__file__).parent))
    return Row(
        f"recall's memory, d = {width}", "500 MB over the inputs", grown, ALLOWED, grown / ALLOWED, "<= 1",
        unit="bytes",
    )  # fmt: skip


def peak_growth(width: int) -> int:
    """Bytes by which recall's peak exceeds what the process holds before it, inputs and libraries."""
    image, text, owners = embeddings(width)
    retrieval_recall(image=image[:10], text=text[: 10 * CAPTIONS], owners=owners[: 10 * CAPTIONS])  # loads libraries
    return growth(partial(retrieval_recall, image=image, text=text, owners=owners))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    torch.set_num_threads(1)
    for width in NOISE:
        inputs = embeddings(width)
        if width == 64:
            yield against_argsort(*inputs)
        yield from against_product(*inputs)
        if Path("/proc/self/status").exists():  # Linux
            yield memory(width)


if __name__ == "__main__":
    print(peak_growth(int(sys.argv[1])))  # noqa: T201
