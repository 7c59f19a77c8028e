"""Recall at K in both directions, with ties by expectation, the best or the worst case.

Captions repeat across images (RSICD), so that exact ties are common; the expectation under random tie-breaking is exact
and does not depend on the order of the data. Equal rows are scored once, so that equal items tie to the last bit
whatever the matrix product does with their positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsretrieval.metrics.protocol import check_embeddings, check_finite, check_protocol, relevant_pairs

_CHUNK = 1024  # queries scored at a time, so that the whole matrix is never in memory


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


def _ranks(
    query: Tensor, gallery: Tensor, relevant: tuple[Tensor, Tensor], multiplicity: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``(Q,)`` counts above, tied foreign and tied own of each query's best own item, on the CPU.

    Args:
        query: ``(Q, d)`` distinct or not.
        gallery: ``(G, d)`` distinct items.
        relevant: indices into query and gallery of what belongs together, repeated as often as it occurs.
        multiplicity: ``(G,)`` how many items each row of ``gallery`` stands for.
    """
    counts = []
    order = relevant[0].argsort()
    rows, columns = relevant[0][order], relevant[1][order]
    for start in range(0, len(query), _CHUNK):
        scores = query[start : start + _CHUNK] @ gallery.T
        low, high = torch.searchsorted(rows, torch.tensor([start, start + len(scores)], device=rows.device)).tolist()
        r, c = rows[low:high] - start, columns[low:high]
        own_scores = scores[r, c]
        best = scores.new_full((len(scores),), -torch.inf).scatter_reduce(0, r, own_scores, "amax")
        own = torch.zeros_like(best, dtype=torch.int64).index_add(0, r, (own_scores == best[r]).long())
        greater = ((scores > best[:, None]) * multiplicity).sum(1)
        tied = ((scores == best[:, None]) * multiplicity).sum(1)
        counts.append(torch.stack([greater, tied - own, own]))
    greater, foreign, own = torch.cat(counts, dim=1).cpu()  # float64 comes next, which MPS does not have
    return greater, foreign, own


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
        ValueError: for NaN or infinity.
    """
    recall = {
        f"{name}_R@{k}": 100 * float(hit_probability(*counts, k, ties).mean())
        for name, counts in ranks_of_pairs(image, text, captions, images).items()
        for k in ks
    }
    return {**recall, "mR": sum(recall.values()) / len(recall)}


def ranks_of_pairs(
    image: Tensor, text: Tensor, captions: Tensor, images: Tensor
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Where each query's best own item stands; the arguments are those of :func:`recall_of_pairs`.

    Returns:
        ``i2t`` and ``t2i`` to the first three arguments of :func:`hit_probability`, ``(N,)`` and ``(Q,)``.

    Raises:
        ValueError: for NaN or infinity.
    """
    check_finite(image, text)
    image, text = (x if x.dtype == torch.float64 else x.float() for x in (image, text))
    distinct_images, image_row, image_count = torch.unique(image, dim=0, return_inverse=True, return_counts=True)
    distinct_texts, text_row, text_count = torch.unique(text, dim=0, return_inverse=True, return_counts=True)
    return {
        # The gallery is given by its distinct rows; the queries as they are.
        "i2t": _ranks(image, distinct_texts, (images, text_row[captions]), text_count),
        "t2i": _ranks(text, distinct_images, (captions, image_row[images]), image_count),
    }


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
        owners: ``(M,)`` row of ``image`` that each caption belongs to.
        ks: the ranks.
        ties: ``expected``, ``optimistic`` (for the model) or ``pessimistic`` (against it).
        queries: ``every`` caption is a query, and right is the image that it was written for; or each ``distinct``
            caption is one query and one item of the gallery, and right are all images that have it.
        text_ids: ``(M,)`` equal for equal captions, for ``distinct``; None to tell them by their embeddings.

    Returns:
        ``i2t_R@K`` and ``t2i_R@K`` for each K, and ``mR``.

    Raises:
        ValueError: for shapes that do not match, an image without a caption, an owner that is no row, NaN or infinity,
            ranks below 1, unknown ``ties`` or ``queries``.

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
    check_protocol(ks, ties, queries)
    image, text, owners = map(torch.as_tensor, (image, text, owners))
    check_embeddings(image, text, owners)
    if queries == "every":
        text_ids = None
    elif text_ids is None:
        _, text_ids = torch.unique(text, dim=0, return_inverse=True)
    pairs = relevant_pairs(owners, None if text_ids is None else torch.as_tensor(text_ids))
    return recall_of_pairs(
        image=image, text=text[pairs.rows], captions=pairs.captions, images=pairs.images, ks=ks, ties=ties
    )
