"""The order of places along Hilbert's curve: what is near on the ground lies near in the file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 16


def hilbert(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.int64]:
    """Distance along the curve over the globe, for degrees; 65,536 steps a side.

    Rotation of quadrants as by J. Skilling, "Programming the Hilbert curve", 2004, for two axes.
    """
    side = 1 << BITS
    x = np.clip((longitude + 180) / 360 * side, 0, side - 1).astype(np.int64)
    y = np.clip((latitude + 90) / 180 * side, 0, side - 1).astype(np.int64)
    distance = np.zeros_like(x)
    step = side >> 1
    while step:
        right, upper = (x & step) > 0, (y & step) > 0
        distance += step * step * ((3 * right) ^ upper)
        mirrored = ~upper & right
        x, y = np.where(mirrored, side - 1 - x, x), np.where(mirrored, side - 1 - y, y)
        x, y = np.where(upper, x, y), np.where(upper, y, x)
        step >>= 1
    return distance
