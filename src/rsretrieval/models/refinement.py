"""Embeddings refined by what a model remembers of training, so that plain cosines find more.

A vector takes in what belongs to the pairs that are near to it, and what is near to everything gives way. Both need the
model's query bank alone, nothing of the archive and no other query, and the result is a vector of length 1 as before:
any index searches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor

SLOTS = 4
"""Dimensions beside the vector's own: the hub biases of both sides, and what makes every vector as long."""


@dataclass(frozen=True)
class RefinementConfig:
    """How embeddings in evaluation are refined by the query bank, pairs of image and caption of training.

    Attributes:
        memory: weight of the memory beside the vector itself: the mean of the other side's embeddings of the bank's
            pairs, by a softmax over the cosines with this side's (after Tip-Adapter, Zhang et al., ECCV 2022); 0 for
            none. Needs a bank of pairs.
        memory_temperature: divisor of the cosines in that softmax.
        hubs: strength of the hub bias that is taken from a cosine, the logarithm of the mean exponential of an
            embedding's cosines with the bank's other side: 0.5 is a dual softmax over bank and item, 1 an inverted
            softmax (Bogolin et al., CVPR 2022); 0 for none.
        hub_temperature: divisor of those cosines.
    """

    memory: float = 0.1
    memory_temperature: float = 0.05
    hubs: float = 0.5
    hub_temperature: float = 0.1

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value >= 0 for value in (self.memory, self.hubs)):
            raise ValueError(f"refinement: memory={self.memory}, hubs={self.hubs}: give finite numbers, 0 or more")
        if not all(math.isfinite(value) and value > 0 for value in (self.memory_temperature, self.hub_temperature)):
            raise ValueError(
                f"refinement: memory_temperature={self.memory_temperature}, hub_temperature={self.hub_temperature}: "
                "give finite numbers above 0"
            )

    @property
    def added_width(self) -> int:
        """Dimensions that a refined embedding has beside its own."""
        return SLOTS if self.hubs else 0


def refine(vectors: Tensor, own: Tensor, other: Tensor, config: RefinementConfig, *, is_image: bool) -> Tensor:
    """Embeddings ``(B, d)`` to refined ones ``(B, d + config.added_width)``, float32 and L2-normalised.

    The cosine of a refined image and a refined text is ``(x · y - b(x) - c(y)) / (1 + 2 hubs)``, where ``x`` and ``y``
    are the embeddings with their memory, and ``b`` and ``c`` their hub biases.

    Args:
        vectors: L2-normalised, of images or of texts.
        own: ``(N, d)`` the bank's embeddings of the same side; rows of zeros are none.
        other: ``(N, d)`` of the other side, in the same order.
        config: how.
        is_image: whether ``vectors`` are of images.

    Example:
        >>> bank = torch.eye(2)
        >>> image = refine(bank, bank, bank, RefinementConfig(memory=0), is_image=True)
        >>> text = refine(bank, bank, bank, RefinementConfig(memory=0), is_image=False)
        >>> image.shape, bool((image @ text.T).diagonal().min() > 0)
        (torch.Size([2, 6]), True)
    """
    vectors, own, other = vectors.float(), own.float(), other.float()
    refined = vectors
    if config.memory:
        pairs = own.any(1) & other.any(1)
        near = (vectors @ own.T / config.memory_temperature).masked_fill(~pairs, -torch.inf)
        remembered = near.softmax(dim=1).nan_to_num() @ other  # nothing, from an empty bank
        refined = F.normalize(vectors + config.memory * remembered, dim=1)
    if not config.hubs:
        return refined
    bias = _hub_bias(refined, other, config)[:, None]
    side, rest = math.sqrt(config.hubs), (config.hubs - bias.square() / config.hubs).clamp(min=0).sqrt()
    nothing, one = torch.zeros_like(bias), torch.full_like(bias, side)
    slots = [-bias / side, one, rest, nothing] if is_image else [one, -bias / side, nothing, rest]
    return torch.cat([refined, *slots], dim=1) / math.sqrt(1 + 2 * config.hubs)


def _hub_bias(vectors: Tensor, other: Tensor, config: RefinementConfig) -> Tensor:
    """``(B,)``, of no larger amount than ``config.hubs``; 0 from an empty bank."""
    known = other.any(1)
    cosines = (vectors @ other.T / config.hub_temperature).masked_fill(~known, -torch.inf)
    mean = cosines.logsumexp(1) - known.sum().log()
    strength = config.hubs * config.hub_temperature
    return mean.mul(strength).where(known.any(), torch.zeros_like(mean))
