"""Pictures to squares of the model's size, and to tensors."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

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


def stack(images: Sequence[Pixels], out: Tensor | None = None) -> Tensor:
    """Equal arrays ``(H, W, 3)`` to ``(B, 3, H, W)``, channels last in memory as convolutions like it.

    Args:
        images: the arrays.
        out: ``(B, H, W, 3)`` uint8 to write to; None for new memory.
    """
    if out is None:
        out = torch.empty((len(images), *images[0].shape), dtype=torch.uint8)
    np.stack(images, out=out.numpy())
    return out.permute(0, 3, 1, 2)
