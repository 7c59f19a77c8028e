"""Triplet loss over a batch (VSE++, Faghri et al., BMVC 2018: sum and max of hinges), the field's baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.losses.inputs import own_precision
from rsretrieval.losses.membership import same_id
from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.types import PairedEmbeddings


def triplet_loss(
    *, image: Tensor, text: Tensor, margin: float, hardest: bool, image_ids: Tensor | None = None
) -> Tensor:
    """VSE++'s sum of hinges (SH) or max of hinges (MH) on the cosines of both directions, summed over the batch.

    Pairs of other images are a query's negatives; another caption of its own image is none.

    Args:
        image: ``(B, d)`` L2-normalised; row ``i`` belongs to text ``i``.
        text: ``(B, d)`` L2-normalised.
        margin: by how much, in cosine, a pair must exceed a negative.
        hardest: True counts only the hardest negative of each query (MH), False all of them (SH).
        image_ids: ``(B,)`` which image each pair belongs to; None where every pair has an image of its own.

    Returns:
        Scalar: the sum over queries of both directions.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for shapes and types that do not go together.

    Example:
        The two texts are swapped, so that each of four queries violates the margin by 1.2:

        >>> import torch
        >>> triplet_loss(image=torch.eye(2), text=torch.eye(2).flip(0), margin=0.2, hardest=True)
        tensor(4.8000)
    """
    with own_precision(image=image, text=text, image_ids=image_ids):
        similarity = image @ text.T  # (B, B)
        positive = similarity.diagonal()
        ids = torch.arange(len(similarity), device=similarity.device) if image_ids is None else image_ids
        foreign = 1 - same_id(ids, similarity.dtype)

        def side(scores: Tensor) -> Tensor:
            cost = (margin + scores - positive[:, None]).clamp(min=0) * foreign
            return (cost.amax(1) if hardest else cost).sum()

        return side(similarity) + side(similarity.T)


@register_loss("triplet")
def _triplet(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return _of_pairs(pairs, context, hardest=False)


@register_loss("triplet_hardest")
def _triplet_hardest(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return _of_pairs(pairs, context, hardest=True)


def _of_pairs(pairs: PairedEmbeddings, context: LossContext, *, hardest: bool) -> Tensor:
    return triplet_loss(
        image=pairs.image,
        text=pairs.text,
        margin=context.config.triplet_margin,
        hardest=hardest,
        image_ids=pairs.image_ids,
    )
