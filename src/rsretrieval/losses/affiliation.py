"""Affiliation loss (FISVL, Zhou et al., IEEE JSTARS 2024: L_a).

An embedding is attracted by the centre of its scene in the other modality.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

from rsretrieval.losses.membership import EPSILON, same_id, soft_membership
from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.types import PairedEmbeddings


def affiliation_loss(
    *, image: Tensor, text: Tensor, scenes: Tensor, temperature: Tensor | float, leave_one_out: bool = False
) -> Tensor:
    """The paper's L_a: cross-entropy of images against text centres and of image centres against texts.

    The centre of pair ``i`` is the mean over the batch with weights ``∝ [scene_i = scene_j] + 6e-5``; pair ``i``'s own
    centre is its target among the centres of all pairs.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        scenes: ``(B,)`` scene class of each pair.
        temperature: divisor of the products (the paper's second one).
        leave_one_out: a pair is no part of its own centre (not in the paper), so that the loss is not met by being near
            to oneself; the centre of one that is alone of its scene in a batch is the batch's mean, and it has no term.

    Returns:
        Scalar: the mean of the two directions.

    Example:
        Two pairs of one scene share their centres, which cannot be told apart: log 2.

        >>> import torch
        >>> eye = torch.eye(2)
        >>> affiliation_loss(image=eye, text=eye, scenes=torch.tensor([3, 3]), temperature=0.07)
        tensor(0.6931)
    """
    if leave_one_out:
        return _without_oneself(image, text, scenes, temperature)
    # A centre depends on the scene alone: there are C of them, each as often as the scene has pairs.
    _, kind, numbers = torch.unique(scenes, return_inverse=True, return_counts=True)
    counts = numbers.to(image.dtype)
    weights = (counts + EPSILON * len(scenes))[:, None] * temperature

    def centres(embeddings: Tensor) -> Tensor:
        sums = embeddings.new_zeros(len(counts), embeddings.shape[1]).index_add(0, kind, embeddings)
        over_temperature: Tensor = (sums + EPSILON * embeddings.sum(0)) / weights  # (C, d)
        return over_temperature

    image_to_centre = image @ centres(text).T  # (B, C)
    centre_to_text = centres(image) @ text.T  # (C, B)
    to_centre = F.log_softmax(image_to_centre + counts.log(), dim=1) - counts.log()
    to_text = F.log_softmax(centre_to_text, dim=1)
    loss: Tensor = -(to_centre.gather(1, kind[:, None]).mean() + to_text.gather(0, kind[None]).mean()) / 2
    return loss


def _without_oneself(image: Tensor, text: Tensor, scenes: Tensor, temperature: Tensor | float) -> Tensor:
    members = same_id(scenes, image.dtype).fill_diagonal_(0)
    centred = members.sum(1) > 0
    membership = soft_membership(members)  # (B, B)
    image_to_centre = image @ (membership @ text).T / temperature
    centre_to_text = (membership @ image) @ text.T / temperature
    terms = sum(F.log_softmax(s, dim=1).diagonal() for s in (image_to_centre, centre_to_text))
    loss: Tensor = -(terms * centred).sum() / centred.sum().clamp(min=1) / 2
    return loss


@register_loss("affiliation")
def _affiliation(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    if not context.config.global_centres:
        pairs = pairs.map(lambda field: field[context.local])
    return affiliation_loss(
        image=pairs.image,
        text=pairs.text,
        scenes=pairs.scenes,
        temperature=context.affiliation_temperature,
        leave_one_out=context.config.leave_one_out,
    )
