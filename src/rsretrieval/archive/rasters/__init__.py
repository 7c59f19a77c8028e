"""Rasters of any driver of GDAL, window by window: tiles, where they lie, their values, and when they were taken."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.archive.rasters.dates import Dated
    from rsretrieval.archive.rasters.places import Footprint
    from rsretrieval.archive.rasters.raster import Raster, is_raster, open_raster
    from rsretrieval.archive.rasters.tiles import Length, Tile, Tiling

__all__ = ["Dated", "Footprint", "Length", "Raster", "Tile", "Tiling", "is_raster", "open_raster"]

__getattr__ = lazy(
    __name__,
    {
        "Dated": "rsretrieval.archive.rasters.dates",
        "Footprint": "rsretrieval.archive.rasters.places",
        "Length": "rsretrieval.archive.rasters.tiles",
        "Raster": "rsretrieval.archive.rasters.raster",
        "Tile": "rsretrieval.archive.rasters.tiles",
        "Tiling": "rsretrieval.archive.rasters.tiles",
        "is_raster": "rsretrieval.archive.rasters.raster",
        "open_raster": "rsretrieval.archive.rasters.raster",
    },
)
