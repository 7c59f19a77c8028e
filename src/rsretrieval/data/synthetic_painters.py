"""Painters of the synthetic aerial scenes: one short function per scene class, and the canvas that they draw on.

Coordinates are fractions of the image side, x to the right and y down. A painter draws in a canonical frame (say, the
shore on the left) and turns the frame to the side, corner or orientation that the scene asks for.
"""

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


def count(details: Details) -> int:
    """The number that the detail ``n`` spells."""
    return COUNTS.index(details["n"]) + 1


def place(details: Details) -> Point:
    """The point that the detail ``where`` names."""
    x, y = PLACES[details["where"]]
    return 0.5 + 0.22 * x, 0.5 + 0.22 * y


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


def airport(c: Canvas, a: Details) -> None:
    """Planes on an apron, a runway and a terminal in a corner away from it."""
    c.ground("grass")
    c.mirror(a["where"], swap=a["orientation"] == "vertical")
    c.box((0.5, 0.33), 1.3, 0.74, "concrete")
    c.box((0.5, 0.85), 1.3, 0.15, "asphalt")
    for k in range(8):
        c.box((0.06 + 0.13 * k, 0.85), 0.06, 0.014, "concrete")
    c.box((0.13, 0.1), 0.25, 0.15, "roof", 0.04)
    c.box((0.13, 0.1), 0.19, 0.06, "glass")
    for spot in c.cells(count(a), (3, 3), (0.03, 0.01, 0.97, 0.69), frozenset({(0, 0)}), 0.03):
        tail = c.jitter(180)
        c.shape(spot, [(0.03, 0), (-0.03, 0.085), (-0.055, 0.085), (-0.03, 0), (-0.055, -0.085), (-0.03, -0.085)],
                a["colour"], 0.02, tail)  # fmt: skip
        c.shape(spot, [(0.09, 0), (0.065, 0.018), (-0.06, 0.015), (-0.09, 0.04), (-0.09, -0.04), (-0.06, -0.015),
                       (0.065, -0.018)], a["colour"], 0.0, tail)  # fmt: skip


def harbour(c: Canvas, a: Details) -> None:
    """Ships on the water along a quay."""
    c.ground("water")
    c.turn(SIDES[a["side"]])
    c.box((0.05, 0.5), 0.5, 1.4, "concrete", 0.02)
    for k in range(3):
        c.box((0.34, 0.2 + 0.3 * k + c.jitter(0.05)), 0.12, 0.03, "concrete", 0.01)
        c.box((0.13 + c.jitter(0.03), 0.18 + 0.32 * k), 0.13, 0.2 + c.jitter(0.05), "roof", 0.03)
    long = 0.26 if a["size"] == "large" else 0.14
    for spot in c.cells(count(a), (2, 3), (0.42, 0.01, 0.98, 0.99)):
        hull = [(-0.5, -0.16), (0.25, -0.18), (0.5, 0.0), (0.25, 0.18), (-0.5, 0.16)]
        heading = 90 + c.jitter(18)
        c.shape(spot, [(long * x, long * y) for x, y in hull], a["colour"], 0.02, heading)
        if a["size"] == "large":
            c.box(spot, 0.08, 0.036, "glass", 0.0, heading)


def storagetanks(c: Canvas, a: Details) -> None:
    """A group of round tanks."""
    c.ground(("soil", "grass")[int(c.rng.integers(2))])
    c.bushes(place(a), 0.36)
    c.box((0.5 + c.jitter(0.05), 0.5), 0.03, 1.2, "asphalt", 0.0, c.jitter(10))
    c.box(place(a), 0.53, 0.44, "concrete")
    radius = 0.068 if a["size"] == "large" else 0.04
    for spot in c.group(count(a), place(a), (0.17, 0.18)):
        c.disc(spot, radius, a["colour"], 0.05)


def farmland(c: Canvas, a: Details) -> None:
    """Strips of fields and a barn."""
    c.ground("stubble")
    c.turn(ORIENTATIONS[a["orientation"]])
    number, first = count(a), int(c.rng.integers(2))
    for k in range(number):
        colour = (("crop", "foliage"), ("stubble", "brown"))[(k + first) % 2][int(c.rng.integers(2))]
        c.box((0.5, (k + 0.5) / number), 1.3, 1 / number - 0.012, colour)
        for _ in range(3):
            c.box((0.5, (k + 0.5 + c.jitter(0.4)) / number), 1.3, 0.006, colour)
    c.turn(0)
    c.disc(place(a), 0.13, "sand")
    c.box(place(a), 0.16, 0.12, a["colour"], 0.04, c.jitter(20))


def river(c: Canvas, a: Details) -> None:
    """A winding river, bridges over it and what grows or stands on its banks."""
    c.ground("grass")
    c.turn(ORIENTATIONS[a["orientation"]] + 90 * (a["orientation"] == "diagonal") * int(c.rng.integers(2)))
    if a["cover"] == "trees":
        c.trees([(x, y + 0.5 * (y > 0.25)) for x, y in c.scatter(80, (-0.2, -0.25, 1.2, 0.75))])
    for row in (0.02, 0.2, 0.8, 0.98):
        for k in range(7):
            spot = (-0.12 + 0.21 * k + c.jitter(0.02), row + c.jitter(0.01))
            if a["cover"] == "houses":
                c.box(spot, 0.11, 0.1, "roof", 0.03, c.jitter(15))
            elif a["cover"] == "fields":
                c.box(spot, 0.2, 0.17, ("crop", "stubble", "brown", "foliage")[int(c.rng.integers(4))])
    c.band(0.5, 0.11, "stream" if a["colour"] == "blue" else "brown")
    number = count(a)
    for k in range(number):
        c.box((0.5 + (k - (number - 1) / 2) * 0.22 + c.jitter(0.03), 0.5), 0.045, 0.36, "concrete", 0.025, c.jitter(6))


def parking(c: Canvas, a: Details) -> None:
    """Cars in four rows of spaces and a line of trees."""
    c.ground("asphalt", 3)
    c.turn(SIDES[a["side"]])
    c.box((-0.1, 0.5), 0.5, 1.4, "grass")
    c.trees([(0.06 + c.jitter(0.01), 0.06 + 0.125 * k) for k in range(8)], 0.05)
    spaces = [(0.23 + 0.23 * i + c.jitter(0.008), 0.08 + 0.105 * j) for i in range(4) for j in range(9)]
    for x, y in spaces:
        c.box((x, y - 0.0525), 0.14, 0.008, "concrete")
    cars = {"nearly empty": 4, "half full": 18, "full": 36}[a["fill"]]
    for k, i in enumerate(c.rng.permutation(len(spaces))[:cars].tolist()):
        c.box(spaces[i], 0.115, 0.058, a["colour"] if k < 0.8 * cars else "roof", 0.012)
        c.box((spaces[i][0] + 0.02, spaces[i][1]), 0.018, 0.045, "glass")


def courts(c: Canvas, a: Details) -> None:
    """A group of sports courts with white lines."""
    c.ground(a["ground"])
    c.bushes(place(a), 0.38)
    for x, y in c.group(count(a), place(a), (0.17, 0.23)):
        c.box((x, y), 0.142, 0.2, a["colour"])
        for dx, dy, wide, deep in ((-0.045, 0, 0.006, 0.15), (0.045, 0, 0.006, 0.15), (0, 0, 0.12, 0.008)):
            c.box((x + dx, y + dy), wide, deep, "white")


def roundabout(c: Canvas, a: Details) -> None:
    """A ring road around an island, with roads leading off it and cars."""
    c.ground("grass")
    c.bushes((0.5, 0.5), 0.38)
    number, first = count(a), c.jitter(180)
    inner = 0.19 if a["size"] == "large" else 0.09
    for k in range(number):
        c.turn(first + 360 * k / number + c.jitter(5))
        c.box((1.0, 0.5), 1.0, 0.11, "asphalt")
        c.box((1.0, 0.5), 1.0, 0.008, "concrete")
        c.box((0.93 + c.jitter(0.06), 0.527), 0.085, 0.042, a["cars"], 0.01)
    c.disc((0.5, 0.5), inner + 0.12, "asphalt")
    c.disc((0.5, 0.5), inner, a["colour"])


def stadium(c: Canvas, a: Details) -> None:
    """A running track around a pitch, and a stand on one side."""
    c.ground(("grass", "concrete", "soil")[int(c.rng.integers(3))])
    c.bushes((0.5, 0.5), 0.45)
    c.turn(ORIENTATIONS[a["orientation"]])
    for radius, colour in ((0.2, a["track"]), (0.13, "crop")):
        for x in (0.36, 0.64):
            c.disc((x, 0.5), radius, colour)
        c.box((0.5, 0.5), 0.28, 2 * radius, colour)
    c.box((0.5, 0.5), 0.01, 0.2, "white")
    c.turn(SIDES[a["side"]])
    c.box((0.07, 0.5), 0.1, 0.5, a["stand"], 0.03)


def forest(c: Canvas, a: Details) -> None:
    """Trees, a path between them and a hut in a clearing."""
    c.ground("undergrowth")
    hut, steep = place(a), a["where"] in ("upper left", "lower right")
    c.turn(ORIENTATIONS[a["orientation"]] + 90 * (a["orientation"] == "diagonal" and steep))
    c.band(0.5, 0.03, "sand", 0.015)
    spots = c.scatter(150 if a["density"] == "dense" else 32, (0, 0, 1, 1))
    spots = [(x, y) for x, y in spots if abs(c.across((x, y))) > 0.08 and math.dist((x, y), hut) > 0.14]
    c.turn(0)
    c.trees(spots, 0.045)
    c.box(hut, 0.13, 0.11, a["colour"], 0.03, c.jitter(30))


def residential(c: Canvas, a: Details) -> None:
    """Houses on both sides of a street."""
    c.ground("grass")
    c.turn(ORIENTATIONS[a["orientation"]])
    c.box((0.5, 0.5), 1.3, 0.13, "asphalt")
    c.box((0.5, 0.5), 1.3, 0.008, "concrete")
    c.trees([(x, y if y < 0.37 else y + 0.26) for x, y in c.scatter(14, (0, 0, 1, 0.74))], 0.03)
    wide = 0.22 if a["size"] == "large" else 0.12
    for x, y in c.cells(count(a), (3, 2), (0.02, 0.02, 0.98, 0.98), loose=0.04):
        c.box((x, y), wide + 0.08, wide + 0.04, "crop")
        c.box((x, y), wide, 0.85 * wide, a["colour"], 0.04)
        c.box((x, y), wide, 0.012, "roof")


def solarfarm(c: Canvas, a: Details) -> None:
    """Rows of solar panels and a white building in a corner."""
    c.ground(a["ground"])
    c.mirror(a["where"], swap=a["orientation"] == "vertical")
    c.box((0.13, 0.12), 0.17, 0.13, "white", 0.03)
    number = count(a)
    first = int(c.rng.integers(7 - number))
    for k in range(first, first + number):
        c.box((0.5, 0.33 + 0.118 * k), 0.88, 0.07, "panel", 0.015)
        for i in range(1, 9):
            c.box((0.06 + 0.098 * i, 0.33 + 0.118 * k), 0.006, 0.07, "roof")


def railway(c: Canvas, a: Details) -> None:
    """Parallel tracks and a train on one of them."""
    c.ground(("grass", "soil")[int(c.rng.integers(2))])
    c.bushes((0.5, 0.5), 0.2)
    c.turn(ORIENTATIONS[a["orientation"]] + 90 * (a["orientation"] == "diagonal") * int(c.rng.integers(2)))
    number = count(a)
    lines = [0.5 + 0.135 * (k - (number - 1) / 2) for k in range(number)]
    for y in lines:
        c.box((0.5, y), 1.5, 0.085, "asphalt")
        for rail in (y - 0.02, y + 0.02):
            c.box((0.5, rail), 1.5, 0.01, "concrete")
    wagons, start, y = (5 if a["size"] == "long" else 2), c.jitter(0.06), lines[int(c.rng.integers(number))]
    for k in range(wagons):
        c.box((0.5 + start + 0.165 * (k - (wagons - 1) / 2), y), 0.15, 0.06, a["colour"], 0.015)


def beach(c: Canvas, a: Details) -> None:
    """Umbrellas on the sand by the sea."""
    c.ground("sand")
    c.turn(SIDES[a["side"]] - 90)
    c.band(-0.1, 0.44, "white", 0.02)
    c.band(-0.1, 0.42, "water", 0.025)
    for spot in c.cells(count(a), (3, 2), (0.03, 0.42, 0.97, 0.98)):
        c.disc(spot, 0.06, a["colour"], 0.035)
        c.disc(spot, 0.012, "roof")
