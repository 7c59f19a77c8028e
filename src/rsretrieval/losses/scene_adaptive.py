"""Scene-adaptive fine-grained perceptual loss (FISVL, Zhou et al., IEEE JSTARS 2024: L_s).

It pushes each embedding away from the hardest negatives, compared within one modality, with weights that depend on
whether the scenes are the same and on the epoch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rsretrieval.distributed import rows_of_all, sum_of_ranks
from rsretrieval.losses.gradients import NegativeShares
from rsretrieval.losses.inputs import check_square, own_precision
from rsretrieval.losses.membership import in_class, same_id
from rsretrieval.losses.registry import LossContext, register_loss
from rsretrieval.losses.similarity import Similarity
from rsretrieval.types import PairedEmbeddings

LARGE = 1e30
"""Taken off the similarity of what is no negative; less in a type that has no such number."""


def hardest_negatives(similarity: Tensor, image_ids: Tensor, *, exclude_positives: bool = True) -> Tensor:
    """The paper's h_i: the most similar column of each row that belongs to another image.

    Args:
        similarity: ``(B, B)``, rows of one modality against columns of the other.
        image_ids: ``(B,)`` which image each pair belongs to.
        exclude_positives: False takes the most similar column of all, as the release does.

    Returns:
        ``(B,)`` column indices.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for other shapes.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.8, 0.1], [0.8, 0.9, 0.2], [0.3, 0.4, 0.9]])
        >>> hardest_negatives(similarity, image_ids=torch.tensor([5, 5, 6]))
        tensor([2, 2, 1])
    """
    check_square(similarity, image_ids)
    own = same_id(image_ids, similarity.dtype) if exclude_positives else None
    return _of_others(similarity, own).max(1).indices


def _of_others(scores: Tensor, own: Tensor | None) -> Tensor:
    large = min(LARGE, torch.finfo(scores.dtype).max / 2)
    return scores.detach() if own is None else scores.detach().sub(own, alpha=large)


def scene_weight(beta: float, epoch: int, *, truncate: bool = False) -> float:
    """The paper's alpha(e): weight of a negative in the scene-adaptive loss at an epoch, ``exp(beta * epoch)``.

    Args:
        beta: growth rate per epoch.
        epoch: counted from 0.
        truncate: True takes the integer part, as the authors' release does by storing weights in an integer tensor.

    Returns:
        The weight.

    Example:
        >>> scene_weight(-0.002, 0), scene_weight(-0.002, 5, truncate=True)
        (1.0, 0.0)
    """
    weight = math.exp(beta * epoch)
    return float(math.trunc(weight)) if truncate else weight


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
    """The paper's L_s: weighted softmax of the similarities of embeddings and hardest negatives of the same modality.

    With ``h_i`` the hardest negative text of image ``i``: ``Q_ij = t_i · t_h(j) / temperature``, entries below
    ``margin`` set to 0, ``P`` the softmax over ``j`` with 6e-5 added to its denominator. The text side is the mean over
    ``i`` of ``Σ_j P_ij w_ij``, where ``w_ij`` is ``intra_weight`` if scene ``i`` equals the scene of ``h_j`` and
    ``inter_weight`` otherwise. The image side is the same with the modalities exchanged. The weights depend on the
    epoch: see :func:`scene_weight`.

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

    Raises:
        TypeError: for what is no tensor.
        ValueError: for shapes and types that do not go together, and a temperature that is not above 0.

    Example:
        Each pair is the other's hardest negative, so that row 0 of ``Q`` is (0, 1) and its softmax (0.27, 0.73). Column
        1 is of the same scene as text 0, since the hardest negative of image 1 is text 0 itself:

        >>> eye, ids = torch.eye(2), torch.arange(2)
        >>> scene_adaptive_loss(
        ...     image=eye, text=eye, image_ids=ids, scenes=ids,
        ...     temperature=1.0, inter_weight=0.0, intra_weight=1.0, margin=0.95,
        ... )
        tensor(0.7310)
    """
    with own_precision(image=image, text=text, temperature=temperature, image_ids=image_ids, scenes=scenes):
        alike = Similarity(image, text, image_ids, temperature)
        return scene_adaptive_part(alike, scenes, inter_weight, intra_weight, margin, exclude_positives)


def _next_below(number: float, dtype: torch.dtype) -> float:
    """The next smaller number in ``dtype``: torch's threshold keeps what is above, the paper what is not below."""
    return torch.tensor(number, dtype=dtype).nextafter(torch.tensor(-torch.inf, dtype=dtype)).item()


def scene_adaptive_part(
    similarity: Similarity,
    scenes: Tensor,
    inter_weight: float,
    intra_weight: float,
    margin: float,
    exclude_positives: bool,
) -> Tensor:
    """What the rows of ``similarity`` add to :func:`scene_adaptive_loss`, whose arguments the others are."""
    rows, count = similarity.rows, len(scenes)
    own = similarity.same_image if exclude_positives else None
    kinds, kind = torch.unique(scenes, return_inverse=True)
    below = _next_below(margin, similarity.image.dtype)

    def side(scores: Tensor, embeddings: Tensor) -> Tensor:
        # Several pairs have the same hardest negative, which is one column with their number.
        times = torch.bincount(rows_of_all(scores.max(1).indices, rows, count), minlength=count)
        hardest = times.nonzero()[:, 0]
        columns = in_class(kind[hardest], len(kinds), embeddings.dtype).mul_(times[hardest])
        weights = (inter_weight, intra_weight)
        loss: Tensor = NegativeShares.apply(
            embeddings, similarity.temperature, rows, hardest, columns, kind[rows], weights, below
        )
        return loss

    of_images = _of_others(similarity.of_images, own)
    of_texts = of_images.T if similarity.whole else _of_others(similarity.of_texts, own)
    return (side(of_images, similarity.text) + side(of_texts, similarity.image)) / (2 * count)


@register_loss("scene_adaptive")
def _scene_adaptive(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
    config = context.config
    part = scene_adaptive_part(
        context.similarity,
        pairs.scenes,
        scene_weight(config.beta_inter, context.epoch, truncate=config.truncate_weights),
        scene_weight(config.beta_intra, context.epoch, truncate=config.truncate_weights),
        config.margin,
        config.exclude_positives,
    )
    return sum_of_ranks(part)
