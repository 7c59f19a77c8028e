"""Sigmoid loss (SigLIP, Zhai et al., ICCV 2023): every image with every text, together or not."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

from rsretrieval.distributed import sum_of_ranks
from rsretrieval.losses.config import SIGLIP_BIAS
from rsretrieval.losses.inputs import own_precision
from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.losses.similarity import Similarity, positives
from rsretrieval.types import PairedEmbeddings


def sigmoid_loss(
    *,
    image: Tensor,
    text: Tensor,
    image_ids: Tensor,
    temperature: Tensor | float,
    bias: Tensor | float,
    text_ids: Tensor | None = None,
) -> Tensor:
    """Algorithm 1 of the paper: ``-Σ_ij log sigmoid(z_ij (image_i · text_j / temperature + bias)) / B``.

    ``z_ij`` is 1 where text ``j`` is one of image ``i``'s, and -1 elsewhere.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to; its captions are all positives.
        temperature: divisor of the cosines.
        bias: added to them.
        text_ids: ``(B,)``, equal for equal captions, which are then positives of each other's images too (not in the
            paper); None to treat them as different captions.

    Returns:
        Scalar.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for shapes and types that do not go together, and a temperature that is not above 0.

    Example:
        Two pairs, each its own: two scores of 1 that should be high, and two of 0 that should be low, which makes
        (2 log(1 + 1/e) + 2 log 2) / 2.

        >>> import torch
        >>> eye = torch.eye(2)
        >>> sigmoid_loss(image=eye, text=eye, image_ids=torch.arange(2), temperature=1.0, bias=0.0)
        tensor(1.0064)
    """
    with own_precision(image=image, text=text, temperature=temperature, image_ids=image_ids, text_ids=text_ids):
        return sigmoid_part(Similarity(image, text, image_ids, temperature), bias, text_ids)


def sigmoid_part(similarity: Similarity, bias: Tensor | float, text_ids: Tensor | None) -> Tensor:
    """What the rows of ``similarity`` add to :func:`sigmoid_loss` of the batch, whose arguments the others are."""
    signs = 2 * positives(similarity, text_ids) - 1  # (R, B)
    return -F.logsigmoid(signs * (similarity.of_images / similarity.temperature + bias)).sum() / len(similarity.image)


@register_loss("sigmoid")
def _sigmoid(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    bias = SIGLIP_BIAS if context.bias is None else context.bias
    text_ids = pairs.text_ids if context.config.share_captions else None
    return sum_of_ranks(sigmoid_part(context.similarity, bias, text_ids))
