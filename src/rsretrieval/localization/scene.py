"""A scene's windows embedded once, and kept beside it: queries then take no look at its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from rsretrieval.archive.inputs import Input, find_inputs
from rsretrieval.archive.loading import ahead
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import Piece, Reader
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.embeddings import ArchiveError
from rsretrieval.localization.grid import Windows, windows
from rsretrieval.localization.parts import Parts, Rows

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

SCALES = (256, 512, 768)
"""Sides of windows in pixels, of the paper."""
BATCH = 64
READERS = 2  # threads
RASTERS = ("picture", "raster", "safe", "stac")
"""Kinds of inputs that are one scene."""
Encode = Callable[[list[NDArray[Any]]], NDArray[Any]]
"""Squares as a model sees them to an array whose first dimension is theirs."""


class SceneWindows(NamedTuple):
    """Places in a scene, and what a model makes of them.

    Attributes:
        places: ``(N, 4)``, see :data:`rsretrieval.localization.grid.Windows`; those of nothing but no data left out.
        vectors: ``(N, d)`` float32: embeddings of windows, L2-normalised, or vectors of cells.
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
    """A scene and how a model reads it, opened once for its windows and its picture.

    Attributes:
        item: the file.
        reader: of it.
        retriever: the model.
    """

    item: Input
    reader: Reader
    retriever: Retriever

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        raster = self.reader.raster(self.item)
        return raster.width, raster.height


def open_scene(retriever: Retriever, scene: str, options: Options | None = None) -> OpenScene:
    """A scene by name, read for a model.

    Raises:
        ArchiveError: if it stands for nothing, for several files or for a table of images.
        BrokenImageError: if it cannot be opened.
    """
    return OpenScene(scene_input(scene), Reader(retriever, options or Options()), retriever)


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


def embed_windows(
    scene: OpenScene, scales: Sequence[int] = SCALES, chosen: Rows | None = None, *, progress: bool = True
) -> SceneWindows:
    """The windows of a scene and their embeddings, from what was kept, or by reading it window by window.

    They are kept in ``SCENE.localize/KEY``, by batches, so that a killed process goes on; ``KEY`` changes with the
    model, its preprocessing, scales, options and the file.

    Args:
        scene: with its model.
        scales: sides of windows, in pixels.
        chosen: numbers of some of :func:`rsretrieval.localization.grid.windows`; None for all.
        progress: show a bar.

    Raises:
        ArchiveError: if there is no pixel with data, of all windows.
        BrokenImageError: if it cannot be read.
    """
    places = windows(*scene.size, scales)
    wanted = np.arange(len(places)) if chosen is None else chosen

    def encode(squares: list[NDArray[Any]]) -> NDArray[Any]:
        return scene.retriever.encode_squares(squares).numpy()

    parts = compute(scene, {"scales": list(scales)}, places, wanted, encode, progress=progress)
    vectors = np.full((len(places), scene.retriever.model.embed_dim), np.nan, np.float32)
    for rows, kept in parts:
        vectors[rows] = kept
    seen = wanted[~np.isnan(vectors[wanted, 0])]
    found = SceneWindows(places[seen], vectors[seen], *scene.size, parts.folder)
    return with_data(found, scene) if chosen is None else found


def with_data(found: SceneWindows, scene: OpenScene) -> SceneWindows:
    """The windows, if there are any.

    Raises:
        ArchiveError: if not.
    """
    if not len(found.places):
        raise ArchiveError(f"'{scene.item.place}' has no pixel with data")
    return found


def compute(
    scene: OpenScene, how: dict[str, Any], places: Windows, wanted: Rows, encode: Encode, *, progress: bool
) -> Parts:
    """What a model makes of windows, in parts; those that are kept already are not read again.

    Args:
        scene: with its model.
        how: the windows are made and encoded; part of the key.
        places: all windows.
        wanted: numbers of those to compute.
        encode: squares to an array; of windows without data not a number is kept.
        progress: show a bar.

    Raises:
        BrokenImageError: if the scene cannot be read.
    """
    parts = Parts(Path(scene.item.place), {**_about(scene), **how})
    missing = np.setdiff1d(wanted, parts.rows())

    def load(row: int) -> NDArray[Any] | None:
        left, top, right, bottom = places[row].tolist()
        tile = Tile(left, top, right - left, bottom - top, right - left, bottom - top)
        loaded = scene.reader.load(Piece(f"{scene.item.name}#{left},{top},{right},{bottom}", scene.item, tile))
        return None if loaded is None else loaded.square

    squares: dict[int, NDArray[Any] | None] = {}
    with tqdm(total=len(missing), unit=" windows", disable=not progress or not len(missing)) as bar:
        for row, future in ahead(load, missing.tolist(), READERS, 2 * BATCH):
            squares[row] = future.result()
            if len(squares) == BATCH or row == missing[-1]:
                parts.add(np.array(list(squares)), _encoded(list(squares.values()), encode))
                bar.update(len(squares))
                squares.clear()
    return parts


def _encoded(squares: Sequence[NDArray[Any] | None], encode: Encode) -> NDArray[Any]:
    seen = [number for number, square in enumerate(squares) if square is not None]
    if not seen:
        return np.full((len(squares), 1), np.nan, np.float32)
    encoded = encode([square for square in squares if square is not None])
    vectors = np.full((len(squares), *encoded.shape[1:]), np.nan, encoded.dtype)
    vectors[seen] = encoded
    return vectors


def _about(scene: OpenScene) -> dict[str, Any]:
    status, options = Path(scene.item.place).stat(), scene.reader.options
    return {
        "model": scene.retriever.digest, "rendering": str(scene.retriever.rendering), "scale": options.scale,
        "bands": options.bands, "size": list(scene.size), "file": [status.st_size, status.st_mtime_ns],
    }  # fmt: skip
