"""Pictures of more bands than a screen shows, for models that were trained on them: values as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from rsretrieval.images.errors import RenderingError
from rsretrieval.images.samples import samples


def band_square(image: object, size: int, bands: int) -> NDArray[np.float32]:
    """A picture's values as a square; bilinear, smoothed where it shrinks.

    Args:
        image: an array or tensor ``(H, W, bands)``, or a path that rasterio reads.
        size: side of the square, in pixels.
        bands: that the model takes.

    Returns:
        ``(size, size, bands)`` in the units of the picture's values.

    Raises:
        RenderingError: for another number of bands.
    """
    values: Any = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image
    if not isinstance(values, np.ndarray):
        values = samples(values)
    count = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or count != bands:
        raise RenderingError(
            f"this model takes images of {bands} bands, and this one has {count} (shape {values.shape}): give arrays "
            f"(H, W, {bands}), bands in the order of the model's card"
        )
    channels = torch.from_numpy(np.ma.filled(values, 0).astype(np.float32)).permute(2, 0, 1)[None]
    square = interpolate(channels, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return np.ascontiguousarray(square[0].permute(1, 2, 0).numpy())
