"""Images, rasters and archives for tests of what is done with them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from rsretrieval.embeddings import EmbeddingsFile


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    """Pixels at random."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """PNGs of noise, ``0.png`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.png" for number in range(first, first + count)]
    for number, file in enumerate(files, first):
        Image.fromarray(noise(number, 30, 40, 3)).save(file)
    return files


def write_raster(file: Path, values: NDArray[Any], *, pixel: float = 10, **profile: Any) -> None:
    """``(bands, H, W)`` as a GeoTIFF in UTM 33N."""
    form = {
        "driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2],
        "dtype": values.dtype, "crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, pixel, pixel),
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(file, "w", **{**form, **profile}) as raster:
        raster.write(values)


def png(values: NDArray[np.uint8]) -> bytes:
    """Encoded."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def vectors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Id to embedding of an archive."""
    content = EmbeddingsFile(folder)
    ids = content.information(["id"])["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, np.concatenate([part for _, part in content.vectors()]), strict=True))


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every row with all of its columns."""
    return pq.read_table(folder / "embeddings.parquet").to_pylist()  # type: ignore[no-any-return]
