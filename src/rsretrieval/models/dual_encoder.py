"""The whole model: an image and a text encoder into one space, the image's supplemented by FGIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsretrieval.cache import FeatureCache, cache_folder, fingerprint
from rsretrieval.models.fgis import FGIS
from rsretrieval.models.layers import freeze
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.timm_towers import ConvolutionalPrior
from rsretrieval.models.tower_config import TowerConfig
from rsretrieval.models.towers import IMAGE_TOWERS, TEXT_TOWERS, JointTextTower, library

CLIP_MEAN: tuple[float, float, float] = (0.4815, 0.4578, 0.4082)
CLIP_STD: tuple[float, float, float] = (0.2686, 0.2613, 0.2758)
CPU_BATCH = 8
"""Images that a CPU sees at a time where nothing trains. At 224 pixels, 16 take twice as long each: maps of more than
32 MiB are memory that glibc gives back and faults in anew."""


def views(images: Tensor, count: int) -> list[Tensor]:
    """The images ``(..., H, W)`` as they are, and mirrored and turned, up to ``count`` (8 are all there are)."""
    flips: list[tuple[int, ...]] = [(), (-1,), (-2,), (-1, -2)]
    turned = [images, images.transpose(-1, -2)] if count > 4 else [images]
    return [image.flip(dims) for image in turned for dims in flips][:count]


class BlockLinear(nn.Module):
    """A linear layer for each part of a vector: ``(B, sum of widths)`` to ``(B, len(widths) * out)``."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.layers = nn.ModuleList(nn.Linear(width, out) for width in widths)

    def forward(self, vectors: Tensor) -> Tensor:
        """Each part through its layer, end to end."""
        parts = torch.split(vectors, self.widths, dim=-1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=-1)


class DualEncoder(nn.Module):
    """Image and text towers with projections to a common width.

    Args:
        image: the image tower.
        text: the text tower.
        prior: the convolutional prior of FGIS (a timm model), or None for a dual encoder without FGIS.
        embed_dim: width of the common space (of each head, where they are separate).
        dropout: on the projections of the convolutional and of the fused features.
        graph_steps: steps of FGIS.
        image_size: side of the square images, in pixels.
        mean: of the RGB channels, for images in [0, 1].
        std: of the RGB channels.
        freeze_sfgs: the release's option, see :class:`rsretrieval.models.fgis.FGIS`.
        steady: eases FGIS in, see there.
        eval_views: images of which an embedding in evaluation is the mean: 1, 2 (and mirrored), 4 (both ways) or 8
            (and turned by 90 degrees); from above there is no up.
        cache_features: keep what the frozen image side gives on disk (``rsretrieval.cache``), so that what is above it
            trains in seconds. Needs a frozen image tower and prior, and an augmentation of few variants.
        separate_heads: each tower of a text tower of the library ``joint`` gets a projection of its own, and the image
            one for each. An embedding is these heads end to end, each normalised, so that a cosine is the mean of
            theirs; :class:`rsretrieval.module.RetrievalModule` takes the losses of each head by itself. Trained
            apart, heads err apart, as members of an ensemble do.
        chunk_size: encode a training batch in chunks of so many images or texts, and each again in the backward pass:
            activations take the memory of one chunk, while losses and gradients are those of the whole batch (the
            gradient cache of Gao et al., 2021). Costs a second forward pass. Batch norms that train see chunks, twice.
        query_bank: keep so many embeddings of training images and of captions with the model, to re-rank by
            (:class:`rsretrieval.models.query_bank.QueryBank`); 0 for none.

    Raises:
        ValueError: for another number of views, a cache of what trains, separate heads of one text tower or with a
            prior, or chunks of less than 1.
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
        eval_views: int = 1,
        cache_features: bool = False,
        separate_heads: bool = False,
        chunk_size: int | None = None,
        query_bank: int = 0,
    ) -> None:
        super().__init__()
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size} encodes nothing: give 1 or more, or null for the whole batch")
        self.chunk_size = chunk_size
        if eval_views not in (1, 2, 4, 8):
            raise ValueError(f"eval_views={eval_views} is unknown; possible are 1, 2, 4 and 8")
        self.eval_views = eval_views
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.image_tower: Any = library(IMAGE_TOWERS, image, "image")(image, image_size)
        self.text_tower: Any = library(TEXT_TOWERS, text, "text")(text)
        width = self.image_tower.pooled_width
        if separate_heads and (prior is not None or not isinstance(self.text_tower, JointTextTower)):
            raise ValueError("separate_heads needs a text tower of the library 'joint', and `prior: null`: set these")
        widths = [t.pooled_width for t in self.text_tower.towers] if separate_heads else [self.text_tower.pooled_width]
        self.heads, self.embed_dim = len(widths), len(widths) * embed_dim
        self.bank = QueryBank(query_bank, self.embed_dim) if query_bank else None
        self.pooled_projection = nn.Linear(width, self.embed_dim)
        self.text_projection = BlockLinear(widths, embed_dim) if separate_heads else nn.Linear(widths[0], embed_dim)
        self._frozen = [
            module
            for tower, config in ((self.image_tower, image), (self.text_tower, text))
            for module in freeze(tower, frozen=config.frozen, layers=config.frozen_layers)
        ]
        self.prior: Any = None
        if prior is not None:
            self.prior = ConvolutionalPrior(replace(prior, library="timm"))
            self.prior_projection = nn.Sequential(nn.Linear(self.prior.width, embed_dim), nn.Dropout(dropout))
            # One projection serves both where the tower's global vector is one of its tokens' kind (Swin: their mean).
            shared = self.image_tower.token_width == width
            self.token_projection = (
                self.pooled_projection if shared else nn.Linear(self.image_tower.token_width, embed_dim)
            )
            self.fgis = FGIS(
                self.prior.early_channels,
                embed_dim,
                graph_steps,
                dropout,
                freeze_sfgs=freeze_sfgs,
                steady=steady,
            )
            self._frozen += freeze(self.prior, frozen=prior.frozen, layers=prior.frozen_layers)
        self.train()  # the towers measured their widths in evaluation mode
        self._caches: dict[torch.dtype, FeatureCache] | None = None
        if cache_features:
            self._open_cache()

    def train(self, mode: bool = True) -> DualEncoder:
        """Set the mode; frozen towers stay in evaluation mode, so that their batch statistics do not move."""
        super().train(mode)
        for tower in getattr(self, "_frozen", []):
            tower.eval()
        return self

    def _open_cache(self) -> None:
        sides = [side for side in (self.image_tower, self.prior) if side is not None]
        if any(parameter.requires_grad for side in sides for parameter in side.parameters()):
            raise ValueError("cache_features needs a frozen image tower and prior: set their `frozen`, or do without")
        settings = (self.image_size, self.mean.tolist(), self.std.tolist())
        name = fingerprint(nn.ModuleList(sides).state_dict(), torch.__version__, settings)
        self._caches, self._folder = {}, cache_folder() / "features" / name
        with torch.no_grad():
            self._shapes = [part.shape[1:] for part in self._see(torch.zeros(1, 3, self.image_size, self.image_size))]

    def see(self, images: Tensor) -> list[Tensor]:
        """What the backbones give for images, from the cache where there is one.

        Args:
            images: ``(B, 3, H, W)`` uint8, or float in [0, 1].

        Returns:
            The global vector and, where FGIS wants them, the tokens, the prior's early map and the prior's vector.
        """
        return self._see(images) if self._caches is None else self._remembered(images)

    def _see(self, images: Tensor) -> list[Tensor]:
        still = not (torch.is_grad_enabled() or self.image_tower.training)
        if still and images.device.type == "cpu" and len(images) > CPU_BATCH:
            return [torch.cat(parts) for parts in zip(*map(self._see, torch.split(images, CPU_BATCH)), strict=True)]
        if images.dtype == torch.uint8:
            images = images.float() / 255
        images = (images - self.mean) / self.std
        features = self.image_tower(images)
        return [features.pooled] if self.prior is None else [features.pooled, features.tokens, *self.prior(images)]

    def _remembered(self, images: Tensor) -> list[Tensor]:
        """The same from the cache, of which there is one for each precision."""
        assert self._caches is not None
        kind = images.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        widths = [shape.numel() for shape in self._shapes]
        if precision not in self._caches:
            self._caches[precision] = FeatureCache(self._folder / str(precision), sum(widths))

        def see(new: Tensor) -> Tensor:
            return torch.cat([part.float().flatten(1) for part in self._see(new)], dim=1)

        parts = torch.split(self._caches[precision](images, see), widths, dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _normalize(self, vectors: Tensor) -> Tensor:
        """``(B, embed_dim)`` with heads of equal length, and of length 1 as a whole."""
        heads: Tensor = F.normalize(vectors.float().reshape(len(vectors), self.heads, -1), dim=-1)
        return heads.flatten(1).div(self.heads**0.5)

    def by_head(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """Embeddings ``(B, embed_dim)`` as each head's ``(B, embed_dim / heads)``, L2-normalised."""
        return torch.chunk(embeddings.mul(self.heads**0.5), self.heads, dim=1)

    def embed(self, seen: Sequence[Tensor]) -> Tensor:
        """What :meth:`see` gives to ``(B, embed_dim)`` L2-normalised."""
        pooled, *rest = seen
        pooled = self.pooled_projection(pooled)
        if self.prior is None:
            return self._normalize(pooled)
        tokens, early, last = rest
        fused: Tensor = self.fgis(early, self.prior_projection(last), pooled, self.token_projection(tokens))
        return F.normalize(fused.float(), dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB to ``(B, embed_dim)`` L2-normalised; in evaluation over all views.

        Args:
            images: uint8, or float in [0, 1].
        """
        if self.training or self.eval_views == 1:
            return self.embed(self.see(images))
        each = [self.embed(self.see(view)) for view in views(images, self.eval_views)]
        return self._normalize(torch.stack(each).mean(0))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """``M`` texts to ``(M, embed_dim)`` L2-normalised."""
        device = self.mean.device
        tokens = {key: value.to(device) for key, value in self.text_tower.tokenize(texts).items()}
        return self._normalize(self.text_projection(self.text_tower(tokens).pooled))

    def forward(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of images and texts."""
        return self._in_chunks(self.encode_image, images), self._in_chunks(self.encode_text, texts)

    def _in_chunks(self, encode: Callable[[Any], Tensor], inputs: Tensor | Sequence[str]) -> Tensor:
        size = self.chunk_size or len(inputs)
        if size >= len(inputs) or not torch.is_grad_enabled():
            return encode(inputs)
        chunks = [inputs[i : i + size] for i in range(0, len(inputs), size)]
        # A tensor beside strings tells the device whose random numbers are drawn again.
        return torch.cat([checkpoint(lambda part, _: encode(part), c, self.mean, use_reentrant=False) for c in chunks])
