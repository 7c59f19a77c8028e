"""Triplet loss over a batch (VSE++, Faghri et al., BMVC 2018), the field's baseline objective."""

from __future__ import annotations

import torch
from torch import Tensor


def triplet_loss(*, image: Tensor, text: Tensor, margin: float, hardest: bool) -> Tensor:
    """Hinge on the cosines of both directions, summed over the batch.

    Args:
        image: ``(B, d)`` L2-normalised; row ``i`` belongs to text ``i``.
        text: ``(B, d)`` L2-normalised.
        margin: how far, in cosine, a pair must be above a negative.
        hardest: count the hardest negative of each query alone instead of all.

    Returns:
        Scalar: the sum over queries of both directions.

    Example:
        Each of two orthogonal texts is 0.8 too close to the image between them.

        >>> import torch
        >>> triplet_loss(image=torch.eye(2), text=torch.eye(2).flip(0), margin=0.2, hardest=True)
        tensor(4.8000)
    """
    similarity = image @ text.T
    positive = similarity.diagonal()
    diagonal = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)

    def side(scores: Tensor) -> Tensor:
        cost = (margin + scores - positive[:, None]).clamp(min=0).masked_fill(diagonal, 0)
        return (cost.amax(1) if hardest else cost).sum()

    return side(similarity) + side(similarity.T)
