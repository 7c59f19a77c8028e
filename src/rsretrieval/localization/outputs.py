"""Maps as files: pictures, peaks, and of a scene with a place on earth a GeoTIFF."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsretrieval.archive.rasters.raster import Raster
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.files import write_png, write_text, write_whole
from rsretrieval.lazy import needs
from rsretrieval.localization.classes import NO_DATA, ClassMap, colours, picture_of, with_legend
from rsretrieval.localization.heat import Heat, Peak
from rsretrieval.localization.scene import OpenScene

SIDE = 2048
"""Pixels, of the longer side of a picture."""
OPACITY = 0.45
MARK = 9  # pixels
PeaksFormat = Literal["geojson", "gpkg"]


def heat_picture(heat: Heat) -> Image.Image:
    """From blue (low) over green to red (high); grey where there is no data."""
    shown = heat.colours()
    shown[~heat.valid] = 128
    picture = Image.fromarray(shown)
    picture.thumbnail((SIDE, SIDE))
    return picture


def scene_picture(scene: OpenScene) -> Image.Image:
    """The whole scene, small; black where there is no data."""
    width, height = scene.size
    shrink = max(1.0, max(width, height) / SIDE)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    return scene.reader.picture(scene.item, Tile(0, 0, width, height, *size)) or Image.new("RGB", size)


def overlay(scene: OpenScene, heat: Heat, found: Sequence[Peak]) -> Image.Image:
    """The scene beneath its heat map, peaks ringed in white."""
    picture = scene_picture(scene)
    shrink = scene.size[0] / picture.width
    above = heat_picture(heat).resize(picture.size, Image.Resampling.BILINEAR)
    mixed = np.asarray(Image.blend(picture, above, OPACITY)).copy()
    for peak in found:
        cv2.circle(mixed, (round(peak.x / shrink), round(peak.y / shrink)), MARK, (255, 255, 255), 2, cv2.LINE_AA)
    return Image.fromarray(mixed)


def _points(raster: Raster, found: Sequence[Peak]) -> list[tuple[float, float] | None]:
    """Of peaks longitude and latitude; None without a place on earth."""
    footprints = [raster.footprint(Tile(peak.x, peak.y, 1, 1, 1, 1)) for peak in found]
    boxes = [None if footprint is None else footprint.bbox for footprint in footprints]
    return [None if box is None else ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]


def _told(query: str, found: Sequence[Peak]) -> list[dict[str, Any]]:
    return [
        {"rank": rank, "value": round(peak.value, 4), "x": peak.x, "y": peak.y, "query": query}
        for rank, peak in enumerate(found, 1)
    ]


def peaks_geojson(raster: Raster, query: str, found: Sequence[Peak]) -> dict[str, Any]:
    """Points in EPSG:4326 with ``value``, ``x`` and ``y``; without a place on earth they have no geometry."""
    features = [
        {"type": "Feature", "geometry": place and {"type": "Point", "coordinates": list(place)}, "properties": told}
        for place, told in zip(_points(raster, found), _told(query, found), strict=True)
    ]
    return {"type": "FeatureCollection", "features": features}


def write_gpkg(file: Path, raster: Raster, query: str, found: Sequence[Peak]) -> None:
    """The same points as a GeoPackage of one layer, ``peaks``."""
    write = needs("pyogrio.raw", "archive").write
    points, told = _points(raster, found), _told(query, found)
    wkb = [None if p is None else b"\x01\x01\x00\x00\x00" + np.array(p, "<f8").tobytes() for p in points]
    fields = {name: np.array([row[name] for row in told]) for name in ("rank", "value", "x", "y")}
    fields["query"] = np.array([query] * len(told), object)
    options = {"layer": "peaks", "driver": "GPKG", "geometry_type": "Point", "crs": "EPSG:4326"}
    write_whole(file, lambda to: write(to, np.array(wkb, object), list(fields.values()), list(fields), **options))


def write_geotiff(
    file: Path,
    raster: Raster,
    values: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    shrink: int,
    found: ClassMap | None = None,
) -> None:
    """Values of eight bits as a cloud-optimised GeoTIFF in the scene's own grid; no data is a mask.

    Args:
        file: to write.
        raster: the scene.
        values: ``(H / shrink, W / shrink)``.
        valid: the same shape.
        shrink: pixels of the scene that a value stands for, in x and in y.
        found: of classes, whose colours and names are written too.
    """
    rasterio = needs("rasterio", "archive")
    height, width = values.shape
    a, b, c, d, e, f = raster.transform[:6]
    grid = type(raster.transform)(a * shrink, b * shrink, c, d * shrink, e * shrink, f)
    form = {"width": width, "height": height, "count": 1, "dtype": "uint8", "crs": raster.crs, "transform": grid}

    def write(partial: Path) -> None:
        with rasterio.MemoryFile() as memory:
            with memory.open(driver="GTiff", **form) as content:
                content.write(values, 1)
                content.write_mask(valid)
                if found is not None:
                    content.write_colormap(1, dict(enumerate(colours(len(found.names)))))
                    content.update_tags(1, **{f"class_{n}": name for n, name in enumerate(["other", *found.names])})
            needs("rasterio.shutil", "archive").copy(memory.name, str(partial), driver="COG", compress="deflate")

    write_whole(file, write)


def write_all(
    folder: Path, scene: OpenScene, query: str, heat: Heat, found: Sequence[Peak], form: PeaksFormat = "geojson"
) -> list[Path]:
    """Write ``heat.png``, ``overlay.png``, ``peaks.geojson`` and, of a scene with a place on earth, ``heat.tif``.

    Args:
        folder: to write to.
        scene: that the map is of.
        query: in words.
        heat: the map.
        found: its peaks.
        form: ``gpkg`` for ``peaks.gpkg`` instead.
    """
    raster = scene.reader.raster(scene.item)
    files = _write_pictures(folder, {"heat.png": heat_picture(heat), "overlay.png": overlay(scene, heat, found)})
    files.append(folder / f"peaks.{form}")
    if form == "gpkg":
        write_gpkg(files[-1], raster, query, found)
    else:
        write_text(files[-1], json.dumps(peaks_geojson(raster, query, found), indent=1) + "\n")
    if _has_a_place(raster):
        files.append(folder / "heat.tif")
        write_geotiff(files[-1], raster, heat.values, heat.valid, heat.shrink)
    return files


def write_classes(folder: Path, scene: OpenScene, found: ClassMap) -> list[Path]:
    """Write ``classes.png``, ``classes-overlay.png`` and, of a scene with a place, ``classes.tif``."""
    raster, below = scene.reader.raster(scene.item), scene_picture(scene)
    above = picture_of(found, below.size)
    pictures = {"classes.png": above, "classes-overlay.png": Image.blend(below, above, OPACITY)}
    files = _write_pictures(folder, {name: with_legend(picture, found) for name, picture in pictures.items()})
    if _has_a_place(raster):
        files.append(folder / "classes.tif")
        write_geotiff(files[-1], raster, found.values, found.values != NO_DATA, found.shrink, found)
    return files


def _has_a_place(raster: Raster) -> bool:
    return bool(raster.crs and not raster.transform.is_identity)


def _write_pictures(folder: Path, pictures: dict[str, Image.Image]) -> list[Path]:
    for name, picture in pictures.items():
        write_png(folder / name, picture)
    return [folder / name for name in pictures]
