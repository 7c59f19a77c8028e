"""Pixels to the numbers that a tower was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.types import Preprocessing


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """``(B, C, H, W)`` uint8, or float in the units of the mean, to float32 around the mean, by the deviation."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (images - mean) / std
