"""Recall at K in both directions, with ties by expectation, the best or the worst case.

Captions repeat across images (RSICD), so that exact ties are common; the expectation under random tie-breaking is exact
and does not depend on the order of the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsretrieval.metrics.inputs import comparable, comparable_with_owners, rows_of
from rsretrieval.metrics.protocol import check_protocol, relevant_pairs
from rsretrieval.metrics.ranks import count_ranks


def hit_probability(greater: Tensor, foreign: Tensor, own: Tensor, k: int, ties: str) -> Tensor:
    """Probability that one of the own best items is among the first ``k``, for each query.

    Args:
        greater: ``(Q,)`` items that score strictly above the best own one (g).
        foreign: ``(Q,)`` items of others that tie with it (t).
        own: ``(Q,)`` own items at that score, the best one among them (o).
        k: places.
        ties: one of :data:`rsretrieval.metrics.TIES`.

    Returns:
        ``(Q,)`` float64: with ``s = k - g`` places left ``1 - C(t, s) / C(t + o, s)``, which is 0 for ``s <= 0``
        and 1 for ``s > t``.

    Example:
        The best own item ties with one of another's, for one place:

        >>> one = torch.ones(1, dtype=torch.int64)
        >>> hit_probability(greater=0 * one, foreign=one, own=one, k=1, ties="expected")
        tensor([0.5000], dtype=torch.float64)
    """
    places = k - greater
    if ties == "optimistic":
        return (places > 0).double()
    if ties == "pessimistic":
        return (places > foreign).double()
    s, t, o = (count.double() for count in (places.clamp(min=0), foreign, own))
    s = torch.minimum(s, t)

    def log_choose(n: Tensor) -> Tensor:
        return torch.lgamma(n + 1) - torch.lgamma(s + 1) - torch.lgamma(n - s + 1)

    drawn = -torch.expm1(log_choose(t) - log_choose(t + o))
    return torch.where(places <= 0, 0.0, torch.where(places > foreign, 1.0, drawn))


def recall_of_pairs(
    *, image: Tensor, text: Tensor, captions: Tensor, images: Tensor, ks: Sequence[int], ties: str
) -> dict[str, float]:
    """Recall where a caption belongs to one image or to several; the general form of :func:`retrieval_recall`.

    Args:
        image: ``(N, d)`` image embeddings.
        text: ``(Q, d)`` caption embeddings, each a query and an item of the gallery.
        captions: ``(P,)`` row of ``text`` of each relevant pair.
        images: ``(P,)`` row of ``image`` of each relevant pair.
        ks: the ranks.
        ties: one of :data:`rsretrieval.metrics.TIES`.

    Returns:
        See :func:`retrieval_recall`.

    Raises:
        TypeError: as :func:`retrieval_recall`.
        ValueError: as :func:`retrieval_recall`, and for a caption without an image.
    """
    ks = check_protocol(ks, ties)
    recall = {
        f"{name}_R@{k}": 100 * float(hit_probability(*counts, k, ties).mean())
        for name, counts in ranks_of_pairs(image, text, captions, images, enough=max(ks)).items()
        for k in ks
    }
    return {**recall, "mR": sum(recall.values()) / len(recall)}


def ranks_of_pairs(
    image: Tensor, text: Tensor, captions: Tensor, images: Tensor, *, enough: int | None = None
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Where each query's best own item stands; the other arguments are those of :func:`recall_of_pairs`.

    A query with ``enough`` items above is counted no further, as it fails at every K up to this; None counts all.

    Returns:
        ``i2t`` and ``t2i`` to the first three arguments of :func:`hit_probability`, ``(N,)`` and ``(Q,)``.

    Raises:
        TypeError: as :func:`recall_of_pairs`.
        ValueError: as :func:`recall_of_pairs`.
    """
    image, text = comparable(image=image, text=text)
    images = rows_of("images", images, len(image), "image", "caption").to(image.device)
    captions = rows_of("captions", captions, len(text), "caption", "image").to(image.device)
    if captions.shape != images.shape:
        raise ValueError(f"captions {tuple(captions.shape)} and images {tuple(images.shape)}: give one of each a pair")
    return count_ranks(image, text, captions, images, enough)


def retrieval_recall(
    *,
    image: Tensor,
    text: Tensor,
    owners: Tensor,
    ks: Sequence[int] = (1, 5, 10),
    ties: str = "expected",
    queries: str = "every",
    text_ids: Tensor | None = None,
) -> dict[str, float]:
    """Recall at each K, in percent, of sentence retrieval (i2t) and image retrieval (t2i), and their mean (mR).

    A score is a dot product, so that L2-normalised embeddings are compared by cosine. An image's query succeeds when
    the best of its own captions is among the first K; a caption's when its image is, or one of its images where each
    distinct caption is asked once. By default the figures are the expected recall under random tie-breaking, in closed
    form.

    Args:
        image: ``(N, d)`` image embeddings; tensors, or what becomes one, such as arrays.
        text: ``(M, d)`` caption embeddings, of any number of captions an image.
        owners: ``(M,)`` integers, row of ``image`` that each caption belongs to.
        ks: the ranks.
        ties: ``expected``, ``optimistic`` (for the model) or ``pessimistic`` (against it).
        queries: ``every`` caption is a query, and right is the image that it was written for; or each ``distinct``
            caption is one query and one item of the gallery, and right are all images that have it.
        text_ids: ``(M,)`` equal for equal captions, for ``distinct``; None to tell them by their embeddings.

    Returns:
        ``i2t_R@K`` and ``t2i_R@K`` for each K, and ``mR``.

    Raises:
        TypeError: for embeddings that are no numbers, and owners or ids that are no integers.
        ValueError: for shapes that do not match, an image without a caption, an owner that is no row, NaN, infinity or
            numbers without a product, ranks that are no integers of 1 or more, unknown ``ties`` or ``queries``.

    Example:
        The two captions are equal, so that an image's own one is first half of the time, and both captions retrieve
        image 0. As one caption of two images it is always right:

        >>> import torch
        >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> retrieval_recall(image=torch.eye(2), text=same, owners=torch.arange(2), ks=(1,))
        {'i2t_R@1': 50.0, 't2i_R@1': 50.0, 'mR': 50.0}
        >>> retrieval_recall(image=torch.eye(2), text=same, owners=torch.arange(2), ks=(1,), queries="distinct")
        {'i2t_R@1': 100.0, 't2i_R@1': 100.0, 'mR': 100.0}
    """
    ks = check_protocol(ks, ties, queries)
    image, text, owners = comparable_with_owners(image, text, owners)
    if queries == "every":
        text_ids = None
    elif text_ids is None:
        _, text_ids = torch.unique(text, dim=0, return_inverse=True)
    pairs = relevant_pairs(owners, text_ids)
    text = text if text_ids is None else text[pairs.rows]
    return recall_of_pairs(image=image, text=text, captions=pairs.captions, images=pairs.images, ks=ks, ties=ties)
