"""Rasters of any driver of GDAL, read window by window."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.rasters.limits import limits_of
from rsretrieval.archive.rasters.places import Footprint, is_georeferenced, place_of
from rsretrieval.archive.rasters.tiles import Tile, Tiling
from rsretrieval.embeddings.errors import ArchiveError
from rsretrieval.images import BrokenImageError, RenderingError, Scale
from rsretrieval.lazy import needs

log = logging.getLogger(__name__)
SETTINGS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": True,  # a folder of 100,000 pictures is not listed for each of them
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # reads a PNG whole, and one that is cut off without an error
}
TAGS = (None, "EXIF", "IMAGERY")
"""GDAL's domains of metadata in which a date may stand."""


class Raster:
    """A raster that is open for reading, window by window; several threads of one process may read it.

    Bands are those that a model sees: an alpha band is a mask, and a band of palette indices gives red, green and blue.
    Values are as the file has them: a scale and an offset that it states are not applied, except by a VRT that does.

    Args:
        dataset: of rasterio; the raster closes it.
        name: for messages.

    Raises:
        RenderingError: if it holds several rasters and no band of its own.
    """

    def __init__(self, dataset: Any, name: str) -> None:  # noqa: ANN401 - rasterio has no types
        self.name, self._dataset, self._lock = name, dataset, threading.Lock()
        inner = ", ".join(dataset.subdatasets[:5])
        if dataset.count == 0:
            raise RenderingError(f"{name}: it has no band of its own; give one of the rasters in it: {inner or 'none'}")
        if inner:
            log.warning("%s: of the rasters in it, only the first is read: %s", name, inner)
        colours = needs("rasterio.enums", "archive").ColorInterp
        self.width, self.height = int(dataset.width), int(dataset.height)
        self._alpha = [n for n, colour in enumerate(dataset.colorinterp, 1) if colour == colours.alpha]
        self._numbers = [n for n in dataset.indexes if n not in self._alpha] or list(dataset.indexes)
        self._palette = _palette(dataset) if dataset.colorinterp[0] == colours.palette else None
        self.bands = 3 if self._palette is not None else len(self._numbers)
        self.dtype = np.dtype(np.uint8) if self._palette is not None else self._common(self._numbers)
        self.is_georeferenced = is_georeferenced(dataset)
        self.crs, self.transform = dataset.crs, dataset.transform
        self._place = place_of(dataset, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._dataset.close()

    @property
    def tags(self) -> Mapping[str, str]:
        """What the file says of itself, by name; see :func:`rsretrieval.archive.rasters.dates.from_tags`."""
        with self._lock:
            return {name: text for domain in TAGS for name, text in self._dataset.tags(ns=domain).items()}

    def resolution(self, row: float | None = None) -> tuple[float, float] | None:
        """Metres on the ground that a pixel measures in x and in y, in the middle column; None without a place there.

        Args:
            row: from the top; None for the middle.
        """
        if self._place is None:
            return None
        with self._lock:
            return self._place.resolution(self.width / 2, self.height / 2 if row is None else row)

    def tiles(self, tiling: Tiling) -> Iterator[Tile]:
        """The windows, as they are asked for; see :meth:`Tiling.tiles`.

        Where a row has no place on earth, beyond the disk that a satellite sees, its pixels count as in the middle.

        Raises:
            ArchiveError: naming the raster, if lengths on the ground are asked for and it has no place.
        """
        middle = self.resolution() if tiling.needs_place else None
        measure = None if middle is None else lambda row: self.resolution(row) or middle
        try:
            yield from tiling.tiles(self.width, self.height, measure)
        except ArchiveError as error:
            raise ArchiveError(f"{self.name}: {error}") from error

    def footprint(self, tile: Tile) -> Footprint | None:
        """Where a window lies; None without a place on earth."""
        if self._place is None:
            return None
        with self._lock:
            return self._place.footprint(*tile[:4])

    def read(self, tile: Tile, bands: Sequence[int] | None = None) -> NDArray[Any] | None:
        """The values of a window.

        Averaged over valid pixels where it shrinks, from overviews if there are any; cubic where it grows. Palettes
        give the nearest of their own colours. Of two masks GDAL does not know, and takes their pixels into the mean
        beside them: NaN without a no-data value (the mean is no data too), alpha after other than one or three bands.

        Args:
            tile: where, and at which size.
            bands: counted from 1; none for all.

        Returns:
            ``(out_height, out_width, bands)``, masked where there is no data (no-data value, alpha of 0, a mask, NaN)
            if there is any such pixel; None if every one is.

        Raises:
            RenderingError: for a band that it does not have.
            BrokenImageError: naming raster and window, if GDAL cannot read it.
        """
        resampling = needs("rasterio.enums", "archive").Resampling
        shrinks = tile.out_width < tile.width or tile.out_height < tile.height
        return self._read(tile, bands, resampling.average if shrinks else resampling.cubic)

    def limits(self, scale: Scale, bands: Sequence[int] | None = None) -> Scale:
        """The scale with fixed limits, of the whole raster, so that neighbouring tiles are rendered alike.

        See :func:`rsretrieval.archive.rasters.limits.limits_of`.

        Args:
            scale: of which ``percentile`` and ``minmax`` without numbers are replaced, unless values are 8-bit.
            bands: that become a picture, counted from 1; none for the first three, or the only one.
        """
        bands = bands or range(1, min(self.bands, 3) + 1)
        nearest = needs("rasterio.enums", "archive").Resampling.nearest
        return limits_of(self, scale, lambda tile: self._read(tile, bands, nearest))

    def _read(self, tile: Tile, bands: Sequence[int] | None, resampling: object) -> NDArray[Any] | None:
        bands = bands or range(1, self.bands + 1)
        if wrong := [number for number in bands if not 1 <= number <= self.bands]:
            raise RenderingError(f"{self.name}: it has no band {wrong[0]}: give numbers from 1 to {self.bands}")
        if self._palette is not None:
            indices, valid = self._from_file([1], tile, resampling)
            colours = self._palette[indices[0]]
            values, valid = np.moveaxis(colours[..., :3], -1, 0), valid & (colours[..., 3] > 0)
            values, valid = values[[n - 1 for n in bands]], np.broadcast_to(valid, (len(bands), *valid.shape[1:]))
        else:
            values, valid = self._from_file([self._numbers[n - 1] for n in bands], tile, resampling)
        if values.dtype.kind in "fc":
            valid = valid & ~np.isnan(values)
        if not valid.any():
            return None
        values, valid = np.moveaxis(values, 0, -1), np.moveaxis(valid, 0, -1)
        return values if valid.all() else np.ma.MaskedArray(values, ~valid)

    def _from_file(self, numbers: list[int], tile: Tile, resampling: object) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Values of bands of the file and where they are valid, both ``(bands, out_height, out_width)``."""
        rasterio = needs("rasterio", "archive")
        where: dict[str, Any] = {
            "window": needs("rasterio.windows", "archive").Window(*tile[:4]),
            "out_shape": (tile.out_height, tile.out_width),
            "resampling": resampling,
        }
        try:
            with self._lock, rasterio.Env(**SETTINGS):
                values = np.stack([self._dataset.read(n, out_dtype=self._common(numbers), **where) for n in numbers])
                valid = self._dataset.read_masks(numbers, **where) > 0
                for alpha in self._alpha:  # GDAL takes it for a mask after one or three bands, and not after others
                    valid &= self._dataset.read(alpha, **where) > 0
        except Exception as error:  # GDAL's kinds
            left, top, width, height = tile[:4]
            raise BrokenImageError(
                f"{self.name}: the window of {width} x {height} pixels at column {left}, row {top} cannot be read: "
                f"{error.__cause__ or error}"
            ) from error
        return values, valid

    def _common(self, numbers: Sequence[int]) -> np.dtype[Any]:
        """The type that holds values of these bands of the file."""
        names = {self._dataset.dtypes[number - 1].replace("complex_int16", "complex64") for number in numbers}
        return np.result_type(*names)


def open_raster(place: str | PathLike[str], name: str | None = None) -> Raster:
    """Open a raster.

    Args:
        place: a path, GDAL's name of a part of a file, or the text of a VRT (``<VRTDataset …``).
        name: for messages; None for the place.

    Raises:
        BrokenImageError: naming it, if GDAL cannot open it.
        RenderingError: if it holds several rasters and no band of its own.
        ImportError: without rasterio.
    """
    name = name or ("a VRT" if str(place).startswith("<") else str(place))
    try:
        dataset = _opened(place)
        try:
            return Raster(dataset, name)
        except BaseException:
            dataset.close()
            raise
    except (BrokenImageError, ImportError):
        raise
    except Exception as error:  # GDAL's kinds
        raise BrokenImageError(f"{name}: GDAL cannot open it: {error}") from error


def is_raster(path: Path) -> bool:
    """Whether a file is a raster that says anything of its place on earth; decided by opening it.

    Raises:
        ImportError: without rasterio.
    """
    try:
        with _opened(path) as dataset:
            return is_georeferenced(dataset)
    except ImportError:
        raise
    except Exception:  # GDAL's kinds, of what is no raster
        return False


def _opened(place: str | PathLike[str]) -> Any:  # noqa: ANN401 - rasterio has no types
    rasterio = needs("rasterio", "archive")
    with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(str(place))


def _palette(dataset: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - rasterio has no types
    """``(65536, 4)``: red, green, blue and alpha of every index; what has no colour is no data."""
    colours = np.zeros((1 << 16, 4), np.uint8)
    for index, colour in dataset.colormap(1).items():
        colours[index] = colour
    return colours
