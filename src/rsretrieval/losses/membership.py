"""Which pairs of a batch belong together, as a matrix, and smoothed to rows that sum to 1 (FISVL's P)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 6e-5
"""The release's smoothing constant: added to every entry of a row before it is normalised."""


def same_id(ids: Tensor, dtype: torch.dtype, rows: slice = slice(None)) -> Tensor:
    """``(B,)`` ids to ``(R, B)``, 1 where a pair of ``rows`` (all by default) carries the id of another, 0 elsewhere.

    In floating point throughout: on a CPU booleans take several times as long. In 32 bits or more, as a half counts no
    further than 2048.
    """
    kind = torch.unique(ids, return_inverse=True)[1].to(torch.promote_types(dtype, torch.float32))
    same = torch.empty(len(kind[rows]), len(kind), dtype=dtype, device=ids.device)
    return torch.eq(kind[rows, None], kind, out=same)


def in_class(kind: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """``(n,)`` classes from 0 to ``(count, n)``, 1 where a column is of the row's class, 0 elsewhere."""
    members = torch.empty(count, len(kind), dtype=dtype, device=kind.device)
    return torch.eq(torch.arange(count, device=kind.device)[:, None], kind, out=members)


def soft_membership(members: Tensor) -> Tensor:
    """``(R, B)`` of 0 and 1 to rows ``∝ member + EPSILON`` that sum to 1.

    Example:
        >>> soft_membership(same_id(torch.tensor([4, 4]), torch.float32))
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    weights = members + EPSILON
    return weights.div_(weights.sum(1, keepdim=True))
