"""Windows of several scales over a scene, and the mean of their scores at every pixel: pure arithmetic.

Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic Localization", IEEE TGRS 60, 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Windows = NDArray[np.int64]
"""``(N, 4)``: left, top, right and bottom of each, in pixels."""


def windows(width: int, height: int, scales: Sequence[int]) -> Windows:
    """Of each scale two grids whose stride is the scale, one from 0 and one from half of it.

    The last window of a row or column is moved back inside; a scene that is smaller than a scale has one window of
    that scale, itself. None comes twice.

    Args:
        width: of the scene, in pixels.
        height: of the scene, in pixels.
        scales: sides of windows, in pixels.

    Raises:
        ValueError: for no scale, or a side below 2.

    Example:
        >>> windows(5, 4, [4]).tolist()
        [[0, 0, 4, 4], [1, 0, 5, 4]]
    """
    if not scales or min(scales) < 2:
        raise ValueError(f"scales={list(scales)}: give sides of windows of 2 pixels or more")
    found: dict[tuple[int, int, int, int], None] = {}
    for scale in scales:
        across, down = min(scale, width), min(scale, height)
        for first in (0, scale // 2):
            for top in _starts(height, down, first, scale):
                for left in _starts(width, across, first, scale):
                    found[left, top, left + across, top + down] = None
    return np.array(list(found), np.int64)


def overlapping(width: int, height: int, side: int) -> Windows:
    """One grid of windows that each lie half over the next; the last of a row or column is moved back inside.

    Args:
        width: of the scene, in pixels.
        height: of the scene, in pixels.
        side: of windows, at most the scene's.

    Example:
        >>> overlapping(5, 4, 4).tolist()
        [[0, 0, 4, 4], [1, 0, 5, 4]]
    """
    columns, rows = (_starts(length, side, 0, max(1, side // 2)) for length in (width, height))
    return np.array([(left, top, left + side, top + side) for top in rows for left in columns], np.int64)


def _starts(length: int, side: int, first: int, stride: int) -> list[int]:
    last = length - side
    return list(dict.fromkeys(min(start, last) for start in range(first, max(length, first + 1), stride)))


def mean_scores(
    places: Windows, scores: NDArray[np.float32], size: tuple[int, int], shrink: int = 1
) -> NDArray[np.float32]:
    """The mean score of the windows that cover each pixel.

    Args:
        places: windows that together cover the scene.
        scores: ``(N,)``.
        size: width and height of the scene.
        shrink: a value for every so many pixels in x and in y, that of the pixel in their middle.

    Returns:
        ``(height / shrink, width / shrink)``, rounded down, 1 or more; NaN where no window lies.

    Example:
        >>> mean_scores(np.array([[0, 0, 2, 1], [1, 0, 3, 1]]), np.array([1.0, 3.0], np.float32), (3, 1)).tolist()
        [[1.0, 2.0, 3.0]]
    """
    width, height = (max(1, side // shrink) for side in size)
    left, top, right, bottom = (-(-(places - shrink // 2) // shrink)).T.clip(min=0)  # first whose middle lies inside
    edges = np.zeros((2, height + 1, width + 1))
    for layer, values in enumerate((scores.astype(np.float64), np.ones(len(scores)))):
        for row, column, sign in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
            np.add.at(edges[layer], (row.clip(max=height), column.clip(max=width)), sign * values)
    sums, counts = edges.cumsum(1).cumsum(2)[:, :-1, :-1]
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0.5)
    return np.asarray(means, np.float32)
