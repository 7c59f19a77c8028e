"""One scale for a whole raster, so that its tiles become pictures alike."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.rasters.tiles import Length, Tile, Tiling
from rsretrieval.images import BrokenImageError, Scale

log = logging.getLogger(__name__)
SAMPLE = 1 << 20
"""Pixels, about, from which percentiles are taken."""
WINDOW = Tiling(Length(1024))
"""By which the exact limits are read."""
Read = Callable[[Tile], NDArray[Any] | None]


class Sized(Protocol):
    """What is asked of a raster."""

    name: str
    width: int
    height: int
    dtype: np.dtype[Any]


def limits_of(raster: Sized, scale: Scale, read: Read) -> Scale:
    """The scale with limits of the whole raster, which are logged.

    Args:
        raster: of ``width`` x ``height`` pixels.
        scale: ``percentile LOW HIGH`` becomes ``minmax`` of these percentiles of the valid values of one read of
            about 2^20 pixels, every n-th in x and in y, and what lies beyond them is clipped without a warning;
            ``minmax`` becomes that of all valid values, read once window by window. Others are given back as they are,
            and so is any if values are 8-bit, which stay as they are, or complex, which no
            scale takes. Infinite values are left out.
        read: the bands that become a picture, of a window; its pixels not averaged.

    Raises:
        BrokenImageError: naming the raster, if it has no valid value.
    """
    fixed = scale.rule == "dtype" or (scale.rule == "minmax" and scale.low is not None)
    if fixed or raster.dtype == np.uint8 or raster.dtype.kind not in "iuf":
        return scale
    if scale.rule == "percentile":
        valid = _sample(raster, read)
        low, high = (float(limit) for limit in np.percentile(valid, (scale.low or 0, scale.high or 0)))
        if not low < high:
            log.warning("%s: the percentiles of '%s' are both %g: its whole range is taken", raster.name, scale, low)
            low, high = float(valid.min()), float(valid.max())
    else:
        low, high = _range(raster, read)
    limits = Scale("minmax", low, high if low < high else low + 1, clips=True)  # of one value alone: black
    log.info("%s: '%s' of the whole raster is '%s', for all of its tiles", raster.name, scale, limits)
    return limits


def _sample(raster: Sized, read: Read) -> NDArray[Any]:
    """Valid values, evenly spread."""
    shrink = max(1.0, math.sqrt(raster.width * raster.height / SAMPLE))
    size = max(1, int(raster.width / shrink)), max(1, int(raster.height / shrink))
    valid = _finite(read(Tile(0, 0, raster.width, raster.height, *size)))
    _check(raster, valid.size)
    return valid


def _range(raster: Sized, read: Read) -> tuple[float, float]:
    """The least and the largest valid value."""
    windows = (_finite(read(tile)) for tile in WINDOW.tiles(raster.width, raster.height))
    ranges = [(values.min(), values.max()) for values in windows if values.size]
    _check(raster, len(ranges))
    return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))


def _finite(values: NDArray[Any] | None) -> NDArray[Any]:
    """Valid and finite values, ``(N,)``."""
    valid = np.ma.compressed(values) if values is not None else np.empty(0)
    return valid[np.isfinite(valid)]


def _check(raster: Sized, count: int) -> None:
    if not count:
        raise BrokenImageError(f"{raster.name}: it has no value at all: every pixel is marked as no data")
