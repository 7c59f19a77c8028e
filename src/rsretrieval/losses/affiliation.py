"""Affiliation loss (FISVL, Zhou et al., IEEE JSTARS 2024: L_a).

An embedding is attracted by the centre of its scene in the other modality.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

from rsretrieval.losses.membership import same_id, soft_membership
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
    members = same_id(scenes)
    if leave_one_out:
        members = members & ~torch.eye(len(members), dtype=torch.bool, device=members.device)
    centred = members.any(1)
    membership = soft_membership(members, image.dtype)  # (B, B)
    image_to_centre = image @ (membership @ text).T / temperature
    centre_to_text = (membership @ image) @ text.T / temperature
    terms = sum(F.log_softmax(s, dim=1).diagonal() for s in (image_to_centre, centre_to_text))
    return -(terms * centred).sum() / centred.sum().clamp(min=1) / 2


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
