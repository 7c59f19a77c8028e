"""A scene's cells by a tower's tokens, in one pass over overlapping windows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rsretrieval.images import stack
from rsretrieval.localization.grid import Windows, overlapping
from rsretrieval.localization.parts import Parts
from rsretrieval.localization.scene import OpenScene, SceneWindows, compute, with_data
from rsretrieval.models.tokens import cell_vectors


def embed_cells(scene: OpenScene, side: int | None = None, *, progress: bool = True) -> SceneWindows:
    """The cells of a scene, from what was kept, or by reading it window by window; each window half over the next.

    Args:
        scene: with its model.
        side: of windows, in pixels; None for the model's image size.
        progress: show a bar.

    Returns:
        Cells by place, the mean of the windows that see them; vectors as of
        :func:`rsretrieval.models.tokens.cell_vectors`, in half precision as they are kept.

    Raises:
        TokensError: for a model without vectors of cells.
        ArchiveError: if there is no pixel with data.
        BrokenImageError: if the scene cannot be read.
    """
    model, side = scene.retriever.model, min(side or scene.retriever.image_size, *scene.size)
    places = overlapping(*scene.size, side)

    def encode(squares: list[NDArray[np.uint8]]) -> NDArray[np.float16]:
        return cell_vectors(model, stack(squares).to(model.device)).to(torch.float16).cpu().numpy()

    how = {"tokens": side}
    parts = compute(scene, how, places, np.arange(len(places)), encode, progress=progress)
    return with_data(SceneWindows(*_merged(parts, places, model.embed_dim), *scene.size, parts.folder), scene)


def _merged(parts: Parts, places: Windows, width: int) -> tuple[Windows, NDArray[np.float32]]:
    """Cells ``(N, 4)`` and the mean of the vectors that windows have for each, ``(N, d)``."""
    cells, cell_of = np.zeros((0, 4), np.int64), np.zeros((0, 0), np.int64)
    sums = np.zeros((0, width), np.float32)
    for rows, kept in parts:
        if kept.ndim < 3:
            continue  # windows of nothing but no data
        if not len(cells):
            cells, cell_of = _cells(places, round(kept.shape[1] ** 0.5))
            sums, counts = np.zeros((len(cells), width), np.float32), np.zeros(len(cells), np.int64)
        for row, vectors in zip(rows, kept, strict=True):
            if not np.isnan(vectors[0, 0]):
                sums[cell_of[row]] += vectors
                counts[cell_of[row]] += 1
    if not len(cells):
        return cells, sums
    sums /= counts[:, None].clip(1).astype(np.float32)  # in place: gigabytes, of a large scene
    seen = counts > 0
    return (cells, sums) if seen.all() else (cells[seen], sums[seen])


def _cells(places: Windows, side: int) -> tuple[Windows, NDArray[np.int64]]:
    """All cells ``(N, 4)`` of windows that are so many cells wide, and each window's ``(W, T)`` by number."""
    steps = np.arange(side + 1) / side
    across, down = (
        (near[:, None] + np.rint((far - near)[:, None] * steps)).astype(np.int64)
        for near, far in (places[:, [0, 2]].T, places[:, [1, 3]].T)
    )
    shape = (len(places), side, side)
    corners = (across[:, None, :-1], down[:, :-1, None], across[:, None, 1:], down[:, 1:, None])
    every = np.stack([np.broadcast_to(corner, shape).reshape(-1) for corner in corners], axis=1)
    keys = every[:, 1] * (every[:, 2].max() + 1) + every[:, 0]
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    return every[first], number.reshape(len(places), -1)
