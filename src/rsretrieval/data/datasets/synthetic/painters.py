"""Painters of the synthetic aerial scenes: one short function per scene class.

Coordinates are fractions of the image side, x to the right and y down. A painter draws in a canonical frame (say, the
shore on the left) and turns the frame to the side, corner or orientation that the scene asks for.
"""

from __future__ import annotations

import math

from rsretrieval.data.datasets.synthetic.canvas import COUNTS, ORIENTATIONS, PLACES, SIDES, Canvas, Details, Point


def count(details: Details) -> int:
    """The number that the detail ``n`` spells."""
    return COUNTS.index(details["n"]) + 1


def place(details: Details) -> Point:
    """The point that the detail ``where`` names."""
    x, y = PLACES[details["where"]]
    return 0.5 + 0.22 * x, 0.5 + 0.22 * y


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
