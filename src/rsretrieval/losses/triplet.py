"""Triplet loss over a batch (VSE++, Faghri et al., BMVC 2018: sum and max of hinges), the field's baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.types import PairedEmbeddings


def triplet_loss(*, image: Tensor, text: Tensor, margin: float, hardest: bool) -> Tensor:
    """VSE++'s sum of hinges (SH) or max of hinges (MH) on the cosines of both directions, summed over the batch.

    Every pair but a query's own is a negative of it, whatever image it belongs to.

    Args:
        image: ``(B, d)`` L2-normalised; row ``i`` belongs to text ``i``.
        text: ``(B, d)`` L2-normalised.
        margin: by how much, in cosine, a pair must exceed a negative.
        hardest: True counts only the hardest negative of each query (MH), False all of them (SH).

    Returns:
        Scalar: the sum over queries of both directions.

    Example:
        The two texts are swapped, so that each of four queries violates the margin by 1.2:

        >>> import torch
        >>> triplet_loss(image=torch.eye(2), text=torch.eye(2).flip(0), margin=0.2, hardest=True)
        tensor(4.8000)
    """
    similarity = image @ text.T  # (B, B)
    positive = similarity.diagonal()
    diagonal = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)

    def side(scores: Tensor) -> Tensor:
        cost = (margin + scores - positive[:, None]).clamp(min=0).masked_fill(diagonal, 0)
        return (cost.amax(1) if hardest else cost).sum()

    return side(similarity) + side(similarity.T)


@register_loss("triplet")
def _triplet(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return triplet_loss(image=pairs.image, text=pairs.text, margin=context.config.triplet_margin, hardest=False)


@register_loss("triplet_hardest")
def _triplet_hardest(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return triplet_loss(image=pairs.image, text=pairs.text, margin=context.config.triplet_margin, hardest=True)
