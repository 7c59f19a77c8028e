"""Where in a row's picture a query is: by a tower's tokens where they tell, else by windows of two sizes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsretrieval.localization.grid import Windows, overlapping
from rsretrieval.localization.heat import Smoothing, heat_map
from rsretrieval.localization.scene import SceneWindows

WINDOWS = ((2, 4), (3, 3))
"""Of the shorter side of a picture, in how many parts it goes: a window's side, and the step to the next at most."""
LEAST = 24
"""Pixels of the shorter side below which a picture is not looked into."""
MOST_LONG = 6
"""The longer side over the shorter one, above which a picture has too many windows."""


class NoHeatError(ValueError):
    """A picture or a query that has no map."""


def looked_into(width: int, height: int) -> str | None:
    """Why a picture of that size has no map; None if it has."""
    if min(width, height) < LEAST:
        return f"the picture has less than {LEAST} pixels in a row or column"
    if max(width, height) > MOST_LONG * min(width, height):
        return f"the picture is more than {MOST_LONG} times as long as it is wide"
    return None


def places(width: int, height: int, *, tokens: bool) -> Windows:
    """Squares of a picture that are encoded: those that tokens are taken from, or those that are compared.

    The latter are of half of the shorter side, each half over the next, and of a third; 18 of a square picture.
    """
    short = min(width, height)
    if tokens:
        return overlapping(width, height, short)
    found = []
    for parts, steps in WINDOWS:
        side = -(-short // parts)
        across, down = (
            np.rint(np.linspace(0, length - side, 1 + -(-(length - side) * steps // short))).astype(int)
            for length in (width, height)
        )
        found += [(left, top, left + side, top + side) for top in down for left in across]
    return np.array(found, np.int64)


def cells(squares: Windows, count: int) -> Windows:
    """``(N · count, 4)`` the cells of squares, each a square grid of so many, row by row.

    Example:
        >>> cells(np.array([[0, 0, 4, 4]]), 4).tolist()
        [[0, 0, 2, 2], [2, 0, 4, 2], [0, 2, 2, 4], [2, 2, 4, 4]]
    """
    side = round(count**0.5)
    found = []
    for left, top, right, bottom in squares.tolist():
        across, down = (np.rint(np.linspace(*ends, side + 1)).astype(int) for ends in ((left, right), (top, bottom)))
        found += [
            (across[x], down[y], across[x + 1], down[y + 1]) for y in range(side) for x in range(side)
        ]  # fmt: skip
    return np.array(found, np.int64)


def cut(picture: Image.Image, squares: Windows) -> list[Image.Image]:
    """Parts of a picture."""
    return [picture.crop(tuple(square)) for square in squares.tolist()]


def png(found: Windows, vectors: NDArray[np.float32], query: NDArray[np.float32], size: Sequence[int]) -> bytes:
    """The map as a PNG: from blue (low) over green to red (high), and the clearer the lower.

    Args:
        found: windows or cells ``(N, 4)``.
        vectors: ``(N, d)`` of them.
        query: ``(d,)``.
        size: width and height of the picture, in pixels.
    """
    width, height = size
    side = int(max(found[0, 2] - found[0, 0], 2)) // 2 * 2 + 1
    scene = SceneWindows(found, vectors, width, height, Path())
    heat = heat_map(scene, query, Smoothing("gaussian", side))
    colours = np.dstack([heat.colours(), np.where(heat.valid, heat.values, 0).astype(np.uint8)])
    content = io.BytesIO()
    Image.fromarray(colours).resize((width, height)).save(content, "PNG")
    return content.getvalue()
