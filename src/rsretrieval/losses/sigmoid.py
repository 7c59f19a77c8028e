"""Sigmoid loss (SigLIP, Zhai et al., ICCV 2023): every image with every text, together or not."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

from rsretrieval.losses.config import SIGLIP_BIAS
from rsretrieval.losses.membership import same_id
from rsretrieval.losses.registry import LossContext, register_loss
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

    Example:
        Two pairs, each its own: two scores of 1 that should be high, and two of 0 that should be low, which makes
        (2 log(1 + 1/e) + 2 log 2) / 2.

        >>> import torch
        >>> eye = torch.eye(2)
        >>> sigmoid_loss(image=eye, text=eye, image_ids=torch.arange(2), temperature=1.0, bias=0.0)
        tensor(1.0064)
    """
    scores = image @ text.T / temperature + bias  # (B, B)
    positives = same_id(image_ids) if text_ids is None else same_id(image_ids) | same_id(text_ids)
    signs = positives.to(scores.dtype) * 2 - 1
    return -F.logsigmoid(signs * scores).sum() / len(image)


@register_loss("sigmoid")
def _sigmoid(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    return sigmoid_loss(
        image=pairs.image,
        text=pairs.text,
        image_ids=pairs.image_ids,
        temperature=context.temperature,
        bias=SIGLIP_BIAS if context.bias is None else context.bias,
        text_ids=pairs.text_ids if context.config.share_captions else None,
    )
