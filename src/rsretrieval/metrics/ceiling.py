"""The ceiling of a split: the recall of a perfect encoder, which captions that repeat over images set.

Equal captions have equal embeddings. So a text query cannot tell the images that have it from each other, and an image
shares its caption's place with everybody else's copies of it. A perfect encoder scores a caption with each image that
has it equally and above all others, and of an image's captions ranks that first which the fewest others share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsretrieval.metrics.functional import hit_probability
from rsretrieval.metrics.inputs import integers
from rsretrieval.metrics.protocol import check_protocol


def recall_ceiling(
    *, owners: Tensor, text_ids: Tensor, ks: Sequence[int] = (1, 5, 10), queries: str = "every"
) -> dict[str, float]:
    """Recall of a perfect encoder, in percent, with ties by expectation; from the captions alone, in closed form.

    A caption that n images have finds its own among the first K with probability ``min(1, K / n)``. An image finds one
    of its own o copies of a caption, of which others have t, as
    :func:`rsretrieval.metrics.functional.hit_probability` says, and the best of its captions counts. Each figure is the
    best by itself. Equal images under several names would lower it further, and are not looked for.

    Args:
        owners: ``(M,)`` integers, equal for captions of one image.
        text_ids: ``(M,)`` integers, equal for equal captions.
        ks: the ranks.
        queries: see :func:`rsretrieval.metrics.retrieval_recall`; 100 everywhere for ``distinct``, where all images
            that have a caption are right.

    Returns:
        ``i2t_R@K`` and ``t2i_R@K`` for each K, and ``mR``.

    Raises:
        TypeError: for ids that are no integers.
        ValueError: for lengths that differ, no captions, ranks below 1, unknown ``queries``.

    Example:
        "a pier" describes images 0 and 1; image 0 has "a pond" too, and is found by that. Of the three text queries
        the two of "a pier" find their own image first half of the time:

        >>> ceiling = recall_ceiling(owners=torch.tensor([0, 0, 1]), text_ids=torch.tensor([5, 6, 6]), ks=(1,))
        >>> {name: round(value, 1) for name, value in ceiling.items()}
        {'i2t_R@1': 75.0, 't2i_R@1': 66.7, 'mR': 70.8}
    """
    ks = check_protocol(ks, queries=queries)
    owners, text_ids = integers("owners", owners).cpu(), integers("text_ids", text_ids).cpu()
    if owners.ndim != 1 or owners.shape != text_ids.shape or not len(owners):
        raise ValueError(
            f"owners {tuple(owners.shape)} and text_ids {tuple(text_ids.shape)}: give both for each caption, and one "
            "caption or more"
        )
    if queries == "distinct":
        return dict.fromkeys([f"{way}_R@{k}" for way in ("i2t", "t2i") for k in ks] + ["mR"], 100.0)
    image_of, text_of, own = _distinct_pairs(owners, text_ids)
    copies = torch.zeros_like(text_of).index_add(0, text_of, own)[text_of]  # of the pair's caption, over all images
    images = torch.bincount(text_of)[text_of].double()  # that have it
    none = torch.zeros_like(own)
    recall: dict[str, float] = {}
    for k in ks:
        first = hit_probability(none, copies - own, own, k, "expected")
        best = first.new_zeros(int(image_of.max()) + 1).scatter_reduce(0, image_of, first, "amax")
        recall[f"i2t_R@{k}"] = 100 * float(best.mean())
    for k in ks:
        recall[f"t2i_R@{k}"] = 100 * float((own * (k / images).clamp(max=1)).sum() / own.sum())
    return {**recall, "mR": sum(recall.values()) / len(recall)}


def _distinct_pairs(owners: Tensor, text_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(P,)`` image, text and number of captions of each distinct pair of image and text, numbered from 0."""
    _, image = torch.unique(owners, return_inverse=True)
    texts, text = torch.unique(text_ids, return_inverse=True)
    pairs, own = torch.unique(image * len(texts) + text, return_counts=True)
    return pairs // len(texts), pairs % len(texts), own
