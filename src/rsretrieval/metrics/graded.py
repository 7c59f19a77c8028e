"""mAP@K and nDCG@K over scene labels: what is of the query's scene is relevant, not only what belongs to it.

Ties are by expectation under random tie-breaking, in closed form (McSherry & Najork, "Computing information retrieval
performance measures efficiently in the presence of tied scores", ECIR 2008). Only the order of the scores counts, so
that negative cosines are as good as any (torchmetrics' average precision takes scores of 0 or less for irrelevant).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.metrics.inputs import comparable_with_owners, integers
from rsretrieval.metrics.protocol import check_protocol, relevant_pairs

_CHUNK = 1024  # queries scored at a time, so that the whole matrix is never in memory


class TieGroups(NamedTuple):
    """What each place of the first K of each query is among, ``(Q, K)`` int64 each.

    Attributes:
        above: items that score more than the place's group of ties.
        relevant_above: relevant ones among them.
        size: items of the group; 0 where the gallery ends before the place.
        relevant: relevant ones among them.
    """

    above: Tensor
    relevant_above: Tensor
    size: Tensor
    relevant: Tensor


def expected_precision(groups: TieGroups, total: Tensor) -> Tensor:
    """Expected average precision of the first K places.

    ``AP@K = sum over relevant places j <= K of precision at j, divided by min(K, relevant items)``. The i-th place of a
    group of n items, r of them relevant, is relevant with probability ``r / n``, and then one of ``R + 1 + (i - 1)
    (r - 1) / (n - 1)`` relevant ones so far, where R stand above the group.

    Args:
        groups: of the first K places.
        total: ``(Q,)`` relevant items of the gallery, 1 or more.

    Returns:
        ``(Q,)`` float64.

    Example:
        Of two tied items one is relevant: it is first (precision 1) or second (precision 1 / 2).

        >>> pair = [torch.tensor([[n, n]]) for n in (0, 0, 2, 1)]
        >>> expected_precision(TieGroups(*pair), torch.tensor([1]))
        tensor([0.7500], dtype=torch.float64)
    """
    place = torch.arange(1, groups.size.shape[1] + 1)
    above, relevant_above, size, relevant = (count.double() for count in groups)
    others = (place - above - 1) * (relevant - 1) / (size - 1).clamp(min=1)
    gain = relevant / size.clamp(min=1) * (relevant_above + 1 + others) / place
    return gain.sum(1) / total.clamp(max=len(place))


def expected_gain(groups: TieGroups, total: Tensor) -> Tensor:
    """Expected discounted cumulative gain of the first K places, over that of the best order (nDCG@K).

    The discount of place j is ``1 / log2(j + 1)``, the gain 1 for what is relevant, so that a place of a group of ties
    is worth the group's fraction of relevant items.

    Args:
        groups: of the first K places.
        total: ``(Q,)`` relevant items of the gallery, 1 or more.

    Returns:
        ``(Q,)`` float64.
    """
    discount = 1 / torch.arange(2, groups.size.shape[1] + 2).double().log2()
    gain = (groups.relevant.double() / groups.size.clamp(min=1)) @ discount
    return gain / discount.cumsum(0)[total.clamp(max=len(discount)) - 1]


def graded_retrieval(
    *,
    image: Tensor,
    text: Tensor,
    owners: Tensor,
    scenes: Tensor,
    ks: Sequence[int] = (10,),
    distinct_ids: Tensor | None = None,
) -> dict[str, float]:
    """mAP@K and nDCG@K of both directions, in percent, where what is of the same scene is relevant.

    Args:
        image: ``(N, d)`` image embeddings.
        text: ``(M, d)`` caption embeddings.
        owners: ``(M,)`` row of ``image`` that each caption belongs to; a caption has its image's scene.
        scenes: ``(N,)`` integer label of each image.
        ks: the ranks.
        distinct_ids: ``(M,)`` equal for equal captions, each of which is one query and one item, with the scenes of all
            its images; None where every caption is a query.

    Returns:
        ``i2t_mAP@K``, ``i2t_nDCG@K``, ``t2i_mAP@K`` and ``t2i_nDCG@K`` for each K.

    Raises:
        TypeError: as :func:`rsretrieval.metrics.retrieval_recall`.
        ValueError: as :func:`rsretrieval.metrics.retrieval_recall`, and if there are not as many labels as images.

    Example:
        Images 0 and 1 are of one scene. Each finds the other's caption, which is relevant too:

        >>> figures = graded_retrieval(
        ...     image=torch.eye(3), text=torch.eye(3)[[1, 0, 2]], owners=torch.arange(3),
        ...     scenes=torch.tensor([4, 4, 7]), ks=(1,),
        ... )
        >>> figures["i2t_mAP@1"], figures["i2t_nDCG@1"]
        (100.0, 100.0)
    """
    ks = check_protocol(ks)
    image, text, owners = comparable_with_owners(image, text, owners)
    scenes = integers("scenes", scenes)
    if scenes.shape != image.shape[:1]:
        raise ValueError(f"scenes {tuple(scenes.shape)} and image {tuple(image.shape)} differ: give a label an image")
    pairs = relevant_pairs(owners, distinct_ids)
    _, label = torch.unique(scenes.to(image.device), return_inverse=True)
    of_image = torch.stack([torch.arange(len(image), device=image.device), label])
    of_text = torch.unique(torch.stack([pairs.captions, label[pairs.images]]), dim=1)
    text = text[pairs.rows]
    directions = {"i2t": (image, of_image, text, of_text), "t2i": (text, of_text, image, of_image)}
    return {name: value for way, sides in directions.items() for name, value in _figures(way, *sides, ks).items()}


def _figures(
    way: str, query: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, ks: Sequence[int]
) -> dict[str, float]:
    """mAP@K and nDCG@K of one direction; see :func:`_tie_groups`."""
    sums = {f"{way}_{name}@{k}": 0.0 for k in ks for name in ("mAP", "nDCG")}
    for groups, total in _tie_groups(query, query_labels, gallery, gallery_labels, max(ks)):
        for k in ks:
            first = TieGroups(*(count[:, :k] for count in groups))
            sums[f"{way}_mAP@{k}"] += float(expected_precision(first, total).sum())
            sums[f"{way}_nDCG@{k}"] += float(expected_gain(first, total).sum())
    return {name: 100 * value / len(query) for name, value in sums.items()}


def _tie_groups(
    query: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, places: int
) -> Iterator[tuple[TieGroups, Tensor]]:
    """The groups of the first places and the number of relevant items, chunk by chunk of the queries, on the CPU.

    Args:
        query: ``(Q, d)``.
        query_labels: ``(2, P)`` row of ``query``, and a label of it.
        gallery: ``(G, d)``; equal rows are scored once, so that they tie to the last bit.
        gallery_labels: ``(2, R)`` row of ``gallery``, and a label of it. One of the sides has one label a row, so that
            no two share more than one.
        places: how many.
    """
    items, row, copies = torch.unique(gallery, dim=0, return_inverse=True, return_counts=True)
    item, label = row[gallery_labels[0]], gallery_labels[1]
    labels = int(torch.cat([label, query_labels[1]]).max()) + 1
    for start in range(0, len(query), _CHUNK):
        scores = query[start : start + _CHUNK] @ items.T
        asked = query_labels[:, (query_labels[0] >= start) & (query_labels[0] < start + len(scores))]
        distinct, place = torch.unique(asked[1], return_inverse=True)
        number = torch.full((labels,), -1, device=label.device)
        number[distinct] = torch.arange(len(distinct), device=label.device)
        wanted = number[label] >= 0
        of_label = torch.zeros(len(distinct), len(items), dtype=torch.int64, device=label.device)
        of_label.index_put_((number[label[wanted]], item[wanted]), torch.ones_like(item[wanted]), accumulate=True)
        relevant = torch.zeros_like(scores, dtype=torch.int64).index_add(0, asked[0] - start, of_label[place])
        yield _groups_of_places(scores, relevant, copies, places), relevant.sum(1).cpu()


def _groups_of_places(scores: Tensor, relevant: Tensor, copies: Tensor, places: int) -> TieGroups:
    """The group of ties of each of the first places.

    Args:
        scores: ``(Q, U)`` of distinct items.
        relevant: ``(Q, U)`` relevant copies of each.
        copies: ``(U,)``.
        places: how many.
    """
    best, index = scores.topk(min(places, scores.shape[1]), dim=1)  # distinct items, so of as many places or more
    own, own_relevant = copies[index], relevant.gather(1, index)
    last = scores == best[:, -1:]  # the last group may go on beyond the best ones
    counts = []
    for at_best, whole in ((own, (last * copies).sum(1)), (own_relevant, (last * relevant).sum(1))):
        above = ((best[:, None, :] > best[:, :, None]) * at_best[:, None, :]).sum(2)
        size = ((best[:, None, :] == best[:, :, None]) * at_best[:, None, :]).sum(2)
        counts += [above, torch.where(best == best[:, -1:], whole[:, None], size)]
    above, size, relevant_above, relevant_size = (count.cpu() for count in counts)
    place = torch.arange(1, places + 1)
    group = (above[:, None, :] < place[:, None]).sum(2) - 1  # (Q, places): the last group that begins before the place
    above, size, relevant_above, relevant_size = (
        count.gather(1, group) for count in (above, size, relevant_above, relevant_size)
    )
    filled = place <= above + size
    return TieGroups(above, relevant_above, size * filled, relevant_size * filled)
