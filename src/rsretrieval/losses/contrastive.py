"""Contrastive and weighted contrastive loss (FISVL, L_c and L_w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

EPSILON = 6e-5
"""The release's smoothing constant: added to every entry of a target row before it is normalised."""


def same(ids: Tensor) -> Tensor:
    """``(B, B)`` bool, true where two pairs carry the same id."""
    return ids[:, None] == ids[None, :]


def soft_membership(members: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, B)`` bool to rows ``∝ member + EPSILON`` that sum to 1."""
    weights = members.to(dtype) + EPSILON
    return weights / weights.sum(1, keepdim=True)


def contrastive_loss(
    *,
    image: Tensor,
    text: Tensor,
    image_ids: Tensor,
    temperature: Tensor | float,
    caption_values: Tensor | None = None,
    text_ids: Tensor | None = None,
) -> Tensor:
    """Symmetric cross-entropy between similarities and soft targets; all captions of an image are its positives.

    ``S = image textᵀ / temperature``; the targets are ``P_ij ∝ [id_i = id_j] + 6e-5``. With ``caption_values`` it is
    the weighted contrastive loss: column ``j`` of ``S`` is scaled by the value of caption ``j``.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to.
        temperature: divisor of the cosines.
        caption_values: ``(B,)``, or None for the plain loss.
        text_ids: ``(B,)``, equal for equal captions, which are then positives of each other's images too (not in the
            paper); None to tell them apart.

    Returns:
        Scalar: the mean of the two directions.

    Example:
        >>> import torch
        >>> contrastive_loss(image=torch.eye(2), text=torch.eye(2), image_ids=torch.arange(2), temperature=1.0)
        tensor(0.3133)
    """
    similarity = image @ text.T / temperature
    if caption_values is not None:
        similarity = similarity * caption_values
    positives = same(image_ids) if text_ids is None else same(image_ids) | same(text_ids)
    targets = soft_membership(positives, similarity.dtype)
    rows, columns = (-(targets * F.log_softmax(s, dim=1)).sum(1).mean() for s in (similarity, similarity.T))
    return (rows + columns) / 2
