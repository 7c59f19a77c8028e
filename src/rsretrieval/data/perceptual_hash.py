"""Perceptual hashes of images, and which of them are near: 64 bits an image, compared in chunks.

The hash is imagehash's pHash: signs of low frequencies of a grey image of 32 x 32 pixels, 1 above their median. From
above there is no up, so one of two images is hashed in its 8 orientations.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rsretrieval.data.datasets.base import DataError

if TYPE_CHECKING:
    from PIL import Image

Hashes = NDArray[np.uint64]
SIDE = 32
"""Of the grey image that pHash makes of any, in pixels."""
COMPARED = 2**23
"""Pairs that are compared at once, which bounds the memory: about 0.2 GB."""


def phash_library() -> ModuleType:
    """The package imagehash.

    Raises:
        DataError: naming the extra that brings it, where it is not installed.
    """
    try:
        import imagehash
    except ImportError as error:
        raise DataError(
            f"looking for near-duplicates needs the package imagehash ({error}): pip install 'rsretrieval[overlap]'"
        ) from error
    return imagehash


def orientations(image: Image.Image) -> list[Image.Image]:
    """An image as it is, turned by 90, 180 and 270 degrees, and these four mirrored."""
    from PIL import Image, ImageOps

    turns = [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270]
    turned = [image, *(image.transpose(turn) for turn in turns)]
    return [*turned, *(ImageOps.mirror(one) for one in turned)]


def hashes(image: Image.Image, *, oriented: bool = False) -> Hashes:
    """The perceptual hash of an image.

    Args:
        image: of any size.
        oriented: give those of all orientations.

    Returns:
        ``(1,)``, or ``(8,)`` in the order of :func:`orientations`.
    """
    from PIL import Image

    library = phash_library()
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)  # as pHash itself would, once
    bits = [library.phash(one).hash.ravel() for one in (orientations(small) if oriented else [small])]
    return np.packbits(np.array(bits), axis=1).view(">u8").astype(np.uint64).ravel()


def distances(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Bits in which hashes differ, the fewest over the orientations of the second.

    Args:
        first: ``(N,)``.
        second: ``(M, K)``, ``K`` orientations of each.

    Returns:
        ``(N, M)``, from 0 to 64.

    Example:
        >>> distances(np.array([0b1011], np.uint64), np.array([[0b1000, 0b1111], [0, 0]], np.uint64)).tolist()
        [[1, 3]]
    """
    nearest = np.full((len(first), len(second)), 64, np.uint8)
    for orientation in second.T:
        np.minimum(nearest, np.bitwise_count(first[:, None] ^ orientation[None, :]), out=nearest)
    return nearest


def chunks(count: int, others: int) -> Iterator[slice]:
    """Slices of ``count`` rows, such that each with ``others`` columns has at most :data:`COMPARED` entries."""
    rows = max(1, COMPARED // max(others, 1))
    yield from (slice(start, min(start + rows, count)) for start in range(0, count, rows))
