"""Affiliation loss (FISVL, L_a): an embedding is drawn to the centre of its scene in the other modality."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

from rsretrieval.losses.contrastive import same, soft_membership


def affiliation_loss(*, image: Tensor, text: Tensor, scenes: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross-entropy of image against text centres and of image centres against text, over the batch.

    Centre ``i`` is the mean over the batch with weights ``[y_i = y_j] + 6e-5``.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        scenes: ``(B,)`` scene class of each pair.
        temperature: divisor of the products (the paper's second one).

    Returns:
        Scalar.

    Example:
        Two pairs of one scene share their centres, so that nothing tells them apart: log 2.

        >>> import torch
        >>> eye = torch.eye(2)
        >>> affiliation_loss(image=eye, text=eye, scenes=torch.tensor([3, 3]), temperature=0.07)
        tensor(0.6931)
    """
    membership = soft_membership(same(scenes), image.dtype)
    image_to_centre = image @ (membership @ text).T / temperature
    centre_to_text = (membership @ image) @ text.T / temperature
    rows, columns = (F.log_softmax(s, dim=1).diagonal().mean() for s in (image_to_centre, centre_to_text))
    return -(rows + columns) / 2
