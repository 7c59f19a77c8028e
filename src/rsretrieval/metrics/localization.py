"""How well an attention map finds what was annotated: semantic localisation.

Yuan et al., "Learning to Evaluate Performance of Multi-modal Semantic Localization", IEEE TGRS 60, 2022. Figures and
constants are those of its public program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

BLURS, BLUR, NEIGHBOURHOOD = 5, 50, 1000  # times, pixels, pixels
LEAST_ATTENTION = 0.5
"""Of a centre of attention, from 0 to 1."""
REACH = 1.5
"""Radius of a region by the mean distance of its points from its centre."""
Point = tuple[int, int]


class LocalizationFigures(NamedTuple):
    """From 0 to 1.

    Attributes:
        rsu: share of the attention inside the regions, made even for their size; more is better.
        ras: how far centres of attention lie from the regions' centres; less is better.
        rda: whether one centre alone, or near ones, stand for a region; more is better.
        rmi: 0.4 rsu + 0.35 (1 - ras) + 0.25 rda.
    """

    rsu: float
    ras: float
    rda: float
    rmi: float


def localization_figures(attention: NDArray[np.uint8], regions: Sequence[NDArray[np.float64]]) -> LocalizationFigures:
    """Rsu, Ras, Rda and Rmi of a map.

    Args:
        attention: ``(H, W)`` from 0 to 255.
        regions: polygons ``(points, 2)``, x and y in pixels. Where they overlap, what an even number of them covers is
            outside, as in the public program.

    Raises:
        ValueError: for another kind of map, no region, or one of fewer than three points or without extent.

    Example:
        A map that is bright in the region alone:

        >>> attention = np.zeros((300, 300), np.uint8)
        >>> attention[100:140, 100:140] = 255
        >>> square = np.array([[100, 100], [100, 139], [139, 139], [139, 100]])
        >>> figures = localization_figures(attention, [square])
        >>> [round(value, 3) for value in figures]
        [1.0, 0.019, 1.0, 0.993]
    """
    _check(attention, regions)
    centres = attention_centres(attention)
    places = [_centre_and_radius(region) for region in regions]
    inside = [[c for c in centres if math.dist(c, centre) < radius] for centre, radius in places]
    pairs = list(zip(places, inside, strict=True))
    shift = float(np.mean([_shift(centre, radius, found) for (centre, radius), found in pairs]))
    rsu, ras = _share(attention, regions), math.expm1(3 * shift) / math.expm1(3)
    rda = float(np.mean([_concentration(radius, found) for (_, radius), found in pairs]))
    return LocalizationFigures(rsu, ras, rda, 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda)


def attention_centres(attention: NDArray[np.uint8]) -> list[Point]:
    """Where a map is highest in its surroundings, x and y in pixels, the highest first.

    Args:
        attention: ``(H, W)`` from 0 to 255.
    """
    blurred = attention
    for _ in range(BLURS):
        blurred = cv2.blur(blurred, (BLUR, BLUR))  # type: ignore[assignment]
    highest = cv2.dilate(blurred, np.ones((NEIGHBOURHOOD, NEIGHBOURHOOD), np.uint8))
    peaks = ((blurred == highest) & (blurred > 0)).astype(np.uint8)
    _, _, _, centroids = cv2.connectedComponentsWithStats(peaks, connectivity=8)
    points = [(int(x), int(y)) for x, y in centroids[1:]]  # the first is what is no peak
    bright = [(x, y) for x, y in points if attention[y, x] / 255 >= LEAST_ATTENTION]
    return sorted(bright, key=lambda point: -int(attention[point[1], point[0]]))


def _check(attention: NDArray[np.uint8], regions: Sequence[NDArray[np.float64]]) -> None:
    if attention.ndim != 2 or attention.dtype != np.uint8:
        raise ValueError(f"attention {attention.shape} {attention.dtype}: give (H, W) of 8 bits, from 0 to 255")
    if not regions:
        raise ValueError("no region: a map is compared with one polygon or more")
    for number, region in enumerate(regions):
        points = np.asarray(region)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or _centre_and_radius(points)[1] < 1:
            raise ValueError(f"region {number} {points.shape}: give (points, 2), three or more, that enclose an area")


def _centre_and_radius(region: NDArray[np.float64]) -> tuple[Point, int]:
    middle = np.mean(region, axis=0)
    distance = np.hypot(*(region - middle).T).mean()
    return (int(middle[0]), int(middle[1])), int(REACH * distance)


def _share(attention: NDArray[np.uint8], regions: Sequence[NDArray[np.float64]]) -> float:
    mask = np.zeros(attention.shape, np.uint8)
    cv2.fillPoly(mask, [np.asarray(region).astype(np.int32) for region in regions], 1)
    values = attention / 255
    inside, whole, area = float((values * mask).sum()), float(values.sum()), int(mask.sum())
    if not area:
        raise ValueError("the regions cover no pixel of the map: give them in its pixels, x before y")
    return 1 - math.exp(-0.707 * inside / (whole - inside + 1e-7) * (mask.size - area) / area)


def _shift(centre: Point, radius: int, found: Sequence[Point]) -> float:
    """Mean distance by the radius, which stands for a region that has no centre of attention."""
    return float(np.mean([math.dist(one, centre) for one in found])) / radius if found else 1.0


def _concentration(radius: int, found: Sequence[Point]) -> float:
    if len(found) < 2:
        return float(len(found))
    middle = np.mean(found, axis=0)
    spread = float(np.mean([math.dist(one, middle) for one in found]))
    return 0.5 * (1 - spread / radius) + math.exp(-0.5 * (len(found) + 2))
