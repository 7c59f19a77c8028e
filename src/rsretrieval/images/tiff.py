"""What a TIFF says of its values, whether Pillow opens it or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

KINDS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
"""Kinds of numbers by TIFF's SampleFormat; 4 is undefined."""


@dataclass(frozen=True)
class TiffSamples:
    """What a TIFF says of its values.

    Attributes:
        bands: how many.
        dtype: such as ``uint16``, also where numpy has no such type.
        by_opencv: whether OpenCV reads them right, which it does not say itself.
        nodata: value that stands for no data.
    """

    bands: int
    dtype: str
    by_opencv: bool
    nodata: float | None

    @classmethod
    def of(cls, tags: Mapping[int, Any]) -> TiffSamples:
        """From a TIFF's tags."""
        values = (tags.get(tag, default) for tag, default in ((277, 1), (258, 1), (339, 1), (284, 1), (262, None)))
        bands, bits, kind, planes, colours = (
            value[0] if isinstance(value, tuple) and value else value for value in values
        )
        readable = bits in (16, 32, 64) and kind in KINDS and (kind, bits) != (3, 16)
        try:
            nodata = float(str(tags.get(42113, "")).strip("\x00 "))  # GDAL's tag
        except ValueError:
            nodata = None
        by_opencv = readable and planes == 1 and colours in (1, 2) and bands in (1, 3, 4)
        return cls(int(bands), f"{KINDS.get(kind, 'complex')}{bits}", by_opencv, nodata)

    @property
    def is_eight_bit(self) -> bool:
        """Whether Pillow reads the values as they are."""
        return self.dtype in ("uint8", "uint4", "uint2", "uint1")

    def masked(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values, masked where there is no data."""
        if self.nodata is None:
            return values
        return np.ma.MaskedArray(values, np.isnan(values) if np.isnan(self.nodata) else values == self.nodata)


def tiff_header(file: IO[bytes]) -> TiffSamples | None:
    """What a TIFF says that Pillow does not open; None for another file."""
    header = file.read(8)
    if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(header + (file.read(8) if header[2:3] == b"+" else b""))
        file.seek(tags.next)
        tags.load(file)
        return TiffSamples.of(tags) if {256, 257, 258} <= set(tags) else None  # size and bits
    except Exception:  # Pillow raises many kinds for what is no TIFF after all
        return None
