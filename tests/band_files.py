"""Small rasters, and what a band of them is by slow means of its own."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

WEST, NORTH = 600_000, 5_000_040


def write_raster(file: Path, values: NDArray[Any], pixel: float, **options: Any) -> Path:
    """A raster in UTM zone 32 with pixels of so many metres; values ``(H, W)`` or ``(bands, H, W)``."""
    values = values if values.ndim == 3 else values[None]
    profile = {
        "driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2],
        "dtype": values.dtype, "crs": "EPSG:32632", "transform": from_origin(WEST, NORTH, pixel, pixel),
    } | options  # fmt: skip
    if profile["driver"] == "JP2OpenJPEG":
        profile |= {"REVERSIBLE": "YES", "QUALITY": "100"}
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(file, "w", **profile) as dataset:
        dataset.write(values)
    return file


def read(place: str, **window: Any) -> NDArray[Any]:
    """All bands of what GDAL opens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(place) as dataset:
            return np.asarray(dataset.read(**window))


def enlarged(values: NDArray[Any], factor: int, nodata: float | None = None) -> NDArray[np.float64]:
    """Bilinear, in x and then in y, each time the mean of the nearest two that are valid; NaN where there is none."""
    numbers = values.astype(np.float64)
    if nodata is not None:
        numbers[values == nodata] = np.nan
    if factor == 1:
        return numbers
    for _ in ("x", "y"):
        numbers = np.array([_enlarged_row(row, factor) for row in numbers]).T
    return numbers


def _enlarged_row(row: NDArray[np.float64], factor: int) -> list[float]:
    result = []
    for place in range(len(row) * factor):
        centre = (place + 0.5) / factor - 0.5
        total = weights = 0.0
        for index in range(len(row)):
            weight = max(0.0, 1 - abs(centre - index))
            if weight and not np.isnan(row[index]):
                total, weights = total + weight * row[index], weights + weight
        result.append(total / weights if weights else np.nan)
    return result
