"""Semantic localisation: against a reference of loops and scipy, and by hand."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from rsretrieval.metrics import attention_centres, localization_figures


def square(x: int, y: int, side: int) -> NDArray[np.float64]:
    """A polygon that covers ``side + 1`` pixels each way."""
    return np.array([[x, y], [x, y + side], [x + side, y + side], [x + side, y]], np.float64)


def blobs(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Some bright spots."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    attention = np.zeros((height, width))
    for _ in range(7):
        spot = rng.uniform(0, 1, 4) * [height, width, 0.6, 60]
        spread = 20 + spot[3]
        attention = np.maximum(
            attention, (0.4 + spot[2]) * np.exp(-((y - spot[0]) ** 2 + (x - spot[1]) ** 2) / spread**2)
        )
    return (255 * attention).astype(np.uint8)


def centres_by_loops(attention: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Means of 50 by 50 pixels, from 25 before to 24 behind, mirrored at the border, five times; maxima by scipy."""
    blurred = attention.astype(np.int64)
    for _ in range(5):
        padded = np.pad(blurred, ((25, 24), (25, 24)), mode="reflect")
        sums = np.cumsum(np.cumsum(np.pad(padded, ((1, 0), (1, 0))), 0), 1)
        window = sums[50:, 50:] - sums[:-50, 50:] - sums[50:, :-50] + sums[:-50, :-50]
        blurred = np.rint(window / 2500).astype(np.int64)
    peaks = (blurred == ndimage.maximum_filter(blurred, size=1000)) & (blurred > 0)
    labels, count = ndimage.label(peaks, structure=np.ones((3, 3)))
    found = []
    for label in range(1, count + 1):
        rows, columns = np.nonzero(labels == label)
        point = int(columns.mean()), int(rows.mean())
        if attention[point[1], point[0]] >= 127.5:
            found.append(point)
    return found


def figures_by_loops(attention: NDArray[np.uint8], squares: list[tuple[int, int, int]]) -> list[float]:
    """Of squares that do not overlap."""
    inside = area = 0.0
    for x, y, side in squares:
        inside += sum(
            int(attention[row, column]) / 255 for row in range(y, y + side + 1) for column in range(x, x + side + 1)
        )
        area += (side + 1) ** 2
    whole = attention.sum() / 255
    rsu = 1 - math.exp(-0.707 * inside / (whole - inside + 1e-7) * (attention.size - area) / area)
    shifts, concentrations = [], []
    for x, y, side in squares:
        centre, radius = (int(x + side / 2), int(y + side / 2)), int(1.5 * side / math.sqrt(2))
        near = [c for c in centres_by_loops(attention) if math.dist(c, centre) < radius]
        distances = [math.dist(c, centre) for c in near]
        shifts.append(sum(distances) / len(near) / radius if near else 1.0)
        if len(near) < 2:
            concentrations.append(float(len(near)))
        else:
            mean = sum(c[0] for c in near) / len(near), sum(c[1] for c in near) / len(near)
            spread = sum(math.dist(c, mean) for c in near) / len(near)
            concentrations.append(0.5 * (1 - spread / radius) + math.exp(-0.5 * (len(near) + 2)))
    shift = sum(shifts) / len(shifts)
    ras, rda = (math.exp(3 * shift) - 1) / (math.exp(3) - 1), sum(concentrations) / len(concentrations)
    return [rsu, ras, rda, 0.4 * rsu + 0.35 * (1 - ras) + 0.25 * rda]


@pytest.mark.parametrize(("seed", "height", "width"), [(0, 1000, 1000), (1, 700, 1300), (2, 1600, 400), (3, 60, 1000)])
def test_against_loops(seed: int, height: int, width: int) -> None:
    attention = blobs(seed, height, width)
    wanted = centres_by_loops(attention)
    found = attention_centres(attention)
    assert sorted(found) == sorted(wanted)
    assert [attention[y, x] for x, y in found] == sorted((attention[y, x] for x, y in found), reverse=True)
    around = [(x - 20, y - 10, 39) for x, y in wanted if x > 20 and y > 10]
    squares: list[tuple[int, int, int]] = []
    for x, y, side in (*around, (10, 5, 40), (width // 2, height // 3, 36)):
        is_apart = all(max(abs(x - other[0]), abs(y - other[1])) > 45 for other in squares)
        if is_apart and x + side < width and y + side < height:
            squares.append((x, y, side))
    assert squares
    regions = [square(*one) for one in squares]
    assert list(localization_figures(attention, regions)) == pytest.approx(figures_by_loops(attention, squares))


def test_two_centres_in_a_region_by_hand() -> None:
    """Two equal spots, 400 pixels apart, in a region of radius 530: 0.5 (1 - 200 / 530) + exp(-2)."""
    attention = np.zeros((700, 1300), np.uint8)
    for x in (200, 600):
        attention[300:401, x - 50 : x + 51] = 255
    attention[attention == 0] = 1
    region = square(150, 100, 500)
    centres = attention_centres(attention)
    assert len(centres) == 2
    assert [abs(x - wanted) < 3 for (x, _), wanted in zip(sorted(centres), (200, 600), strict=True)] == [True, True]
    spread = math.dist(*centres) / 2
    figures = localization_figures(attention, [region])
    assert figures.rda == pytest.approx(0.5 * (1 - spread / 530) + math.exp(-2))
    assert figures.rmi == pytest.approx(0.4 * figures.rsu + 0.35 * (1 - figures.ras) + 0.25 * figures.rda)


def test_a_dark_map_has_no_centre() -> None:
    """Nothing is above half: each region counts as its radius away, and none is found."""
    attention = np.full((120, 200), 100, np.uint8)
    assert attention_centres(attention) == []
    figures = localization_figures(attention, [square(10, 10, 50)])
    assert list(figures) == pytest.approx([figures.rsu, 1, 0, 0.4 * figures.rsu])
    share = 51**2 / (120 * 200)  # attention is even, so that the share is that of the area
    assert figures.rsu == pytest.approx(1 - math.exp(-0.707 * share / (1 - share) * (1 - share) / share), rel=1e-6)


def test_where_two_regions_overlap_is_outside() -> None:
    """All attention lies where both are: one of them alone has all of it, both have none but at their edges."""
    attention = np.ones((300, 300), np.uint8)
    attention[60:140, 110:140] = 200
    one, other = square(50, 50, 100), square(100, 50, 100)
    assert localization_figures(attention, [one]).rsu > 0.99
    assert localization_figures(attention, [one, other]).rsu < 0.1


@pytest.mark.parametrize(
    ("attention", "regions", "message"),
    [
        (np.zeros((9, 9)), [square(1, 1, 5)], r"attention \(9, 9\) float64: give \(H, W\) of 8 bits"),
        (np.zeros((9, 9, 3), np.uint8), [square(1, 1, 5)], r"attention \(9, 9, 3\) uint8"),
        (np.zeros((9, 9), np.uint8), [], "no region"),
        (np.zeros((9, 9), np.uint8), [square(1, 1, 5)[:2]], r"region 0 \(2, 2\): give \(points, 2\), three or more"),
        (np.zeros((9, 9), np.uint8), [square(1, 1, 5), np.ones((4, 2))], r"region 1 \(4, 2\)"),
        (np.zeros((9, 9), np.uint8), [square(20, 20, 5)], "cover no pixel of the map"),
    ],
)
def test_what_cannot_be_measured_is_refused(attention: Any, regions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        localization_figures(attention, regions)
