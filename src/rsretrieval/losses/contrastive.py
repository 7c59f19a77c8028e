"""Contrastive and weighted contrastive loss (FISVL, Zhou et al., IEEE JSTARS 2024: L_c and L_w)."""

from __future__ import annotations

from torch import Tensor

from rsretrieval.distributed import sum_of_ranks
from rsretrieval.losses.gradients import CrossEntropy
from rsretrieval.losses.inputs import own_precision
from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.losses.similarity import Similarity, positives
from rsretrieval.types import PairedEmbeddings


def contrastive_loss(
    *,
    image: Tensor,
    text: Tensor,
    image_ids: Tensor,
    temperature: Tensor | float,
    caption_values: Tensor | None = None,
    text_ids: Tensor | None = None,
) -> Tensor:
    """The paper's L_c, and with ``caption_values`` its L_w: symmetric cross-entropy of similarities and soft targets.

    ``S = image textᵀ / temperature``; the targets are ``P_ij ∝ [id_i = id_j] + 6e-5``, so that all captions of an image
    are its positives. In L_w column ``j`` of ``S`` is scaled by the value of caption ``j``.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to.
        temperature: divisor of the cosines.
        caption_values: ``(B,)``, or None for the plain loss.
        text_ids: ``(B,)``, equal for equal captions, which are then positives of each other's images too (not in the
            paper); None to treat them as different captions.

    Returns:
        Scalar: the mean of the two directions.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for shapes and types that do not go together, and a temperature that is not above 0.

    Example:
        >>> import torch
        >>> eye = torch.eye(2)
        >>> contrastive_loss(image=eye, text=eye, image_ids=torch.arange(2), temperature=1.0)
        tensor(0.3133)

        Captions of half the value are told apart half as sharply:

        >>> contrastive_loss(
        ...     image=eye, text=eye, image_ids=torch.arange(2), temperature=1.0, caption_values=torch.full((2,), 0.5)
        ... )
        tensor(0.4741)
    """
    fields = {"image_ids": image_ids, "caption_values": caption_values, "text_ids": text_ids}
    with own_precision(image=image, text=text, temperature=temperature, **fields):
        return contrastive_part(Similarity(image, text, image_ids, temperature), caption_values, text_ids)


def contrastive_part(similarity: Similarity, caption_values: Tensor | None, text_ids: Tensor | None) -> Tensor:
    """What the rows of ``similarity`` add to :func:`contrastive_loss` of the batch, whose arguments the others are."""
    members = positives(similarity, text_ids)  # (R, B), of both directions
    of_images = similarity.of_images
    if caption_values is not None:
        caption_values = caption_values.to(of_images.dtype)
        of_images = of_images * caption_values
    total: Tensor = CrossEntropy.apply(of_images, similarity.temperature, members, similarity.whole)
    if not similarity.whole:
        of_texts = similarity.of_texts
        if caption_values is not None:
            of_texts = of_texts * caption_values[similarity.rows, None]
        total = total + CrossEntropy.apply(of_texts, similarity.temperature, members, False)
    return total / (2 * len(similarity.image))


@register_loss("contrastive")
def _contrastive(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return _loss_of_pairs(pairs, context, None)


@register_loss("weighted_contrastive")
def _weighted_contrastive(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return _loss_of_pairs(pairs, context, pairs.caption_values)


def _loss_of_pairs(pairs: PairedEmbeddings, context: LossContext, caption_values: Tensor | None) -> Tensor:
    text_ids = pairs.text_ids if context.config.share_captions else None
    return sum_of_ranks(contrastive_part(context.similarity, caption_values, text_ids))
