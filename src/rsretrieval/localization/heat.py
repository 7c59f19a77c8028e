"""Scores of windows to a heat map of eight bits, and its peaks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rsretrieval.localization.grid import mean_scores
from rsretrieval.localization.scene import SceneWindows

MOST_PIXELS = 4_000_000
"""Of a map; a larger scene has a value for several pixels, so that a query takes less than a second."""
LARGEST_MEDIAN = 255
"""Pixels, of OpenCV."""


class SmoothingError(ValueError):
    """A smoothing that is not understood."""


@dataclass(frozen=True)
class Smoothing:
    """How a map is smoothed.

    Attributes:
        kind: ``median``, ``gaussian`` or ``none``.
        size: side of the filter in pixels of the scene, odd; the deviation of ``gaussian`` is OpenCV's for it,
            0.15 size + 0.35, as in the program of SeLo v2.
    """

    kind: str = "median"
    size: int = 251

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """From ``median 251``, ``gaussian 255`` or ``none``.

        Raises:
            SmoothingError: saying what is possible.
        """
        match = re.fullmatch(r"(median|gaussian) (\d+)|none", text.strip())
        if match is None or (match[2] and not int(match[2]) % 2):
            raise SmoothingError(f"the smoothing '{text}' is unknown: give 'median 251', 'gaussian 255' (odd), or none")
        return cls(match[1], int(match[2])) if match[1] else cls("none", 1)

    def __call__(self, heat: NDArray[np.uint8], shrink: int) -> NDArray[np.uint8]:
        """The map smoothed; a value of it stands for ``shrink`` pixels."""
        size = self.side(shrink)
        if self.kind == "none" or size == 1:
            return heat
        if self.kind == "gaussian":
            return cv2.GaussianBlur(heat, (size, size), 0)  # type: ignore[return-value]
        return cv2.medianBlur(heat, size)  # type: ignore[return-value]

    def side(self, shrink: int) -> int:
        """Of the filter, in values of a map that stand for so many pixels each.

        Raises:
            SmoothingError: for a median that is too large.
        """
        size = max(1, round(self.size / shrink) // 2 * 2 + 1)
        if self.kind == "median" and size > LARGEST_MEDIAN:
            raise SmoothingError(
                f"a median of {size} is not possible: {LARGEST_MEDIAN} pixels of the map at most, or take gaussian"
            )
        return size


class Heat(NamedTuple):
    """Where a query is found.

    Attributes:
        values: ``(height / shrink, width / shrink)`` of 8 bits, from the least to the largest mean score.
        valid: the same shape, whether there is data.
        shrink: pixels of the scene that a value stands for, in x and in y.
        low: the mean score that 0 stands for.
        high: the mean score that 255 stands for.
    """

    values: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    shrink: int
    low: float
    high: float

    def colours(self) -> NDArray[np.uint8]:
        """``(height / shrink, width / shrink, 3)``: from blue (low) over green to red (high)."""
        return np.asarray(cv2.cvtColor(cv2.applyColorMap(self.values, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)


class Peak(NamedTuple):
    """A place where a map is highest in its surroundings.

    Attributes:
        x: column, in pixels of the scene.
        y: row, in pixels of the scene.
        value: of the map, from 0 to 1.
    """

    x: int
    y: int
    value: float


def shrink_of(width: int, height: int, most_pixels: int = MOST_PIXELS) -> int:
    """How many pixels of a scene a value of its map stands for, in x and in y."""
    return max(1, math.ceil(math.sqrt(width * height / most_pixels)))


def heat_map(
    scene: SceneWindows,
    query: NDArray[np.float32],
    smoothing: Smoothing | None = None,
    most_pixels: int = MOST_PIXELS,
) -> Heat:
    """The map of a query: the mean score of the windows over each pixel, to 8 bits, smoothed.

    Args:
        scene: its windows.
        query: ``(d,)`` L2-normalised.
        smoothing: the paper's median of 251 pixels if None.
        most_pixels: of the map.
    """
    shrink = shrink_of(scene.width, scene.height, most_pixels)
    means = mean_scores(scene.places, scene.vectors @ query, (scene.width, scene.height), shrink)
    valid = ~np.isnan(means)
    low, high = float(means[valid].min()), float(means[valid].max())
    scaled = np.where(valid, 255 * (means - low) / max(high - low, 1e-12), 0).astype(np.uint8)
    return Heat((smoothing or Smoothing())(scaled, shrink), valid, shrink, low, high)


def peaks(heat: Heat, radius: int, most: int = 10, least: float = 0.5) -> list[Peak]:
    """Places where a map is highest, the highest first, none nearer to another than a radius.

    Args:
        heat: the map.
        radius: in pixels of the scene.
        most: of them.
        least: of their values, from 0 to 1.
    """
    left = np.where(heat.valid, heat.values, 0)
    reach = max(1, radius // heat.shrink)
    found: list[Peak] = []
    while len(found) < most:
        value = int(left.max())
        if not value or value < 255 * least:
            break
        y, x = _middle(left == value)
        found.append(Peak(x * heat.shrink + heat.shrink // 2, y * heat.shrink + heat.shrink // 2, value / 255))
        left[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 0
    return found


def _middle(highest: NDArray[np.bool_]) -> tuple[int, int]:
    """Row and column in the first connected area, nearest to its centroid."""
    _, labels = cv2.connectedComponents(highest.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(labels == labels[highest][0])
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return int(rows[nearest]), int(columns[nearest])
