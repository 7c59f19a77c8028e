"""Scene-adaptive fine-grained perceptual loss (FISVL, L_s): push an embedding off its hardest negatives' own kind."""

from __future__ import annotations

import torch
from torch import Tensor

from rsretrieval.losses.contrastive import EPSILON, same


def hardest_negatives(similarity: Tensor, image_ids: Tensor, *, exclude_positives: bool = True) -> Tensor:
    """``(B,)`` index of the most similar column of each row that belongs to another image.

    Args:
        similarity: ``(B, B)``, rows of one modality against columns of the other.
        image_ids: ``(B,)`` which image each pair belongs to.
        exclude_positives: False finds the most similar column of all, as the release does.
    """
    if exclude_positives:
        similarity = similarity.masked_fill(same(image_ids), -torch.inf)
    return similarity.argmax(1)


def scene_adaptive_loss(
    *,
    image: Tensor,
    text: Tensor,
    image_ids: Tensor,
    scenes: Tensor,
    temperature: Tensor | float,
    inter_weight: float,
    intra_weight: float,
    margin: float,
    exclude_positives: bool = True,
) -> Tensor:
    """Weighted softmax of the similarities between embeddings and hardest negatives of the same modality.

    With ``h_i`` the hardest negative text of image ``i``: ``Q_ij = t_i · t_h(j) / temperature``, entries below
    ``margin`` set to 0, ``P`` the softmax over ``j`` with 6e-5 added to its denominator. The text side is the mean over
    ``i`` of ``Σ_j P_ij w_ij``, where ``w_ij`` is ``intra_weight`` if scene ``i`` equals the scene of ``h_j`` and
    ``inter_weight`` otherwise. The image side is the same with the modalities exchanged. The weights depend on the
    epoch: see :func:`rsretrieval.schedule.scene_weight`.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to.
        scenes: ``(B,)`` scene class of each pair.
        temperature: divisor of the cosines.
        inter_weight: weight of a negative of another scene.
        intra_weight: weight of a negative of the same scene.
        margin: entries of ``Q`` below it count as 0.
        exclude_positives: False is the release's mask, which never excludes anything.

    Returns:
        Scalar: the mean of the two sides.
    """
    similarity = image @ text.T / temperature

    def side(scores: Tensor, embeddings: Tensor) -> Tensor:
        hardest = hardest_negatives(scores, image_ids, exclude_positives=exclude_positives)
        confusion = embeddings @ embeddings[hardest].T / temperature
        confusion = torch.where(confusion < margin, torch.zeros_like(confusion), confusion)
        # The softmax with a constant in its denominator, shifted by the row's maximum so that exp cannot overflow.
        shift = confusion.detach().amax(1, keepdim=True)
        exponentials = (confusion - shift).exp()
        constant = EPSILON * (-shift[:, 0]).exp()
        total = exponentials.sum(1) + constant
        within = (exponentials * (scenes[:, None] == scenes[hardest])).sum(1) / total
        # Σ_j P_ij w_ij, written so that the nearly equal weights of both kinds do not cancel in float32.
        return (inter_weight * (1 - constant / total) + (intra_weight - inter_weight) * within).mean()

    return (side(similarity, text) + side(similarity.T, image)) / 2
