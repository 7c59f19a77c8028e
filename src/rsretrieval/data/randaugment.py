"""RandAugment (Cubuk et al., "RandAugment: Practical Automated Data Augmentation", NeurIPS 2020) of 8-bit RGB arrays.

Only the operations of FISVL's recipe, which keep an aerial scene what its caption says. Each is a function of an image
``(H, W, 3)`` and a magnitude, on OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsretrieval.images import Pixels

LEVELS = np.arange(256)


def _look_up(image: Pixels, tables: NDArray[Any]) -> Pixels:
    """Each channel's values in its row of ``tables`` ``(3, 256)``."""
    return np.asarray(cv2.LUT(image, np.clip(tables, 0, 255).astype(np.uint8).T[None]), np.uint8)


def _histogram(image: Pixels) -> NDArray[np.int64]:
    """``(3, 256)`` pixels of each value."""
    counts = [cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return np.stack(counts).astype(np.int64)


def auto_contrast(image: Pixels, magnitude: float = 0.0) -> Pixels:
    """Stretch each channel to 0 … 255."""
    occurs = _histogram(image) > 0
    low, high = occurs.argmax(1)[:, None], 255 - occurs[:, ::-1].argmax(1)[:, None]
    stretched = np.trunc((LEVELS - low) * (255.0 / np.maximum(high - low, 1)))
    return _look_up(image, np.where(high > low, stretched, LEVELS))


def equalize(image: Pixels, magnitude: float = 0.0) -> Pixels:
    """Spread each channel's values evenly."""
    counts = _histogram(image)
    highest = 255 - (counts[:, ::-1] > 0).argmax(1)[:, None]
    step = (counts.sum(1, keepdims=True) - np.take_along_axis(counts, highest, 1)) // 255
    below = counts.cumsum(1) - counts
    return _look_up(image, np.where(step > 0, (below + step // 2) // np.maximum(step, 1), LEVELS))


def brightness(image: Pixels, magnitude: float) -> Pixels:
    """Scale by ``1 + magnitude``."""
    return np.asarray(cv2.LUT(image, np.clip(LEVELS * (1 + magnitude), 0, 255).astype(np.uint8)), np.uint8)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def sharpness(image: Pixels, magnitude: float) -> Pixels:
    """Away from the smoothed image, or towards it where ``magnitude`` is negative."""
    smooth = cv2.filter2D(image, -1, _SMOOTH)
    return np.asarray(cv2.addWeighted(image, 1 + magnitude, smooth, -magnitude, 0), np.uint8)


def _warp(image: Pixels, matrix: Sequence[Sequence[float]]) -> Pixels:
    """Output pixel to input pixel by a ``(2, 3)`` matrix; nearest, black outside."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, np.array(matrix, np.float32), image.shape[1::-1], flags=flags), np.uint8)


def shear_x(image: Pixels, magnitude: float) -> Pixels:
    """Move rows by ``magnitude`` times their height, from the top."""
    return _warp(image, [[1, magnitude, 0], [0, 1, 0]])


def shear_y(image: Pixels, magnitude: float) -> Pixels:
    """Move columns by ``magnitude`` times their distance from the left."""
    return _warp(image, [[1, 0, 0], [magnitude, 1, 0]])


def translate_x(image: Pixels, magnitude: float) -> Pixels:
    """Move by a fraction of the width."""
    return _warp(image, [[1, 0, round(magnitude * image.shape[1])], [0, 1, 0]])


def translate_y(image: Pixels, magnitude: float) -> Pixels:
    """Move by a fraction of the height."""
    return _warp(image, [[1, 0, 0], [0, 1, round(magnitude * image.shape[0])]])


def rotate(image: Pixels, magnitude: float) -> Pixels:
    """Turn by degrees about the middle."""
    cos, sin = math.cos(math.radians(magnitude)), math.sin(math.radians(magnitude))
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return _warp(image, [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def identity(image: Pixels, magnitude: float = 0.0) -> Pixels:
    """The image itself."""
    return image


RAND_AUGMENT: dict[Callable[[Pixels, float], Pixels], float] = {
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

    def __call__(self, image: Pixels, rng: Random) -> Pixels:
        """Two of the recipe's operations, say."""
        for _ in range(self.operations):
            operation, strength = rng.choice(list(RAND_AUGMENT.items()))
            image = operation(image, rng.choice((-1, 1)) * strength * self.magnitude / 30)
        return image
