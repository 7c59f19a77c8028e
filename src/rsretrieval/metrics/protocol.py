"""What an evaluation counts: how ties are broken, what a query is, and what is right for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsretrieval.metrics.inputs import integers

TIES = ("expected", "optimistic", "pessimistic")
"""How ties are broken: at random (in expectation), in favour of the model, or against it."""
QUERIES = ("every", "distinct")
"""What a text query is: every caption, of its own image; or each distinct caption once, of all images that have it."""


def check_protocol(ks: Iterable[int], ties: str = "expected", queries: str = "every") -> tuple[int, ...]:
    """Refuse ranks, a way to break ties and a kind of queries that do not exist.

    Returns:
        The ranks, each once.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    if ties not in TIES:
        raise ValueError(f"ties={ties!r} is unknown; possible are {TIES}")
    if queries not in QUERIES:
        raise ValueError(f"queries={queries!r} is unknown; possible are {QUERIES}")
    numbers = ks.tolist() if isinstance(ks, Tensor | np.ndarray) else ks
    ranks = tuple(numbers) if isinstance(numbers, Iterable) else ()
    if not ranks or not all(isinstance(k, int | np.integer) and not isinstance(k, bool) and k >= 1 for k in ranks):
        raise ValueError(f"ks={ranks or ks!r}: give ranks of 1 or more, integers, such as (1, 5, 10)")
    return tuple(dict.fromkeys(int(k) for k in ranks))


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
        TypeError: for ids that are no integers.
        ValueError: if there are not as many ids as captions.
    """
    captions = torch.arange(len(owners), device=owners.device)
    if distinct_ids is None:
        return Pairs(captions, captions, owners)
    distinct_ids = integers("ids of texts", distinct_ids)
    if distinct_ids.shape != owners.shape:
        raise ValueError(
            f"ids of texts {tuple(distinct_ids.shape)} and owners {tuple(owners.shape)} differ: give one a caption"
        )
    _, distinct = torch.unique(distinct_ids.to(owners.device), return_inverse=True)
    rows = captions.new_full((int(distinct.max()) + 1,), len(owners)).scatter_reduce(0, distinct, captions, "amin")
    once = torch.unique(torch.stack([distinct, owners]), dim=1)
    return Pairs(rows, once[0], once[1])
