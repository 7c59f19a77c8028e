"""How images become rows of an archive."""

from __future__ import annotations

from dataclasses import dataclass

from rsretrieval.archive.rasters.tiles import Length, Tiling


@dataclass(frozen=True)
class Options:
    """How images become rows.

    Attributes:
        tile: side of a tile, such as ``224`` (pixels) or ``500m``; None for the model's size where a raster has a place
            on earth, while a picture without one is embedded whole.
        overlap: of neighbouring tiles.
        gsd: metres a pixel that rasters are resampled to; None for their own.
        scale: of values that are not 8-bit; None for the model's own, or a scene's preset.
        bands: that become red, green and blue, by number, or of scenes by name.
        dates: a CSV ``source,datetime``, or a pattern of file names such as ``*_%Y%m%d_*``.
    """

    tile: str | None = None
    overlap: str = "0"
    gsd: float | None = None
    scale: str | None = None
    bands: str | None = None
    dates: str | None = None

    @property
    def numbers(self) -> str | None:
        """The bands where they are numbers; None for names, which scenes have."""
        words = (self.bands or "").replace(",", " ").split()
        return self.bands if words and all(word.isdecimal() for word in words) else None

    def tiling(self, image_size: int) -> Tiling:
        """Tiles of rasters, by default of the model's size.

        Raises:
            ArchiveError: for a size, overlap or resolution that is none.
        """
        return Tiling(Length.parse(self.tile or str(image_size)), Length.parse(self.overlap), self.gsd)
