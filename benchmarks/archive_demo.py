"""A mosaic of embedded scenes with known places, and how well an archive of it finds them: see `make archive-demo`.

python benchmarks/archive_demo.py mosaic FOLDER     writes mosaic.tif (6,000 x 6,000 pixels of 1 m) and places.geojson
python benchmarks/archive_demo.py check FOLDER      searches FOLDER/archive by captions, and compares with the places
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SIDE, SCENE, GRID = 6000, 96, 62
SEED = 3_000_000  # beyond those of training, validation and test
ASKED = 200
CORNER = (447_000, 5_413_000)  # in UTM 31N, EPSG:32631: beside Paris
log = logging.getLogger("archive_demo")


def mosaic(folder: Path) -> None:
    """Write the mosaic, tiled and compressed, and one feature for each scene: its place and its captions."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.warp import transform_geom
    from rasterio.windows import Window

    from rsretrieval.data.datasets.synthetic.scenes import render, sample_scene

    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": "EPSG:32631",
        "transform": from_origin(*CORNER, 1, 1), "tiled": True, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    features = []
    with rasterio.open(folder / "mosaic.tif", "w", **profile) as raster:
        for row in range(GRID):
            scenes = [sample_scene(SEED + row * GRID + column) for column in range(GRID)]
            strip = np.full((SCENE, SIDE, 3), (96, 112, 80), np.uint8)
            strip[:, : GRID * SCENE] = np.concatenate([np.asarray(render(scene, SCENE)) for scene in scenes], axis=1)
            raster.write(np.moveaxis(strip, -1, 0), window=Window(0, row * SCENE, SIDE, SCENE))
            for column, scene in enumerate(scenes):
                west, north = CORNER[0] + column * SCENE, CORNER[1] - row * SCENE
                corners = ((0, 0), (0, SCENE), (SCENE, SCENE), (SCENE, 0), (0, 0))
                ring = [(west + x, north - y) for x, y in corners]
                place = transform_geom("EPSG:32631", "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})
                box = [column * SCENE, row * SCENE, (column + 1) * SCENE, (row + 1) * SCENE]
                about = {"label": scene.label, "captions": list(scene.captions), "pixel_bbox": box}
                features.append({"type": "Feature", "geometry": place, "properties": about})
    (folder / "places.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    log.info("%d scenes: %s, in %.0f s", len(features), folder / "mosaic.tif", time.perf_counter() - start)


def check(folder: Path) -> None:
    """Recall of known places, and how far the answers lie from them."""
    from rsretrieval.archive import Archive

    features = json.loads((folder / "places.geojson").read_text())["features"]
    archive = Archive.open(folder / "archive")
    chosen = np.random.default_rng(0).choice(len(features), ASKED, replace=False)
    hits = {1: 0, 10: 0, 100: 0}
    scenes = furthest = 0.0
    start = time.perf_counter()
    for number in chosen:
        about = features[number]["properties"]
        found = archive.search(text=about["captions"][0], k=100)
        boxes = [list(answer.pixel_bbox) for answer in found.answers]
        for k in hits:
            hits[k] += about["pixel_bbox"] in boxes[:k]
        top = [features[_scene(box)]["properties"]["label"] for box in boxes[:10] if _scene(box) is not None]
        scenes += top.count(about["label"]) / max(1, len(top))
        if about["pixel_bbox"] in boxes:
            answer = found.answers[boxes.index(about["pixel_bbox"])]
            place = np.array(features[number]["geometry"]["coordinates"][0])
            west, south, east, north = answer.bbox
            corners = np.abs([place[:, 0].min() - west, place[:, 1].min() - south, place[:, 0].max() - east,
                              place[:, 1].max() - north])  # fmt: skip
            furthest = max(furthest, float(corners.max()))
    seconds = (time.perf_counter() - start) / ASKED
    chance = {k: 100 * k / len(archive) for k in hits}
    print(f"{ASKED} captions of {len(features)} places among {len(archive)} tiles, {seconds * 1000:.0f} ms each:")  # noqa: T201
    for k, count in hits.items():
        print(f"  the place itself among the first {k}: {100 * count / ASKED:.1f} % (by chance {chance[k]:.2f} %)")  # noqa: T201
    print(f"  of the first 10, of the right scene: {100 * scenes / ASKED:.0f} %")  # noqa: T201
    print(f"  answers lie where the scenes were put: within {furthest:.1e} degrees")  # noqa: T201
    if hits[100] <= 5 * chance[100] * ASKED / 100 or furthest > 1e-9:
        sys.exit("the archive does not find its places")


def _scene(box: list[int]) -> int | None:
    """Number of the scene that a tile shows; None for a tile across several."""
    column, row = box[0] / SCENE, box[1] / SCENE
    inside = column.is_integer() and row.is_integer() and column < GRID and row < GRID
    return int(row) * GRID + int(column) if inside else None


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    {"mosaic": mosaic, "check": check}[sys.argv[1]](Path(sys.argv[2]))
