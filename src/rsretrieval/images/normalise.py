"""Pixels to the numbers that a tower was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.types import Preprocessing


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """``(B, 3, H, W)`` uint8, or float in [0, 1], to float32 of the preprocessing's mean and deviation."""
    if images.dtype == torch.uint8:
        images = images.float() / 255
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (images - mean) / std
