"""Pictures to squares of the model's size, and to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rsretrieval.types import Preprocessing

Pixels = NDArray[np.uint8]
"""An image ``(H, W, 3)`` of 8-bit RGB."""


def resize(image: Pixels, size: int) -> Pixels:
    """Bicubic, to a square; smoothed first where it shrinks."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    if max(height, width) > size:  # Pillow's kernel grows with the factor, OpenCV's does not
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


@dataclass(frozen=True)
class Square:
    """A picture to the square that a model sees.

    Attributes:
        size: side of the square, in pixels.
        resize: see :class:`rsretrieval.types.Preprocessing`, as the others.
        interpolation: between pixels.
        resampler: whose.
    """

    size: int
    resize: str = "squash"
    interpolation: str = "bicubic"
    resampler: str = "default"

    @classmethod
    def of(cls, preprocessing: Preprocessing, size: int | None = None) -> Square:
        """That of a model, or another size of it."""
        own = (preprocessing.resize, preprocessing.interpolation, preprocessing.resampler)
        return cls(size or preprocessing.image_size, *own)

    def __call__(self, image: Pixels) -> Pixels:
        """``(H, W, 3)`` to ``(size, size, 3)``, 8 bits."""
        if self.resampler == "default":
            return resize(image, self.size)
        square: Any = Image.fromarray(image)
        if self.resampler == "torchvision":
            square = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        square = self._cut(self._resized(square, image.shape[:2]))
        return np.ascontiguousarray(square.permute(1, 2, 0).numpy() if isinstance(square, Tensor) else square)

    def _resized(self, image: Any, sides: tuple[int, ...]) -> Any:  # noqa: ANN401 - a picture or a tensor
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional

        target = [self.size, self.size]
        if self.resize == "shortest":
            target = [self.size] if self.resampler == "pillow" else [self.size * side // min(sides) for side in sides]
        elif self.resize == "longest":
            target = [round(self.size * side / max(sides)) for side in sides]
        mode = InterpolationMode[self.interpolation.upper()]
        return functional.resize(image, target, interpolation=mode, antialias=True)

    def _cut(self, image: Any) -> Any:  # noqa: ANN401 - a picture or a tensor
        """The middle; open_clip rounds an odd border, transformers rounds down."""
        from torchvision.transforms.v2 import functional

        if self.resampler == "pillow" or self.resize == "longest":
            return functional.center_crop(image, [self.size, self.size])
        top, left = ((side - self.size) // 2 for side in image.shape[-2:])
        return functional.crop(image, top, left, self.size, self.size)


def stack(images: Sequence[NDArray[Any]], out: Tensor | None = None) -> Tensor:
    """Equal arrays ``(H, W, C)`` to ``(B, C, H, W)``, channels last in memory as convolutions like it.

    Args:
        images: the arrays.
        out: ``(B, H, W, C)`` uint8 or float32, as the arrays, to write to; None for new memory.
    """
    if out is None:
        kind = torch.uint8 if images[0].dtype == np.uint8 else torch.float32
        out = torch.empty((len(images), *images[0].shape), dtype=kind)
    np.stack(images, out=out.numpy())
    return out.permute(0, 3, 1, 2)
