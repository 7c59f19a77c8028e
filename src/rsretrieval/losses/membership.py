"""Which pairs of a batch belong together, as a matrix, and smoothed to rows that sum to 1 (FISVL's P)."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 6e-5
"""The release's smoothing constant: added to every entry of a row before it is normalised."""


def same_id(ids: Tensor) -> Tensor:
    """``(B,)`` ids to ``(B, B)`` bool, true where two pairs carry the same id."""
    return ids[:, None] == ids[None, :]


def soft_membership(members: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, B)`` bool to rows ``∝ member + EPSILON`` that sum to 1.

    Example:
        >>> soft_membership(same_id(torch.tensor([4, 4])), torch.float32)
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    weights = members.to(dtype) + EPSILON
    return weights / weights.sum(1, keepdim=True)
