"""From the towers' global vectors to the common space: new projections, or a pre-trained pair's own space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.models.config import PAPER_WIDTH, EncoderConfig
from rsretrieval.models.layers import BlockLinear

log = logging.getLogger(__name__)


def common_width(config: EncoderConfig, image_width: int, text_width: int) -> int:
    """Width of the common space, or of each head of it.

    Args:
        config: of the encoder.
        image_width: of the image tower's global vector.
        text_width: of the text tower's.

    Raises:
        ValueError: if the towers' own space is to be kept, and they have none in common.
    """
    if not config.keeps_alignment:
        return config.embed_dim or PAPER_WIDTH
    if image_width != text_width:
        raise ValueError(
            f"projection={config.projection!r} keeps the towers' own space, and they have none in common: the image "
            f"tower's vectors are {image_width} wide and the text tower's {text_width}; set projection: linear"
        )
    if config.embed_dim not in (None, image_width):
        raise ValueError(
            f"embed_dim={config.embed_dim} and the pair's own space is {image_width} wide: leave embed_dim null, or "
            "set projection: linear for a new space"
        )
    return image_width


def build_projections(config: EncoderConfig, image_tower: Any, text_tower: Any) -> tuple[nn.Module, nn.Module]:  # noqa: ANN401
    """The projections of both towers' global vectors; their outputs are as wide as each other.

    Raises:
        ValueError: see :func:`common_width`.
    """
    widths = (image_tower.pooled_width, text_tower.pooled_width)
    width = common_width(config, *widths)
    if config.split_heads:
        text_widths = [tower.pooled_width for tower in text_tower.towers]
        return nn.Linear(widths[0], len(text_widths) * width), BlockLinear(text_widths, width)
    if not config.keeps_alignment:
        if config.is_pair:
            log.warning(
                "'%s' is one image-text model, and new projections at random part its sides: set projection: none or "
                "identity, and embed_dim: null, to keep its own space", config.image.name,
            )  # fmt: skip
        return nn.Linear(widths[0], width), nn.Linear(widths[1], width)
    if config.projection != "identity":
        return nn.Identity(), nn.Identity()
    return _identity(width), _identity(width)


def _identity(width: int) -> nn.Linear:
    """A layer that trains, and changes nothing until it has."""
    layer = nn.Linear(width, width)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def unit_heads(vectors: Tensor, heads: Sequence[float]) -> Tensor:
    """``(B, heads * width)`` of length 1 as a whole, in float32: a cosine is the weighted mean of the heads' cosines.

    Args:
        vectors: heads end to end.
        heads: the share of each in the cosine; together 1.
    """
    parts = F.normalize(vectors.float().reshape(vectors.shape[0], len(heads), -1), dim=-1)
    return torch.cat([part.mul(share**0.5) for part, share in zip(parts.unbind(1), heads, strict=True)], dim=1)


def split_heads(vectors: Tensor, heads: Sequence[float]) -> tuple[Tensor, ...]:
    """What :func:`unit_heads` gives as each head's ``(B, width)``, L2-normalised."""
    chunks = torch.chunk(vectors, len(heads), dim=1)
    return tuple(chunk.div(share**0.5) for chunk, share in zip(chunks, heads, strict=True))


class PairLogits(nn.Module):
    """Scale and bias of a pre-trained pair's cosines, as its own loss takes them; part of the model's state."""

    scale: torch.Tensor
    bias: torch.Tensor

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("bias", torch.tensor(bias))

    def start(self) -> tuple[float, float]:
        """Temperature and bias of a loss that goes on from the pair."""
        return 1 / self.scale.item(), self.bias.item()
