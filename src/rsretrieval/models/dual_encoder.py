"""The whole model: an image and a text encoder into one space, the image's supplemented by FGIS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.models.fgis import FGIS
from rsretrieval.models.towers import IMAGE_TOWERS, TEXT_TOWERS, ConvolutionalPrior, TowerConfig, library

CLIP_MEAN: tuple[float, float, float] = (0.4815, 0.4578, 0.4082)
CLIP_STD: tuple[float, float, float] = (0.2686, 0.2613, 0.2758)


class DualEncoder(nn.Module):
    """Image and text towers with projections to a common width.

    Args:
        image: the image tower.
        text: the text tower.
        prior: the convolutional prior of FGIS (a timm model), or None for a dual encoder without FGIS.
        embed_dim: width of the common space.
        dropout: on the projections of the convolutional and of the fused features.
        graph_steps: steps of FGIS.
        image_size: side of the square images, in pixels.
        mean: of the RGB channels, for images in [0, 1].
        std: of the RGB channels.
        freeze_sfgs: the release's option, see :class:`rsretrieval.models.fgis.FGIS`.
        steady: eases FGIS in, see there.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image: TowerConfig,
        text: TowerConfig,
        prior: TowerConfig | None,
        *,
        embed_dim: int = 512,
        dropout: float = 0.2,
        graph_steps: int = 2,
        image_size: int = 224,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        freeze_sfgs: bool = False,
        steady: bool = False,
    ) -> None:
        super().__init__()
        self.image_size, self.embed_dim = image_size, embed_dim
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.image_tower: Any = library(IMAGE_TOWERS, image, "image")(image, image_size)
        self.text_tower: Any = library(TEXT_TOWERS, text, "text")(text)
        self.pooled_projection = nn.Linear(self.image_tower.pooled_width, embed_dim)
        self.text_projection = nn.Linear(self.text_tower.pooled_width, embed_dim)
        self._frozen = [t for t, c in ((self.image_tower, image), (self.text_tower, text)) if c.frozen]
        self.prior: Any = None
        if prior is not None:
            self.prior = ConvolutionalPrior(replace(prior, library="timm"))
            self.prior_projection = nn.Sequential(nn.Linear(self.prior.width, embed_dim), nn.Dropout(dropout))
            # One projection serves both where the tower's global vector is one of its tokens' kind (Swin: their mean).
            shared = self.image_tower.token_width == self.image_tower.pooled_width
            width = self.image_tower.token_width
            self.token_projection = self.pooled_projection if shared else nn.Linear(width, embed_dim)
            self.fgis = FGIS(
                self.prior.early_channels,
                embed_dim,
                graph_steps,
                dropout,
                freeze_sfgs=freeze_sfgs,
                steady=steady,
            )
            self._frozen += [self.prior] if prior.frozen else []
        for tower in self._frozen:
            tower.requires_grad_(False)
        self.train()  # the towers measured their widths in evaluation mode

    def train(self, mode: bool = True) -> DualEncoder:
        """Set the mode; frozen towers stay in evaluation mode, so that their batch statistics do not move."""
        super().train(mode)
        for tower in getattr(self, "_frozen", []):
            tower.eval()
        return self

    def encode_image(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in [0, 1] to ``(B, embed_dim)`` L2-normalised."""
        images = (images - self.mean) / self.std
        features = self.image_tower(images)
        pooled = self.pooled_projection(features.pooled)
        if self.prior is None:
            return F.normalize(pooled.float(), dim=-1)
        early, last = self.prior(images)
        fused: Tensor = self.fgis(early, self.prior_projection(last), pooled, self.token_projection(features.tokens))
        return F.normalize(fused.float(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """``M`` texts to ``(M, embed_dim)`` L2-normalised."""
        device = self.text_projection.weight.device
        tokens = {key: value.to(device) for key, value in self.text_tower.tokenize(texts).items()}
        return F.normalize(self.text_projection(self.text_tower(tokens).pooled).float(), dim=-1)

    def forward(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of images and texts."""
        return self.encode_image(images), self.encode_text(texts)
