"""Figures of a split that was evaluated, scene by scene."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.data.table import Table
from rsretrieval.metrics import SplitEmbeddings
from rsretrieval.metrics.classification import confusion_matrix
from rsretrieval.metrics.functional import hit_probability, ranks_of_pairs


class SceneFigures(NamedTuple):
    """Scene by scene.

    Attributes:
        names: of the scenes, in alphabetical order; those alone that have images.
        images: ``(S,)`` numbers of images.
        recall: ``i2t_R@K``, ``t2i_R@K`` and ``mR``, ``(S,)`` in percent: queries of the scene, against the whole split.
        confusion: ``(S, S)`` numbers of captions: row the scene of the query, column that of the first image.
    """

    names: list[str]
    images: Tensor
    recall: dict[str, Tensor]
    confusion: Tensor


def mean_by_label(values: Tensor, labels: Tensor, count: int) -> Tensor:
    """The mean of the values of each label, float64; NaN for a label that none has.

    Args:
        values: ``(Q,)``.
        labels: ``(Q,)`` from 0 to below ``count``.
        count: of labels.
    """
    sums = torch.zeros(count, dtype=torch.float64).index_add(0, labels, values.double())
    return sums / torch.bincount(labels, minlength=count)


def scene_figures(table: Table, embeddings: SplitEmbeddings, ks: tuple[int, ...] = (1, 5, 10)) -> SceneFigures:
    """Recall of each scene's queries, every caption one and right for its own image; which scene is taken for which.

    Args:
        table: of the split, whose images have scene labels.
        embeddings: of it.
        ks: the ranks.
    """
    image, image_ids, distinct, caption_rows, owners = (field.cpu() for field in embeddings)
    present, scenes = torch.tensor(table.scenes)[image_ids].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    text, of_caption = distinct[caption_rows], scenes[owners]
    ranks = ranks_of_pairs(image, text, torch.arange(len(owners)), owners)

    labels = {"i2t": scenes, "t2i": of_caption}
    recall = {
        f"{name}_R@{k}": 100 * mean_by_label(hit_probability(*counts, k, "expected"), labels[name], len(present))
        for name, counts in ranks.items()
        for k in ks
    }
    first = torch.cat([(part @ image.T).argmax(1) for part in torch.split(distinct, 1024)])[caption_rows]
    return SceneFigures(
        names=[table.scene_names[scene] for scene in present.tolist()],
        images=torch.bincount(scenes, minlength=len(present)),
        recall={**recall, "mR": torch.stack(list(recall.values())).mean(0)},
        confusion=confusion_matrix(of_caption, scenes[first], len(present)),
    )
