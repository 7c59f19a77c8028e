"""Semantic localisation over large scenes: on real imagery, on embedded scenes, and memory.

    python benchmarks/localize.py mosaic FOLDER --path RSICD        40 x 40 images of RSICD's validation split, shuffled
    python benchmarks/localize.py hits FOLDER --model rsicd-lite --preset small_windows     one query a scene's name
    python benchmarks/localize.py classes FOLDER --model rsicd-lite                          all scenes at once
    python benchmarks/localize.py large FOLDER --model rsicd-lite               10,000 x 10,000 pixels

`mosaic` writes a GeoTIFF of 8,960 x 8,960 pixels and what lies where: each image once, then as many again as it takes,
in another order. `hits` asks for the 31 scenes by name ("an aerial photo of an airport"), and counts first peaks, and
any of the first ten, in an image of that scene; by chance it is the scene's share of the mosaic. Seconds are those of
the first time, when windows are embedded, and of a query then; memory is the largest resident set of the process.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rsretrieval.classification.texts import in_words
from rsretrieval.files import write_png
from rsretrieval.localization import outputs
from rsretrieval.localization.classes import class_map, named_queries
from rsretrieval.localization.heat import Heat, Peak, peaks
from rsretrieval.localization.localizer import Localizer, method_of
from rsretrieval.localization.scene import open_scene
from rsretrieval.retriever import Retriever

SIDE, GRID = 224, 40
CORNER = (447_000, 5_413_000)  # in UTM 31N, EPSG:32631
LARGE, PICTURE = 10_000, 560  # pixels
TEMPLATE = "an aerial photo of a {}"


def write_mosaic(file: Path, rows: Any, width: int, height: int) -> None:  # noqa: ANN401
    """A GeoTIFF of strips ``(h, width, 3)``, tiled and compressed."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    profile: dict[str, Any] = {
        "driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32631",
        "transform": from_origin(*CORNER, 1, 1), "tiled": True, "compress": "deflate", "zlevel": 1,
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(file, "w", **profile) as raster:
        top = 0
        for strip in rows:
            raster.write(np.moveaxis(strip, -1, 0), window=Window(0, top, width, len(strip)))
            top += len(strip)


def mosaic(options: argparse.Namespace) -> None:
    """Of RSICD's validation split."""
    import pyarrow.parquet as pq

    table = pq.read_table(next(options.path.glob("valid-*.parquet")), columns=["filename", "image"]).to_pylist()
    labels = json.loads((options.path / "scenes.json").read_text())
    generator = np.random.default_rng(0)
    order = np.concatenate([generator.permutation(len(table)) for _ in range(-(-(GRID**2) // len(table)))])[: GRID**2]
    images = [
        np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").resize((SIDE, SIDE))) for row in table
    ]
    strips = (np.concatenate([images[n] for n in row], axis=1) for row in order.reshape(GRID, GRID))
    write_mosaic(options.folder / "mosaic.tif", strips, SIDE * GRID, SIDE * GRID)
    names = [labels[Path(table[number]["filename"]).name] for number in order]
    (options.folder / "scenes.json").write_text(json.dumps({"side": SIDE, "grid": GRID, "names": names}))


def scenes_of(folder: Path) -> tuple[NDArray[np.str_], int]:
    """Names of the scenes, row by row, and their side in pixels; of `mosaic` or of archive_demo.py."""
    if (folder / "scenes.json").is_file():
        about = json.loads((folder / "scenes.json").read_text())
    else:
        places = [one["properties"] for one in json.loads((folder / "places.geojson").read_text())["features"]]
        left, _, right, _ = places[0]["pixel_bbox"]
        about = {"side": right - left, "grid": round(len(places) ** 0.5), "names": [one["label"] for one in places]}
    return np.array(about["names"]).reshape(about["grid"], about["grid"]), about["side"]


def texts_of(names: NDArray[np.str_], file: Path | None) -> dict[str, str]:
    """What each scene is asked for by: lines of a file, or its name."""
    if file is not None:
        return named_queries(file.read_text().splitlines())
    return {name: TEMPLATE.format(in_words(name)) for name in sorted(set(names.flat))}


def hits(options: argparse.Namespace) -> None:
    """First peaks in an image of the scene that is asked for."""
    names, side = scenes_of(options.folder)
    texts = texts_of(names, options.queries)
    localizer, opened = open_localizer(options, options.folder / "mosaic.tif")
    first = any_of_ten = chance = seconds = 0.0
    for name, text in texts.items():
        began = time.perf_counter()
        heat = localizer.heat(text)
        found = peaks(heat, localizer.reach, 10, least=0)
        seconds += time.perf_counter() - began
        places = [(peak.y // side, peak.x // side) for peak in found]
        at = [str(names[place]) if max(place) < len(names) else "none" for place in places]
        first, any_of_ten, chance = first + (at[0] == name), any_of_ten + (name in at), chance + (names == name).mean()
        print(f"{name:<20}{at[0]:<20}{at.count(name)} of {len(at)}")  # noqa: T201
        if name in options.pictures:
            where = f"{name}-{options.method if options.preset is None else options.preset}"
            write_png(options.folder / f"{where}-overlay.png", outputs.overlay(localizer.scene, heat, found[:3]))
            write_png(options.folder / f"{where}.png", outlined(heat, names == name, found[:3]))
    count = len(texts)
    found_of = f"first peak {first:.0f} of {count} (by chance {chance:.1f}), among ten {any_of_ten:.0f}"
    took = f"{opened:.0f} s for {len(localizer.windows.places)} windows or cells, {seconds / count:.2f} s a query"
    print(f"{found_of}; {took}, {memory():.2f} GiB at most")  # noqa: T201
    if first <= 2 * chance:
        sys.exit("the maps do not find their scenes")


def classes(options: argparse.Namespace) -> None:
    """All scenes at once: the share of pixels whose class is right, and of those of none, by the least z."""
    names, side = scenes_of(options.folder)
    texts = texts_of(names, options.queries)
    localizer, _ = open_localizer(options, options.folder / "mosaic.tif")
    for least in (-100.0, 0.0, 1.0, 2.0):
        found = class_map(localizer, texts, least)
        rows, columns = (np.arange(length) * found.shrink // side for length in found.values.shape)
        numbers = np.vectorize({name: number for number, name in enumerate(texts, 1)}.get)(names, -1)
        truth = numbers[np.ix_(rows.clip(max=len(names) - 1), columns.clip(max=len(names) - 1))]
        other = found.values == 0
        right = (found.values == truth).sum() / max(1, (~other).sum())
        shares = f"{100 * other.mean():.1f} % of none, {100 * right:.1f} % of the rest right"
        print(f"least z {least}: {shares}; against {found.against}")  # noqa: T201


def outlined(heat: Heat, asked: NDArray[np.bool_], found: list[Peak]) -> Image.Image:
    """A heat map without the imagery, the images of the scene that was asked for outlined, peaks as rings."""
    picture = outputs.heat_picture(heat).resize((PICTURE, PICTURE))
    draw, side = ImageDraw.Draw(picture), PICTURE / len(asked)
    for row, column in np.argwhere(asked):
        draw.rectangle((column * side, row * side, (column + 1) * side - 1, (row + 1) * side - 1), outline="white")
    scale = PICTURE / (heat.values.shape[1] * heat.shrink)
    for peak in found:
        x, y = peak.x * scale, peak.y * scale
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline="black", width=3)
    return picture


def open_localizer(options: argparse.Namespace, scene: Path) -> tuple[Localizer, float]:
    """And the seconds that it takes."""
    retriever = Retriever.from_pretrained(options.model)
    method = method_of(options.method, options.preset, options.scales, options.smooth)
    began = time.perf_counter()
    return Localizer(open_scene(retriever, str(scene)), method), time.perf_counter() - began


def memory() -> float:
    """GiB, the largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def large(options: argparse.Namespace) -> None:
    """A scene of 10,000 x 10,000 pixels from nothing, and one query."""
    file = options.folder / "large.tif"
    if not file.is_file():
        generator = np.random.default_rng(0)
        strips = (
            np.repeat(np.repeat(generator.integers(0, 256, (25, LARGE // 20, 3), np.uint8), 20, 0), 20, 1)
            for _ in range(20)
        )
        write_mosaic(file, strips, LARGE, LARGE)
    localizer, opened = open_localizer(options, file)
    began = time.perf_counter()
    heat = localizer.heat("a red roof")
    outputs.write_all(options.folder / "large", localizer.scene, "a red roof", heat, peaks(heat, localizer.reach))
    took = f"{opened:.0f} s for {len(localizer.windows.places)} windows or cells"
    seconds = time.perf_counter() - began
    print(f"{took}, {seconds:.1f} s for a query with its files, {memory():.2f} GiB at most")  # noqa: T201


def main() -> None:
    """Run one of the functions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mosaic", "hits", "classes", "large"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--path", type=Path, help="folder of RSICD's parquet files and scenes.json")
    parser.add_argument("--model", default="rsicd-lite")
    parser.add_argument("--method", default="tiles")
    parser.add_argument("--preset")
    parser.add_argument("--scales", type=int, nargs="+")
    parser.add_argument("--smooth")
    parser.add_argument("--queries", type=Path, help="file of 'SCENE: SENTENCE' lines, in place of the scenes' names")
    parser.add_argument("--pictures", nargs="*", default=[], help="scenes whose maps are drawn")
    options = parser.parse_args()
    {"mosaic": mosaic, "hits": hits, "classes": classes, "large": large}[options.what](options)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
