"""Near-duplicates among the images of two sides: read once, hashed and maybe embedded, compared in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsretrieval.data.datasets.base import Source
from rsretrieval.data.datasets.rows import first_rows
from rsretrieval.data.perceptual_hash import Hashes, chunks, distances, hashes

if TYPE_CHECKING:
    from PIL import Image

    from rsretrieval.images import Rendering

Embed = Callable[[list[Any]], NDArray[np.float32]]
"""Images to ``(N, d)`` L2-normalised embeddings."""
EMBEDDED = 64
"""Images that are embedded at once."""


@dataclass(frozen=True)
class Side:
    """Some splits of a data set.

    Attributes:
        name: as it was given.
        source: of its rows.
        splits: of the source.
    """

    name: str
    source: Source
    splits: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.splits)})"


@dataclass(frozen=True)
class Images:
    """What is known of the images of a side.

    Attributes:
        names: of the images.
        splits: of each.
        hashes: ``(N, K)``, in ``K`` orientations.
        embeddings: ``(N, d)``; None without a model.
    """

    names: list[str]
    splits: list[str]
    hashes: Hashes
    embeddings: NDArray[np.float32] | None


class Pair(NamedTuple):
    """Two near-duplicates.

    Attributes:
        a: row of the first images.
        b: row of the second.
        distance: bits in which their hashes differ.
        cosine: of their embeddings; None without a model.
    """

    a: int
    b: int
    distance: int
    cosine: float | None


def read_images(
    side: Side, embed: Embed | None, rendering: Rendering | None, max_broken: float, *, oriented: bool = False
) -> Images:
    """Read all images of a side, block by block; those that cannot be read are counted in the log.

    Args:
        side: whose images.
        embed: images to embeddings; None for none.
        rendering: see :func:`rsretrieval.images.decode`.
        max_broken: fraction of a split's images that may be broken.
        oriented: hash each image in its 8 orientations.

    Raises:
        DataError: if too many are broken.
    """
    names: list[str] = []
    splits: list[str] = []
    hashed = [np.zeros((0, 8 if oriented else 1), np.uint64)]
    embedded: list[NDArray[np.float32]] = []
    batch: list[Image.Image] = []
    for split in side.splits:
        for name, image in _split_images(side, split, rendering, max_broken):
            names.append(name)
            splits.append(split)
            hashed.append(hashes(image, oriented=oriented)[None])
            batch += [image] if embed else []
            if embed and len(batch) == EMBEDDED:
                embedded.append(embed(batch))
                batch = []
    if embed and batch:
        embedded.append(embed(batch))
    return Images(names, splits, np.concatenate(hashed), np.concatenate(embedded) if embedded else None)


def _split_images(
    side: Side, split: str, rendering: Rendering | None, max_broken: float
) -> Iterator[tuple[str, Image.Image]]:
    """Name and pixels of each image of a split, once for all of its rows."""
    from tqdm.auto import tqdm

    from rsretrieval.data.pictures import read_pictures

    names = [record.filename for record in side.source.records(split)]
    rows = sorted(set(first_rows(names)))
    pictures = read_pictures(side.source, split, rows, max_broken, rendering)
    for row, image in tqdm(pictures, total=len(rows), desc=f"{side.name}, {split}", unit=" images"):
        yield names[row], image


def near_pairs(
    of_a: Images, of_b: Images, max_distance: int, min_cosine: float, *, same: bool = False, once: bool = False
) -> Iterator[Pair]:
    """Pairs whose hashes differ little, or whose embeddings are alike; in the order of the first images.

    Args:
        of_a: the first images, hashed as they are.
        of_b: the second images, hashed in some orientations.
        max_distance: bits in which the hashes of a pair may differ, in the best orientation.
        min_cosine: least cosine that makes a pair whatever the hashes say; for images with embeddings.
        same: both are of one data set, so that an image of the same split and name is itself.
        once: both are the same rows, so that each pair is there twice: give it as the earlier row and the later.
    """
    for rows in chunks(len(of_a.names), len(of_b.names)):
        nearest = distances(of_a.hashes[rows, 0], of_b.hashes)
        near, cosines = nearest <= max_distance, None
        if of_a.embeddings is not None and of_b.embeddings is not None:
            cosines = of_a.embeddings[rows] @ of_b.embeddings.T
            near |= cosines >= min_cosine
        for row, b in np.argwhere(near).tolist():
            a = rows.start + row
            if once and a >= b:
                continue
            if not same or (of_a.names[a], of_a.splits[a]) != (of_b.names[b], of_b.splits[b]):
                yield Pair(a, b, int(nearest[row, b]), None if cosines is None else float(cosines[row, b]))
