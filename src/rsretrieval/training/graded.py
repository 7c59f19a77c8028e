"""Graded figures of a split that was evaluated: whether it has scene labels, and mAP@K and nDCG@K over them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from rsretrieval.data.stream import RetrievalStream
from rsretrieval.data.table import Table
from rsretrieval.metrics import CrossModalRecall, graded_retrieval

log = logging.getLogger(__name__)


def scene_table(loader: Any) -> Table | None:  # noqa: ANN401
    """The text side of a loader's split, where its images have scene labels; else None.

    They come from ``--data.scene_file``, a column or the file names
    (:func:`rsretrieval.data.scenes.scene_names`). A split has none where each image is a class of its own, and they
    say nothing where all are of one.
    """
    stream = getattr(loader, "dataset", None)
    if not isinstance(stream, RetrievalStream):
        return None
    return stream.table if 1 < len(set(stream.table.scenes)) < stream.table.images else None


def graded_figures(recall: CrossModalRecall, loader: Any, ks: Sequence[int]) -> dict[str, float]:  # noqa: ANN401
    """mAP@K and nDCG@K of what a metric holds, in percent, by its own protocol; on every process.

    Args:
        recall: with the embeddings of the loader's split.
        loader: of the split.
        ks: the ranks; none for no figures.

    Returns:
        See :func:`rsretrieval.metrics.graded_retrieval`; nothing where the split has no scene labels.
    """
    table = scene_table(loader)
    if not ks or table is None:
        return {}
    split = recall.whole()
    scenes = torch.tensor(table.scenes)[split.image_ids.cpu()]
    return graded_retrieval(**split.asked(recall.queries), scenes=scenes, ks=ks)


def graded_note(loader: Any) -> str:  # noqa: ANN401
    """What graded figures are of: how many scenes, and how many images' scene is a guess; or why there are none."""
    table = scene_table(loader)
    if table is None:
        return (
            "no mAP and nDCG: the split has no scene labels (--data.scene_file, a column, or file names that begin "
            "with the scene), or only one"
        )
    guessed = f"; that of {table.guessed} images is guessed from their captions" if table.guessed else ""
    return f"relevant is what is of the query's scene, of {len(set(table.scenes))} scenes{guessed}"
