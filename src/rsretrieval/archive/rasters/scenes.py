"""What a product or an item gives: bands, a place that GDAL opens, and a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rsretrieval.embeddings import ArchiveError

PRESETS = {"L1C": "minmax 0 0.3558", "L2A": "minmax 0 0.2"}
"""How reflectance becomes 8 bits, at the top of the atmosphere (L1C) and at the surface (L2A).

As in the true-colour images of ESA: "The saturation level of 255 digital counts correspond to a level of 3558 for L1C
products or 2000 for L2A products (0.3558 and 0.2 in reflectance value respectively)" (Sentinel-2 MSI User Guide,
Definitions, TCI)."""


@dataclass(frozen=True)
class Scene:
    """What a product or an item holds, ready to be opened.

    Attributes:
        place: what GDAL opens: a file, or a VRT as XML text.
        scale: how its values become 8 bits, as :meth:`rsretrieval.images.Scale.parse` takes it; None where that is not
            known, or not needed because they are 8-bit.
        datetime: when it was taken, with its time zone; None if that is not said.
        datetime_origin: where that stands, such as ``STAC datetime``; empty without a time.
        files: the files that its pixels are in, absolute, or by GDAL's names (``/vsicurl/…``).
        bands: names of the bands, in the order of the raster's.
    """

    place: str
    scale: str | None
    datetime: datetime | None
    datetime_origin: str
    files: tuple[str, ...]
    bands: tuple[str, ...]


@dataclass(frozen=True)
class BandFile:
    """A band of a file.

    Attributes:
        file: its path, or GDAL's name of it.
        band: the number of the band in the file, counted from 1.
        name: what the band is called.
        scale: what stored values are multiplied by.
        offset: what is added after that.
        nodata: the stored value that is no data; None for what the file itself says.
    """

    file: str
    band: int = 1
    name: str = ""
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether its values differ from the stored ones."""
        return (self.scale, self.offset) != (1.0, 0.0)


def names_of(bands: str | None) -> list[str]:
    """Names of bands from a text such as ``B04 B03 B02``; none for the preset.

    Raises:
        ArchiveError: for a text without a name.
    """
    names = (bands or "").replace(",", " ").split()
    if bands is not None and not names:
        raise ArchiveError("no band is named: give names such as 'B04 B03 B02', or leave them out for the preset")
    return names
