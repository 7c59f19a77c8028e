"""A heat map as files: two pictures, peaks, and of a scene with a place on earth a GeoTIFF."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rsretrieval.archive.rasters.raster import Raster
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.files import write_png, write_text, write_whole
from rsretrieval.lazy import needs
from rsretrieval.localization.heat import Heat, Peak
from rsretrieval.localization.scene import OpenScene

SIDE = 2048
"""Pixels, of the longer side of a picture."""
OPACITY = 0.45
MARK = 9  # pixels


def heat_picture(heat: Heat) -> Image.Image:
    """From blue (low) over green to red (high); grey where there is no data."""
    colours = cv2.cvtColor(cv2.applyColorMap(heat.values, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colours[~heat.valid] = 128
    picture = Image.fromarray(colours)
    picture.thumbnail((SIDE, SIDE))
    return picture


def overlay(scene: OpenScene, heat: Heat, found: Sequence[Peak]) -> Image.Image:
    """The scene beneath its heat map, peaks ringed in white."""
    raster = scene.reader.raster(scene.item)
    shrink = max(1.0, max(raster.width, raster.height) / SIDE)
    size = max(1, round(raster.width / shrink)), max(1, round(raster.height / shrink))
    whole = Tile(0, 0, raster.width, raster.height, *size)
    picture = scene.reader.picture(scene.item, whole) or Image.new("RGB", size)
    colours = heat_picture(heat).resize(size, Image.Resampling.BILINEAR)
    mixed = np.asarray(Image.blend(picture, colours, OPACITY)).copy()
    for peak in found:
        cv2.circle(mixed, (round(peak.x / shrink), round(peak.y / shrink)), MARK, (255, 255, 255), 2, cv2.LINE_AA)
    return Image.fromarray(mixed)


def peaks_geojson(raster: Raster, query: str, found: Sequence[Peak]) -> dict[str, Any]:
    """Points in EPSG:4326 with ``value``, ``x`` and ``y``; without a place on earth they have no geometry."""
    features = []
    for rank, peak in enumerate(found, 1):
        footprint = raster.footprint(Tile(peak.x, peak.y, 1, 1, 1, 1))
        place = None
        if footprint is not None:
            west, south, east, north = footprint.bbox
            place = {"type": "Point", "coordinates": [(west + east) / 2, (south + north) / 2]}
        told = {"rank": rank, "value": round(peak.value, 4), "x": peak.x, "y": peak.y, "query": query}
        features.append({"type": "Feature", "geometry": place, "properties": told})
    return {"type": "FeatureCollection", "features": features}


def write_geotiff(file: Path, raster: Raster, heat: Heat) -> None:
    """The map as a cloud-optimised GeoTIFF of eight bits in the scene's own grid; no data is a mask."""
    rasterio = needs("rasterio", "archive")
    height, width = heat.values.shape
    a, b, c, d, e, f = raster.transform[:6]
    grid = type(raster.transform)(a * heat.shrink, b * heat.shrink, c, d * heat.shrink, e * heat.shrink, f)
    form = {"width": width, "height": height, "count": 1, "dtype": "uint8", "crs": raster.crs, "transform": grid}

    def write(partial: Path) -> None:
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", **form) as content:
                content.write(heat.values, 1)
                content.write_mask(heat.valid)
            needs("rasterio.shutil", "archive").copy(memory.name, str(partial), driver="COG", compress="deflate")

    write_whole(file, write)


def write_all(folder: Path, scene: OpenScene, query: str, heat: Heat, found: Sequence[Peak]) -> list[Path]:
    """Write ``heat.png``, ``overlay.png``, ``peaks.geojson`` and, of a scene with a geotransform, ``heat.tif``."""
    raster = scene.reader.raster(scene.item)
    pictures = {"heat.png": heat_picture(heat), "overlay.png": overlay(scene, heat, found)}
    files = [folder / name for name in pictures]
    for file, picture in zip(files, pictures.values(), strict=True):
        write_png(file, picture)
    files.append(folder / "peaks.geojson")
    write_text(files[-1], json.dumps(peaks_geojson(raster, query, found), indent=1) + "\n")
    if raster.crs and not raster.transform.is_identity:
        files.append(folder / "heat.tif")
        write_geotiff(files[-1], raster, heat)
    return files
