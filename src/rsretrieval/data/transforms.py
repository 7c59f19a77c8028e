"""Augmentation of training images (FISVL's recipes), on arrays ``(H, W, 3)`` of 8-bit RGB.

The arithmetic is OpenCV's, which on one core is several times faster than torchvision's or Pillow's: loading keeps up
with a GPU on fewer processes (``benchmarks/data.py``). An image's random draws follow from one draw of torch's, so that
a stream seeds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
import torch
from PIL import Image

from rsretrieval.data.randaugment import RandAugment
from rsretrieval.images import Pixels, Square, resize

Operation = Callable[[Pixels, Random], Pixels]
Transform = Callable[[Image.Image], Pixels]


@dataclass(frozen=True)
class Resize:
    """To the square that a model sees in evaluation."""

    square: Square

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """See :class:`rsretrieval.images.Square`."""
        return self.square(image)


def _sides(area: int, scale: tuple[float, float], ratio: tuple[float, float], rng: Random) -> tuple[int, int]:
    """Sides of a random rectangle: fraction of the area within ``scale``, first over second side within ``ratio``."""
    area_drawn = area * rng.uniform(*scale)
    ratio_drawn = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(area_drawn * ratio_drawn)), round(math.sqrt(area_drawn / ratio_drawn))


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part (Szegedy et al., "Going deeper with convolutions", CVPR 2015), as a square of ``size`` pixels.

    Attributes:
        size: in pixels.
        scale: bounds of the part's fraction of the area.
        ratio: bounds of its width over its height, drawn on a logarithmic scale.
    """

    size: int
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """The part; where ten draws do not fit, the largest square in the middle."""
        height, width = image.shape[:2]
        for _ in range(10):
            w, h = _sides(height * width, self.scale, self.ratio, rng)
            if 0 < w <= width and 0 < h <= height:
                top, left = rng.randrange(height - h + 1), rng.randrange(width - w + 1)
                return resize(image[top : top + h, left : left + w], self.size)
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return resize(image[top : top + side, left : left + side], self.size)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror with a probability.

    Attributes:
        axis: 1 exchanges left and right, 0 top and bottom.
        p: probability.
    """

    axis: int
    p: float = 0.5

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """A mirrored copy, or the image."""
        return np.asarray(cv2.flip(image, self.axis), np.uint8) if rng.random() < self.p else image


@dataclass(frozen=True)
class QuarterTurn:
    """Turn by a random multiple of 90 degrees: from above there is no up."""

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """A turned copy, or the image."""
        return np.ascontiguousarray(np.rot90(image, rng.randrange(4)))


@dataclass(frozen=True)
class RandomBlur:
    """Gaussian blur with a probability.

    Attributes:
        kernel: side of the window, in pixels.
        sigma: bounds of the deviation, in pixels.
        p: probability.
    """

    kernel: int = 5
    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """Blurred, or as it is."""
        if rng.random() >= self.p:
            return image
        window = (self.kernel, self.kernel)
        return np.asarray(cv2.GaussianBlur(image, window, rng.uniform(*self.sigma)), np.uint8)


@dataclass(frozen=True)
class RandomErasing:
    """Blacken a rectangle with a probability (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).

    Attributes:
        scale: bounds of its fraction of the area.
        ratio: bounds of its height over its width.
        p: probability.
    """

    scale: tuple[float, float] = (0.1, 0.2)
    ratio: tuple[float, float] = (0.3, 3.3)
    p: float = 0.5

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """A copy where something is erased."""
        if rng.random() >= self.p:
            return image
        height, width = image.shape[:2]
        for _ in range(10):
            h, w = _sides(height * width, self.scale, self.ratio, rng)
            if h < height and w < width:
                image = image.copy()
                top, left = rng.randrange(height - h + 1), rng.randrange(width - w + 1)
                image[top : top + h, left : left + w] = 0
                break
        return image


@dataclass(frozen=True)
class GridMask:
    """Blacken a grid of squares with a probability (Chen et al., "GridMask Data Augmentation", 2020).

    Attributes:
        ratio: fraction of a cell's side that is masked.
        p: probability.
    """

    ratio: float = 0.5
    p: float = 0.5

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """A copy where something is masked."""
        if rng.random() >= self.p:
            return image
        height, width = image.shape[:2]
        cell = max(2, height // 8 + rng.randrange(height // 3 - height // 8 + 1))
        rows, columns = (
            (np.arange(side) + rng.randrange(cell)) % cell >= self.ratio * cell  # those that stay visible
            for side in (height, width)
        )
        visible = (rows[:, None] | columns[None, :]).astype(np.uint8)
        return np.asarray(cv2.bitwise_and(image, image, mask=visible), np.uint8)


def _rsitmd(size: int) -> list[Operation]:
    return [RandomResizedCrop(size), RandomFlip(axis=1), RandAugment()]


def _rsicd(size: int) -> list[Operation]:
    return [*_rsitmd(size), RandomBlur(), RandomErasing(), GridMask()]


AUGMENTATIONS: dict[str, Callable[[int], list[Operation]]] = {
    "rsicd": _rsicd,
    "rsitmd": _rsitmd,
    "aerial": lambda size: [RandomResizedCrop(size), RandomFlip(axis=1), QuarterTurn()],
    "flips": lambda size: [Resize(Square(size)), RandomFlip(axis=1), RandomFlip(axis=0)],
    "turns": lambda size: [Resize(Square(size)), RandomFlip(axis=1), QuarterTurn()],
    "none": lambda size: [Resize(Square(size))],
}
"""The recipes of RSICD and RSITMD, crops with flips and turns, whole images with flips or both, a resize alone."""
FEW_VARIANTS = frozenset({"flips", "turns", "none"})
"""Augmentations that give an image in few forms, so that what frozen networks make of them is worth keeping."""


@dataclass(frozen=True)
class Pipeline:
    """Operations in a row.

    Attributes:
        operations: each an array and a source of random numbers to an array.
    """

    operations: Sequence[Operation]

    def __call__(self, image: Image.Image) -> Pixels:
        """An RGB image through every operation, to ``(H, W, 3)``."""
        rng = Random(int(torch.randint(2**62, ())))
        array: Pixels = np.asarray(image)
        for operation in self.operations:
            array = operation(array, rng)
        return array


def training(name: str, square: Square | int) -> Transform:
    """The augmentation of that name, to ``(size, size, 3)``.

    Args:
        name: a key of :data:`AUGMENTATIONS`.
        square: of the model, or its side in pixels; where a recipe only resizes, it does so in this way.

    Raises:
        ValueError: naming the augmentations there are.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"there is no augmentation '{name}'; possible are {sorted(AUGMENTATIONS)}")
    square = Square(square) if isinstance(square, int) else square
    operations = AUGMENTATIONS[name](square.size)
    return Pipeline([Resize(square) if isinstance(operation, Resize) else operation for operation in operations])


def evaluation(square: Square | int) -> Transform:
    """To the square that a model sees."""
    return Pipeline([Resize(Square(square) if isinstance(square, int) else square)])
