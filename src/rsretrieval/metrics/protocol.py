"""What an evaluation counts: how ties are broken, what a query is, and what is right for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

TIES = ("expected", "optimistic", "pessimistic")
"""How ties are broken: at random (in expectation), in favour of the model, or against it."""
QUERIES = ("every", "distinct")
"""What a text query is: every caption, of its own image; or each distinct caption once, of all images that have it."""


def check_protocol(ks: Sequence[int], ties: str = "expected", queries: str = "every") -> None:
    """Refuse ranks, a way to break ties and a kind of queries that do not exist.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    if ties not in TIES:
        raise ValueError(f"ties={ties!r} is unknown; possible are {TIES}")
    if queries not in QUERIES:
        raise ValueError(f"queries={queries!r} is unknown; possible are {QUERIES}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks={tuple(ks)}: give ranks of 1 or more")


def check_embeddings(image: Tensor, text: Tensor, owners: Tensor) -> None:
    """Refuse what recall cannot be computed of.

    Raises:
        ValueError: as :func:`rsretrieval.metrics.retrieval_recall`.
    """
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1] or owners.shape != text.shape[:1]:
        raise ValueError(
            f"image {tuple(image.shape)}, text {tuple(text.shape)} and owners {tuple(owners.shape)} do not go "
            "together: give (N, d), (M, d) and (M,)"
        )
    if len(owners) and (int(owners.min()) < 0 or int(owners.max()) >= len(image)):
        raise ValueError(
            f"owners run from {int(owners.min())} to {int(owners.max())}, the images from 0 to {len(image) - 1}: "
            "an owner is the row of the caption's image"
        )
    without = sorted(set(range(len(image))) - set(owners.tolist()))
    if without or not len(image):
        raise ValueError(
            f"{len(without)} of {len(image)} images have no caption (rows {without[:5]}): recall needs one caption or "
            "more for every image; leave the others out"
        )


def check_finite(image: Tensor, text: Tensor) -> None:
    """Refuse embeddings that cannot be ranked.

    Raises:
        ValueError: for NaN or infinity.
    """
    if not (torch.isfinite(image).all() and torch.isfinite(text).all()):
        raise ValueError("the embeddings contain NaN or infinity: the model diverged, or its input is broken")


class Pairs(NamedTuple):
    """Which caption belongs to which image.

    Attributes:
        rows: ``(Q,)`` row among all captions of each that is a query and an item of the gallery.
        captions: ``(P,)`` index into ``rows`` of each pair's caption.
        images: ``(P,)`` row of each pair's image.
    """

    rows: Tensor
    captions: Tensor
    images: Tensor


def relevant_pairs(owners: Tensor, distinct_ids: Tensor | None = None) -> Pairs:
    """What is right for what.

    Args:
        owners: ``(M,)`` row of the image that each caption belongs to.
        distinct_ids: ``(M,)`` equal for equal captions, each of which counts once; None where every caption counts.

    Raises:
        ValueError: if there are not as many ids as captions.
    """
    captions = torch.arange(len(owners), device=owners.device)
    if distinct_ids is None:
        return Pairs(captions, captions, owners)
    if distinct_ids.shape != owners.shape:
        raise ValueError(
            f"ids of texts {tuple(distinct_ids.shape)} and owners {tuple(owners.shape)} differ: give one a caption"
        )
    _, distinct = torch.unique(distinct_ids.to(owners.device), return_inverse=True)
    rows = captions.new_full((int(distinct.max()) + 1,), len(owners)).scatter_reduce(0, distinct, captions, "amin")
    once = torch.unique(torch.stack([distinct, owners]), dim=1)
    return Pairs(rows, once[0], once[1])
