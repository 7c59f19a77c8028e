"""Windows of a raster: of one size in pixels or in metres, overlapping, every pixel covered and none twice.

Pure arithmetic: what a pixel measures on the ground comes from :mod:`rsretrieval.archive.rasters.places`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from rsretrieval.embeddings.errors import ArchiveError

Unit = Literal["px", "m"]
Resolution = Callable[[float], tuple[float, float]]
"""Metres on the ground that a pixel measures in x and in y, at a height in rows from the top."""


class Tile(NamedTuple):
    """A window of a raster in its own pixels, and the size at which it is read."""

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int


@dataclass(frozen=True)
class Length:
    """A length in pixels or in metres on the ground.

    Raises:
        ArchiveError: for a negative length, or pixels that are not whole.
    """

    value: float
    unit: Unit = "px"

    def __post_init__(self) -> None:
        whole = self.unit != "px" or self.value == round(self.value)
        if self.unit not in get_args(Unit) or not 0 <= self.value < math.inf or not whole:
            raise ArchiveError(
                f"the length '{self}' is not understood: give whole pixels, such as 224 or 224px, or metres, such as "
                "500m"
            )

    def __str__(self) -> str:
        return f"{self.value:.15g}{self.unit}"

    @classmethod
    def parse(cls, text: str) -> Length:
        """A length from its text, such as ``224``, ``224px`` or ``500m``.

        Raises:
            ArchiveError: saying what is possible.
        """
        match = re.fullmatch(r"\s*(\d+|\d*\.\d+)\s*(px|m|)\s*", str(text))
        if match is None:
            raise ArchiveError(
                f"the length '{text}' is not understood: give pixels, such as 224 or 224px, or metres, such as 500m"
            )
        return cls(float(match[1]), "m" if match[2] == "m" else "px")


def starts(length: int, tile: int, stride: int) -> list[int]:
    """Where windows of ``tile`` pixels begin so that they cover ``length``: 0, ``stride``, …; none twice.

    The last is moved inside. A window at least as long as the whole begins at 0.

    Raises:
        ValueError: for a stride that leaves gaps, or leads nowhere.
    """
    if not 1 <= stride <= tile:
        raise ValueError(f"windows of {tile} pixels every {stride}: the stride must be 1 to {tile}")
    return [*range(0, length - tile, stride), max(0, length - tile)]


@dataclass(frozen=True)
class Tiling:
    """How a raster is cut.

    Attributes:
        size: side of a window; with ``gsd``, pixels are those of the picture that the model sees, else the raster's.
        overlap: of neighbouring windows, counted as ``size``; the last of a row or column overlaps more.
        gsd: metres on the ground of a pixel that the model sees; windows are rounded to whole pixels of the raster,
            and read at exactly ``size``. None reads the raster's own pixels.

    Raises:
        ArchiveError: naming what does not go together.
    """

    size: Length
    overlap: Length = Length(0)
    gsd: float | None = None

    def __post_init__(self) -> None:
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise ArchiveError(f"a ground sampling distance of {self.gsd:g} m is not possible: give metres a pixel")
        if self.size.value <= 0:
            raise ArchiveError(f"tiles of {self.size} are not possible: give at least a pixel")
        if self.gsd is not None or self.size.unit == self.overlap.unit:
            self._check(self._source(self.size, 1), self._source(self.overlap, 1))

    @property
    def needs_place(self) -> bool:
        """Whether it takes to know what a pixel measures on the ground."""
        return self.gsd is not None or "m" in (self.size.unit, self.overlap.unit)

    def tiles(self, width: int, height: int, resolution: Resolution | None = None) -> Iterator[Tile]:
        """The windows of a raster, row by row from the top, each row from the left.

        What a pixel measures is taken once a row, in the middle of its height: with degrees or Web Mercator, rows
        differ in the width of their windows and in their own height.

        Args:
            width: of the raster, in pixels.
            height: of the raster, in pixels.
            resolution: see :data:`Resolution`; only asked where a length is in metres or there is a ``gsd``.

        Raises:
            ArchiveError: if there is no resolution where it is needed, or the overlap comes out as the whole tile.
        """
        if self.needs_place and resolution is None:
            raise ArchiveError(
                f"tiles of {self.size} with an overlap of {self.overlap}"
                + (f" at {self.gsd:g} m a pixel" if self.gsd else "")
                + " take a raster that knows its place on earth: give pixels, and no ground sampling distance"
            )
        measure: Resolution = resolution if resolution is not None and self.needs_place else lambda _: (1.0, 1.0)
        top = 0
        while True:
            side, stride = self._side(measure(top)[1])
            side, stride = self._side(measure(min(height, top + side / 2))[1])
            last = top + _whole(side) >= height
            row = min(_whole(side), height)
            top = height - row if last else top
            across, step = self._side(measure(top + row / 2)[0])
            column = min(_whole(across), width)
            size = self._out(column, across), self._out(row, side)
            for left in starts(width, column, min(column, _whole(step))):
                yield Tile(left, top, column, row, *size)
            if last:
                return
            top += min(row, _whole(stride))

    def _side(self, resolution: float) -> tuple[float, float]:
        """Side and stride in pixels of the raster, not rounded, where one measures ``resolution`` metres."""
        side, overlap = self._source(self.size, resolution), self._source(self.overlap, resolution)
        self._check(side, overlap)
        return side, side - overlap

    def _source(self, length: Length, resolution: float) -> float:
        if self.gsd is not None and length.unit == "px":
            return length.value * self.gsd / resolution
        return length.value / resolution if length.unit == "m" else length.value

    def _out(self, pixels: int, side: float) -> int:
        """At how many pixels a window's side is read: in proportion where the raster is shorter than a tile."""
        if self.gsd is None:
            return pixels
        size = self.size.value if self.size.unit == "px" else self.size.value / self.gsd
        return max(1, round(size * min(1.0, pixels / _whole(side))))

    def _check(self, side: float, overlap: float) -> None:
        if not overlap < side:
            raise ArchiveError(
                f"an overlap of {self.overlap} leaves nothing of tiles of {self.size}: give less than the tile"
            )


def _whole(side: float) -> int:
    return max(1, round(side))
