"""Affiliation loss (FISVL, Zhou et al., IEEE JSTARS 2024: L_a).

An embedding is attracted by the centre of its scene in the other modality.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.losses.gradients import ClassMeans
from rsretrieval.losses.inputs import own_precision
from rsretrieval.losses.membership import in_class, same_id, soft_membership
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

    Raises:
        TypeError: for what is no tensor.
        ValueError: for shapes and types that do not go together, and a temperature that is not above 0.

    Example:
        Two pairs of one scene share their centres, which cannot be told apart: log 2.

        >>> import torch
        >>> eye = torch.eye(2)
        >>> affiliation_loss(image=eye, text=eye, scenes=torch.tensor([3, 3]), temperature=0.07)
        tensor(0.6931)
    """
    with own_precision(image=image, text=text, temperature=temperature, scenes=scenes):
        if leave_one_out:
            return _without_oneself(image, text, scenes, temperature)
        members, shares = _classes(scenes, image.dtype)
        return _among_centres((shares @ text) @ image.T, (shares @ image) @ text.T, members, temperature)


def _classes(scenes: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``(C, B)`` members of each class, and their weights in its centre. A centre depends on the scene alone."""
    kinds, kind = torch.unique(scenes, return_inverse=True)
    members = in_class(kind, len(kinds), dtype)
    return members, soft_membership(members)


def _among_centres(to_centre: Tensor, to_text: Tensor, members: Tensor, temperature: Tensor | float) -> Tensor:
    """Of ``(C, B)`` products of images and text centres, and of image centres and texts."""
    counts = members.sum(1, keepdim=True)  # a centre is there as often as its class has pairs
    among_centres = (to_centre / temperature + counts.log()).log_softmax(0) - counts.log()
    among_texts = (to_text / temperature).log_softmax(1)
    loss: Tensor = -(members * (among_centres + among_texts)).sum() / (2 * members.shape[1])
    return loss


def _without_oneself(image: Tensor, text: Tensor, scenes: Tensor, temperature: Tensor | float) -> Tensor:
    members = same_id(scenes, image.dtype).fill_diagonal_(0)
    centred = members.sum(1) > 0
    membership = soft_membership(members)  # (B, B)
    image_to_centre = image @ (membership @ text).T / temperature
    centre_to_text = (membership @ image) @ text.T / temperature
    terms = sum(s.log_softmax(1).diagonal() for s in (image_to_centre, centre_to_text))
    loss: Tensor = -(terms * centred).sum() / centred.sum().clamp(min=1) / 2
    return loss


@register_loss("affiliation")
def _affiliation(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    config, temperature = context.config, context.affiliation_temperature
    if context.similarity.whole and not config.leave_one_out:
        # The centres' products are means of the cosines that the other losses of the step look at.
        members, shares = _classes(pairs.scenes, pairs.image.dtype)
        to_centre, to_text = ClassMeans.apply(context.similarity.of_images, shares)
        return _among_centres(to_centre, to_text, members, temperature)
    if not config.global_centres:
        pairs = pairs.map(lambda field: field[context.local])
    return affiliation_loss(
        image=pairs.image,
        text=pairs.text,
        scenes=pairs.scenes,
        temperature=temperature,
        leave_one_out=config.leave_one_out,
    )
