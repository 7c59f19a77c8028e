"""The canvas of the synthetic aerial scenes, and what a scene's details mean on it.

Coordinates are fractions of the image side, x to the right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from PIL import Image, ImageDraw

Details = Mapping[str, str]
Point = tuple[float, float]

COUNTS = ("one", "two", "three", "four", "five", "six")
SIDES = {"left": 0, "top": 90, "right": 180, "bottom": 270}
ORIENTATIONS = {"horizontal": 0, "vertical": 90, "diagonal": 45}
CORNERS = {"upper left": (-1, -1), "upper right": (1, -1), "lower left": (-1, 1), "lower right": (1, 1)}
PLACES = {**CORNERS, "centre": (0, 0)}
PALETTE = {
    "red": (205, 38, 38), "blue": (38, 82, 215), "white": (240, 240, 236), "yellow": (242, 214, 38),
    "orange": (240, 128, 20), "purple": (140, 55, 170), "black": (28, 28, 30), "green": (50, 165, 70),
    "brown": (122, 92, 58), "grass": (104, 130, 76), "soil": (150, 122, 90), "concrete": (158, 157, 150),
    "asphalt": (92, 94, 97), "sand": (214, 192, 146), "water": (46, 92, 120), "undergrowth": (96, 112, 66),
    "foliage": (48, 86, 42), "roof": (118, 110, 108), "stream": (52, 98, 140), "panel": (34, 46, 96),
    "crop": (118, 152, 72), "stubble": (190, 168, 104), "glass": (62, 66, 74),
}  # fmt: skip


class Canvas:
    """A drawing surface, supersampled twice, with cast shadows and a movable frame.

    Args:
        size: side of the finished image in pixels.
        rng: source of all that varies and is no detail of the scene (tones, jitter, clutter, light).
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self._size = size
        self._image = Image.new("RGB", (2 * size, 2 * size))
        self._shadow = Image.new("L", (2 * size, 2 * size))
        self._ink, self._shade = ImageDraw.Draw(self._image), ImageDraw.Draw(self._shadow)
        sun = rng.uniform(0, 2 * math.pi)
        self._sun = (2 * size * math.cos(sun), 2 * size * math.sin(sun))
        self._frame = (1.0, 0.0, 0.0, 1.0)

    def turn(self, degrees: float) -> None:
        """Turns the frame about the image's centre; its left is the top of the image after 90 degrees."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        self._frame = (cos, -sin, sin, cos)

    def mirror(self, corner: str, swap: bool = False) -> None:
        """Mirrors the frame so that its upper left is ``corner``; ``swap`` also exchanges its x and y."""
        x, y = CORNERS[corner]
        self._frame = (0.0, -x, -y, 0.0) if swap else (-x, 0.0, 0.0, -y)

    def across(self, point: Point) -> float:
        """How far a point of the image lies below the frame's x axis, for a frame that is turned."""
        return self._frame[1] * (point[0] - 0.5) + self._frame[3] * (point[1] - 0.5)

    def jitter(self, spread: float) -> float:
        """A number drawn uniformly from [-spread, spread]."""
        return float(self.rng.uniform(-spread, spread))

    def _tint(self, colour: str, spread: int) -> tuple[int, int, int]:
        red, green, blue = PALETTE[colour]
        shift, warm = self.rng.integers(-spread, spread + 1, 2).tolist()
        return red + shift + warm // 3, green + shift, blue + shift - warm // 3

    def polygon(self, points: Iterable[Point], colour: str, height: float = 0.0) -> None:
        """Fills a polygon given in the frame; one of some height casts a shadow of that length."""
        xx, xy, yx, yy = self._frame
        side = 2 * self._size
        dots = [
            (side * (0.5 + xx * (x - 0.5) + xy * (y - 0.5)), side * (0.5 + yx * (x - 0.5) + yy * (y - 0.5)))
            for x, y in points
        ]
        if height:
            self._shade.polygon([(x + height * self._sun[0], y + height * self._sun[1]) for x, y in dots], fill=255)
        self._shade.polygon(dots, fill=0)
        self._ink.polygon(dots, fill=self._tint(colour, 9))

    def shape(self, at: Point, points: Iterable[Point], colour: str, height: float = 0.0, degrees: float = 0.0) -> None:
        """Fills a polygon whose points are relative to ``at`` and turned by ``degrees``."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        self.polygon([(at[0] + cos * x - sin * y, at[1] + sin * x + cos * y) for x, y in points], colour, height)

    def box(self, at: Point, wide: float, deep: float, colour: str, height: float = 0.0, degrees: float = 0.0) -> None:
        """Fills a rectangle centred on ``at``."""
        x, y = wide / 2, deep / 2
        self.shape(at, [(-x, -y), (x, -y), (x, y), (-x, y)], colour, height, degrees)

    def disc(self, at: Point, radius: float, colour: str, height: float = 0.0) -> None:
        """Fills a circle centred on ``at``."""
        corners = max(10, int(90 * radius))
        turns = [2 * math.pi * k / corners for k in range(corners)]
        self.shape(at, [(radius * math.cos(t), radius * math.sin(t)) for t in turns], colour, height)

    def band(self, offset: float, half: float, colour: str, wave: float = 0.03) -> None:
        """Fills a winding band along the x axis, centred on y = ``offset``."""
        phase, pace = self.rng.uniform(0, 6.28), self.rng.uniform(4, 8)
        xs = np.linspace(-0.3, 1.3, 24).tolist()
        middle = [(x, offset + wave * math.sin(phase + pace * x)) for x in xs]
        self.polygon([(x, y - half) for x, y in middle] + [(x, y + half) for x, y in reversed(middle)], colour)

    def ground(self, colour: str, patches: int = 7) -> None:
        """Covers everything with one tone of ground and some worn patches of slightly other tones."""
        base = self._tint(colour, 18)
        side = 2 * self._size
        self._ink.rectangle((0, 0, side, side), fill=base)
        for x, y, wide, high, tone in self.rng.uniform(0, 1, (patches, 5)).tolist():
            fill = tuple(int(band * (0.88 + 0.24 * tone)) for band in base)
            wide, high = (0.05 + 0.2 * wide) * side, (0.05 + 0.2 * high) * side
            self._ink.ellipse((x * side - wide, y * side - high, x * side + wide, y * side + high), fill=fill)

    def trees(self, spots: Iterable[Point], radius: float = 0.04) -> None:
        """Draws a tree crown at each spot."""
        for spot in spots:
            wide = radius * (1 + self.jitter(0.25))
            self.disc(spot, wide, "foliage", 0.5 * radius)
            self.disc((spot[0] - 0.3 * wide, spot[1] - 0.3 * wide), 0.5 * wide, "undergrowth")

    def bushes(self, away: Point, distance: float) -> None:
        """Draws some bushes as clutter, each at least ``distance`` from the point ``away``."""
        spots = self.scatter(int(self.rng.integers(4, 16)), (0, 0, 1, 1))
        self.trees([spot for spot in spots if math.dist(spot, away) > distance], 0.026)

    def scatter(self, number: int, box: tuple[float, float, float, float]) -> list[Point]:
        """Random points inside ``box`` = (left, top, right, bottom)."""
        points = self.rng.uniform(box[:2], box[2:], (number, 2)).tolist()
        return [(x, y) for x, y in points]

    def cells(
        self, number: int, grid: tuple[int, int], box: tuple[float, float, float, float],
        skip: frozenset[tuple[int, int]] = frozenset(), loose: float = 0.08,
    ) -> Iterator[Point]:  # fmt: skip
        """Centres of ``number`` different cells of a (columns, rows) grid over ``box``, so that objects stay apart."""
        free = [(i, j) for i in range(grid[0]) for j in range(grid[1]) if (i, j) not in skip]
        wide, high = (box[2] - box[0]) / grid[0], (box[3] - box[1]) / grid[1]
        for k in self.rng.permutation(len(free))[:number].tolist():
            x, y = free[k][0] + 0.5 + self.jitter(loose), free[k][1] + 0.5 + self.jitter(loose)
            yield box[0] + wide * x, box[1] + high * y

    def group(self, number: int, at: Point, pitch: Point) -> Iterator[Point]:
        """Centres of a compact group of ``number`` objects, in rows of at most three around ``at``."""
        columns = 2 if number == 4 else min(number, 3)
        x, y = columns * pitch[0] / 2, -(-number // columns) * pitch[1] / 2
        box = (at[0] - x, at[1] - y, at[0] + x, at[1] + y)
        return self.cells(number, (columns, -(-number // columns)), box, loose=0.02)

    def finish(self) -> Image.Image:
        """The image, with shadows, uneven ground, light and sensor noise."""
        size, rng = self._size, self.rng
        light = 1 - rng.uniform(0.4, 0.6) / 255 * np.asarray(self._shadow.reduce(2), np.float32)
        for step, strength in ((4, 0.04), (14, 0.035), (40, 0.045)):
            coarse = Image.fromarray(rng.standard_normal((step, step), np.float32))
            light *= 1 + strength * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
        light *= rng.uniform(0.86, 1.1)
        pixels = np.asarray(self._image.reduce(2), np.float32) * light[..., None]
        pixels *= 1 + rng.uniform(-0.04, 0.04, 3).astype(np.float32)
        pixels += 4 * rng.standard_normal((size, size, 1), np.float32) + rng.uniform(0, 10)
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
