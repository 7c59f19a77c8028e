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
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]
Operation = Callable[[Array, Random], Array]
Transform = Callable[[Image.Image], Array]
LEVELS = np.arange(256)


def resize(image: Array, size: int) -> Array:
    """Bicubic, to a square; smoothed first where it shrinks."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    if max(height, width) > size:  # Pillow's kernel grows with the factor, OpenCV's does not
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


@dataclass(frozen=True)
class Resize:
    """To a square of ``size`` pixels."""

    size: int

    def __call__(self, image: Array, rng: Random) -> Array:
        """See :func:`resize`."""
        return resize(image, self.size)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part (Szegedy et al., "Going deeper with convolutions", CVPR 2015), as a square of ``size`` pixels.

    Attributes:
        size: in pixels.
        scale: bounds of the part's share of the area.
        ratio: bounds of its width over its height, drawn on a logarithmic scale.
    """

    size: int
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, image: Array, rng: Random) -> Array:
        """The part; where ten draws do not fit, the largest square in the middle."""
        height, width = image.shape[:2]
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
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

    def __call__(self, image: Array, rng: Random) -> Array:
        """A mirrored copy, or the image."""
        return np.asarray(cv2.flip(image, self.axis), np.uint8) if rng.random() < self.p else image


@dataclass(frozen=True)
class QuarterTurn:
    """Turn by a random multiple of 90 degrees: from above there is no up."""

    def __call__(self, image: Array, rng: Random) -> Array:
        """A turned copy, or the image."""
        return np.ascontiguousarray(np.rot90(image, rng.randrange(4)))


def _look_up(image: Array, tables: NDArray[Any]) -> Array:
    """Each channel's values in its row of ``tables`` ``(3, 256)``."""
    return np.asarray(cv2.LUT(image, np.clip(tables, 0, 255).astype(np.uint8).T[None]), np.uint8)


def _histogram(image: Array) -> NDArray[np.int64]:
    """``(3, 256)`` pixels of each value."""
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return np.stack(counts).astype(np.int64)


def auto_contrast(image: Array, magnitude: float = 0.0) -> Array:
    """Stretch each channel to 0 … 255."""
    there = _histogram(image) > 0
    low, high = there.argmax(1)[:, None], 255 - there[:, ::-1].argmax(1)[:, None]
    stretched = np.trunc((LEVELS - low) * (255.0 / np.maximum(high - low, 1)))
    return _look_up(image, np.where(high > low, stretched, LEVELS))


def equalize(image: Array, magnitude: float = 0.0) -> Array:
    """Spread each channel's values evenly."""
    counts = _histogram(image)
    highest = 255 - (counts[:, ::-1] > 0).argmax(1)[:, None]
    step = (counts.sum(1, keepdims=True) - np.take_along_axis(counts, highest, 1)) // 255
    below = counts.cumsum(1) - counts
    return _look_up(image, np.where(step > 0, (below + step // 2) // np.maximum(step, 1), LEVELS))


def brightness(image: Array, magnitude: float) -> Array:
    """Scale by ``1 + magnitude``."""
    return np.asarray(cv2.LUT(image, np.clip(LEVELS * (1 + magnitude), 0, 255).astype(np.uint8)), np.uint8)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def sharpness(image: Array, magnitude: float) -> Array:
    """Away from the smoothed image, or towards it where ``magnitude`` is negative."""
    smooth = cv2.filter2D(image, -1, _SMOOTH)
    return np.asarray(cv2.addWeighted(image, 1 + magnitude, smooth, -magnitude, 0), np.uint8)


def _warp(image: Array, matrix: Sequence[Sequence[float]]) -> Array:
    """Output pixel to input pixel by a ``(2, 3)`` matrix; nearest, black outside."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, np.array(matrix, np.float32), image.shape[1::-1], flags=flags), np.uint8)


def shear_x(image: Array, magnitude: float) -> Array:
    """Move rows by ``magnitude`` times their height, from the top."""
    return _warp(image, [[1, magnitude, 0], [0, 1, 0]])


def shear_y(image: Array, magnitude: float) -> Array:
    """Move columns by ``magnitude`` times their distance from the left."""
    return _warp(image, [[1, 0, 0], [magnitude, 1, 0]])


def translate_x(image: Array, magnitude: float) -> Array:
    """Move by a share of the width."""
    return _warp(image, [[1, 0, round(magnitude * image.shape[1])], [0, 1, 0]])


def translate_y(image: Array, magnitude: float) -> Array:
    """Move by a share of the height."""
    return _warp(image, [[1, 0, 0], [0, 1, round(magnitude * image.shape[0])]])


def rotate(image: Array, magnitude: float) -> Array:
    """Turn by degrees about the middle."""
    cos, sin = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return _warp(image, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def identity(image: Array, magnitude: float = 0.0) -> Array:
    """The image itself."""
    return image


RAND_AUGMENT: dict[Callable[[Array, float], Array], float] = {
    identity: 0.0,
    auto_contrast: 0.0,
    equalize: 0.0,
    brightness: 0.9,
    sharpness: 0.9,
    shear_x: 0.3,
    shear_y: 0.3,
    translate_x: 150 / 331,
    translate_y: 150 / 331,
    rotate: 30.0,
}
"""The recipe's operations, which keep an aerial scene what its caption says, and their strength at full magnitude."""


@dataclass(frozen=True)
class RandAugment:
    """Random operations in a row (Cubuk et al., "RandAugment", NeurIPS 2020), each in a random direction.

    Attributes:
        operations: how many.
        magnitude: of 30.
    """

    operations: int = 2
    magnitude: float = 7.0

    def __call__(self, image: Array, rng: Random) -> Array:
        """Two of the recipe's operations, say."""
        for _ in range(self.operations):
            operation, strength = rng.choice(list(RAND_AUGMENT.items()))
            image = operation(image, rng.choice((-1, 1)) * strength * self.magnitude / 30)
        return image


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

    def __call__(self, image: Array, rng: Random) -> Array:
        """Blurred, or as it is."""
        if rng.random() >= self.p:
            return image
        window = (self.kernel, self.kernel)
        return np.asarray(cv2.GaussianBlur(image, window, rng.uniform(*self.sigma)), np.uint8)


@dataclass(frozen=True)
class RandomErasing:
    """Blacken a rectangle with a probability (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).

    Attributes:
        scale: bounds of its share of the area.
        ratio: bounds of its height over its width.
        p: probability.
    """

    scale: tuple[float, float] = (0.1, 0.2)
    ratio: tuple[float, float] = (0.3, 3.3)
    p: float = 0.5

    def __call__(self, image: Array, rng: Random) -> Array:
        """A copy where something is erased."""
        if rng.random() >= self.p:
            return image
        height, width = image.shape[:2]
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
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
        ratio: share of a cell's side that is masked.
        p: probability.
    """

    ratio: float = 0.5
    p: float = 0.5

    def __call__(self, image: Array, rng: Random) -> Array:
        """A copy where something is masked."""
        if rng.random() >= self.p:
            return image
        height, width = image.shape[:2]
        cell = max(2, height // 8 + rng.randrange(height // 3 - height // 8 + 1))
        rows, columns = (
            (np.arange(side) + rng.randrange(cell)) % cell >= self.ratio * cell  # those that are kept
            for side in (height, width)
        )
        kept = (rows[:, None] | columns[None, :]).astype(np.uint8)
        return np.asarray(cv2.bitwise_and(image, image, mask=kept), np.uint8)


def _rsitmd(size: int) -> list[Operation]:
    return [RandomResizedCrop(size), RandomFlip(axis=1), RandAugment()]


def _rsicd(size: int) -> list[Operation]:
    return [*_rsitmd(size), RandomBlur(), RandomErasing(), GridMask()]


def _aerial(size: int) -> list[Operation]:
    return [RandomResizedCrop(size), RandomFlip(axis=1), QuarterTurn()]


def _flips(size: int) -> list[Operation]:
    return [Resize(size), RandomFlip(axis=1), RandomFlip(axis=0)]


def _none(size: int) -> list[Operation]:
    return [Resize(size)]


AUGMENTATIONS: dict[str, Callable[[int], list[Operation]]] = {
    "rsicd": _rsicd,
    "rsitmd": _rsitmd,
    "aerial": _aerial,
    "flips": _flips,
    "none": _none,
}
"""The recipes of RSICD and RSITMD, crops with flips and quarter turns, flips alone, a resize alone."""


@dataclass(frozen=True)
class Pipeline:
    """Operations in a row.

    Attributes:
        operations: each an array and a source of random numbers to an array.
    """

    operations: Sequence[Operation]

    def __call__(self, image: Image.Image) -> Array:
        """An RGB image through every operation, to ``(H, W, 3)``."""
        rng = Random(int(torch.randint(2**62, ())))
        array: Array = np.asarray(image)
        for operation in self.operations:
            array = operation(array, rng)
        return array


def training(name: str, size: int) -> Transform:
    """The augmentation of that name, to ``(size, size, 3)``.

    Raises:
        ValueError: naming the augmentations there are.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"there is no augmentation '{name}'; possible are {sorted(AUGMENTATIONS)}")
    return Pipeline(AUGMENTATIONS[name](size))


def evaluation(size: int) -> Transform:
    """Resize to a square, bicubic."""
    return Pipeline(_none(size))
