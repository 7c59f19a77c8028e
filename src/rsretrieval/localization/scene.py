"""A scene's windows embedded once, and kept beside it: queries then take no look at its pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from rsretrieval.archive.inputs import Input, find_inputs
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import Piece, Reader
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import write_text, write_whole
from rsretrieval.localization.grid import Windows, windows

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

SCALES = (256, 512, 768)
"""Sides of windows in pixels, of the paper."""
BATCH = 64
ABOUT = "about.json"
RASTERS = ("picture", "raster", "safe", "stac")
"""Kinds of inputs that are one scene."""


class SceneWindows(NamedTuple):
    """Where a scene's windows lie, and what a model makes of them.

    Attributes:
        places: ``(N, 4)``, see :data:`rsretrieval.localization.grid.Windows`; those of nothing but no data left out.
        vectors: ``(N, d)`` float32, L2-normalised.
        width: of the scene, in pixels.
        height: of the scene, in pixels.
        folder: where they are kept.
    """

    places: Windows
    vectors: NDArray[np.float32]
    width: int
    height: int
    folder: Path


class OpenScene(NamedTuple):
    """A scene and how it is read for a model, opened once for its windows and its picture.

    Attributes:
        item: the file.
        reader: of it.
    """

    item: Input
    reader: Reader


def scene_input(scene: str) -> Input:
    """The one raster or picture that a name stands for.

    Raises:
        ArchiveError: if it stands for nothing, for several or for a table of images.
    """
    inputs = find_inputs([scene], Path(scene).expanduser().resolve().parent)
    if len(inputs) != 1 or inputs[0].kind not in RASTERS:
        raise ArchiveError(
            f"'{scene}' is {len(inputs)} files, the first of kind '{inputs[0].kind}': give one scene, a picture, a "
            "raster of GDAL, a .SAFE product or a STAC item; many files are for `rsretrieval embed` and `search`"
        )
    return inputs[0]


def embed_scene(
    retriever: Retriever, scene: str | OpenScene, scales: Sequence[int] = SCALES, *, progress: bool = True
) -> SceneWindows:
    """The windows of a scene and their embeddings, from what was kept, or by reading it window by window.

    They are kept in ``SCENE.localize/KEY``, by batches, so that a killed process goes on; ``KEY`` changes with the
    model, its preprocessing, scales, options and the file.

    Args:
        retriever: the model.
        scene: by name, or open.
        scales: sides of windows, in pixels.
        progress: show a bar.

    Raises:
        ArchiveError: if it is no scene, or has no pixel with data.
        BrokenImageError: if it cannot be read.
    """
    item, reader = OpenScene(scene_input(scene), Reader(retriever, Options())) if isinstance(scene, str) else scene
    raster = reader.raster(item)
    places = windows(raster.width, raster.height, scales)
    about = _about(retriever, item, scales, reader.options, (raster.width, raster.height))
    key = blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=6).hexdigest()
    path = Path(item.place)
    folder = path.with_name(f"{path.name}.localize") / key
    if not (folder / ABOUT).is_file():
        write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    parts = [
        _part(folder / f"{start:08d}.npy", retriever, reader, item, places[start : start + BATCH])
        for start in tqdm(range(0, len(places), BATCH), unit=f" x {BATCH} windows", disable=not progress)
    ]
    vectors = np.concatenate(parts)
    seen = ~np.isnan(vectors[:, 0])
    if not seen.any():
        raise ArchiveError(f"'{item.place}' has no pixel with data")
    return SceneWindows(places[seen], vectors[seen], raster.width, raster.height, folder)


def _about(
    retriever: Retriever, item: Input, scales: Sequence[int], options: Options, size: tuple[int, int]
) -> dict[str, Any]:
    status = Path(item.place).stat()
    return {
        "model": retriever.digest, "rendering": str(retriever.rendering), "scale": options.scale,
        "bands": options.bands, "scales": list(scales), "size": list(size),
        "file": [status.st_size, status.st_mtime_ns],
    }  # fmt: skip


def _part(file: Path, retriever: Retriever, reader: Reader, item: Input, places: Windows) -> NDArray[np.float32]:
    """Vectors of some windows ``(N, d)``, NaN for those without data."""
    if file.is_file():
        kept: NDArray[np.float32] = np.load(file)
        return kept
    vectors = np.full((len(places), retriever.model.embed_dim), np.nan, np.float32)
    squares = {}
    for row, (left, top, right, bottom) in enumerate(places.tolist()):
        tile = Tile(left, top, right - left, bottom - top, right - left, bottom - top)
        loaded = reader.load(Piece(f"{item.name}#{left},{top},{right},{bottom}", item, tile))
        if loaded is not None:
            squares[row] = loaded.square
    if squares:
        vectors[list(squares)] = retriever.encode_squares(list(squares.values())).numpy()

    def write(partial: Path) -> None:
        with partial.open("wb") as content:
            np.save(content, vectors)

    write_whole(file, write)
    return vectors
