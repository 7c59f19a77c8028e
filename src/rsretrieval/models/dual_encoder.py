"""The whole model: an image and a text encoder into one space, the image's supplemented by FGIS."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.compatibility import current_tensor_names
from rsretrieval.images import mirrorings, normalise
from rsretrieval.models.adaptation import Adapter, adapt
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.feature_cache import SideCache, image_cache, text_cache, trains
from rsretrieval.models.features import BackboneFeatures
from rsretrieval.models.fgis import FGIS
from rsretrieval.models.inputs import check_images, check_texts
from rsretrieval.models.parallel import CORE_TEXTS, core_images, in_chunks, in_pieces, without_training
from rsretrieval.models.projections import PairLogits, build_projections, common_width, unit_heads
from rsretrieval.models.prompts import over_prompts, prompted
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.towers.checkpointing import checkpoint_gradients
from rsretrieval.models.towers.registry import IMAGE_TOWERS, TEXT_TOWERS
from rsretrieval.models.towers.timm import ConvolutionalBranch
from rsretrieval.types import Tokenizer, Tokens

log = logging.getLogger(__name__)


def _rename_tensors(_: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Weights of older versions load: a hook of ``load_state_dict``."""
    current_tensor_names(state, prefix)


class DualEncoder(nn.Module):
    """Image and text towers with projections to a common width.

    Args:
        config: every setting; see :class:`rsretrieval.models.config.EncoderConfig`.

    Raises:
        ValueError: for a cache where both sides train.
        WeightsError: for weights that are not there or do not fit.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.image_tower: Any = IMAGE_TOWERS[config.image.library](config.image, config.preprocessing.image_size)
        self.text_tower: Any = TEXT_TOWERS[config.text.library](config.text)
        self.heads = config.heads
        width = common_width(config, self.image_tower.pooled_width, self.text_tower.pooled_width)
        self.width = len(self.heads) * width
        self.bank = QueryBank(config.query_bank, self.width, config.refinement) if config.query_bank else None
        self.logits = PairLogits(*self.image_tower.logits) if config.is_pair and config.keeps_alignment else None
        self.pooled_projection, self.text_projection = build_projections(config, self.image_tower, self.text_tower)
        self._frozen: list[nn.Module] = []
        self._frozen += adapt(self.image_tower, config.image, lambda: self.image_tower(self._blank()))
        self._frozen += adapt(self.text_tower, config.text, lambda: self.text_tower(self.text_tower.tokenizer(["a"])))
        self.image_adapter = Adapter(self.width, config.adapter) if config.adapter else None
        self.text_adapter = Adapter(self.width, config.adapter) if config.adapter and config.adapter.text else None
        self.convolutional_branch: ConvolutionalBranch | None = None
        if config.convolutional_branch is not None:
            self._add_fgis()
        elif hasattr(self.image_tower, "with_tokens"):
            self.image_tower.with_tokens = False
        checkpoint_gradients(self.towers(), config)
        self.train()  # the towers measured their widths in evaluation mode
        self._caches: dict[str, SideCache] = {}
        if config.cache_features:
            self._open_caches()
        self.register_load_state_dict_pre_hook(_rename_tensors)  # type: ignore[no-untyped-call]

    def _add_fgis(self) -> None:
        config, branch = self.config, self.config.convolutional_branch
        assert branch is not None
        network = self.convolutional_branch = ConvolutionalBranch(branch)
        self.branch_projection = nn.Sequential(
            nn.Linear(self.convolutional_branch.width, self.width), nn.Dropout(config.dropout)
        )
        # One projection serves both where the tower's global vector is one of its tokens' kind (Swin: their mean).
        shared = self.image_tower.token_width == self.image_tower.pooled_width
        self.token_projection = (
            self.pooled_projection if shared else nn.Linear(self.image_tower.token_width, self.width)
        )
        self.fgis = FGIS(
            self.convolutional_branch.early_channels,
            self.width,
            config.graph_steps,
            config.dropout,
            freeze_sfgs=config.freeze_sfgs,
            stabilised=config.stabilised_fgis,
            from_zero=config.keeps_alignment,
        )
        self._frozen += adapt(network, branch, lambda: network(self._blank()))

    def train(self, mode: bool = True) -> DualEncoder:
        """Set the mode; frozen towers stay in evaluation mode, so that their batch statistics do not move."""
        super().train(mode)
        for tower in getattr(self, "_frozen", []):
            tower.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._weight.device

    @property
    def _weight(self) -> Tensor:
        """Any parameter: they share device and precision."""
        return next(self.parameters())

    @property
    def tokenizer(self) -> Tokenizer:
        """Texts to tokens, in the model's prompts; it pickles and holds no network."""
        return prompted(self.text_tower.tokenizer, self.config.prompts)

    def towers(self) -> list[nn.Module]:
        """Every pre-trained network of the model, towers side by side one by one."""
        sides = [self.image_tower, self.text_tower, self.convolutional_branch]
        return [tower for side in sides if side is not None for tower in getattr(side, "towers", [side])]

    def _blank(self) -> Tensor:
        """An image ``(1, C, H, W)``, for networks that are to be looked at."""
        preprocessing = self.config.preprocessing
        return torch.zeros(1, preprocessing.channels, *[preprocessing.image_size] * 2)

    @property
    def cached_sides(self) -> list[str]:
        """Which of ``image`` and ``text`` have their features kept on disk."""
        return list(self._caches)

    def _open_caches(self) -> None:
        image_side = [side for side in (self.image_tower, self.convolutional_branch) if side is not None]
        if not trains(*image_side):
            with torch.no_grad():
                shapes = [part.shape[1:] for part in self._parts(self._blank())]
            configs = [config for config in (self.config.image, self.config.convolutional_branch) if config is not None]
            self._caches["image"] = image_cache(image_side, configs, self.config.preprocessing, shapes)
        if not trains(self.text_tower):
            self._caches["text"] = text_cache(self.text_tower, self.config.text)
        if not self._caches:
            raise ValueError(
                "cache_features needs a frozen image tower and convolutional branch, or a frozen text tower: set their "
                "`frozen`, or do without"
            )
        if len(self._caches) == 1:
            log.info("cache_features keeps the features of the %s side alone: the other one trains", *self._caches)

    def backbone_features(self, images: Tensor) -> BackboneFeatures:
        """What the backbones give for images, from the cache where there is one.

        Args:
            images: ``(B, 3, H, W)`` uint8, or float in [0, 1].
        """
        parts = self._caches["image"](images, self._parts) if "image" in self._caches else self._parts(images)
        return BackboneFeatures(*parts)

    def _parts(self, images: Tensor) -> Sequence[Tensor]:
        largest = None if self.image_tower.training else core_images(self.image_tower)
        return in_pieces(lambda piece: self._backbones(piece).parts(), images, largest)

    def _backbones(self, images: Tensor) -> BackboneFeatures:
        images = normalise(images, self.config.preprocessing).to(self._weight.dtype)
        output = self.image_tower(images)
        if self.convolutional_branch is None:
            return BackboneFeatures(output.pooled)
        return BackboneFeatures(output.pooled, output.tokens, *without_training(self.convolutional_branch, images))

    @property
    def embed_dim(self) -> int:
        """Width of an embedding: of the common space, all heads together, and what refinement adds."""
        return self.width + (self.bank.added_width if self.bank else 0)

    def embed_features(self, features: BackboneFeatures) -> Tensor:
        """What :meth:`backbone_features` gives to ``(B, width)`` L2-normalised, not refined."""
        precision = self._weight.dtype  # moments of maps, and what was cached, are float32
        features = BackboneFeatures(*(part.to(precision) for part in features.parts()))
        pooled = self.pooled_projection(features.pooled)
        pooled = pooled if self.image_adapter is None else self.image_adapter(pooled)
        if self.convolutional_branch is None:
            return unit_heads(pooled, self.heads)
        branch, tokens = self.branch_projection(features.branch), self.token_projection(features.tokens)
        fused: Tensor = self.fgis(features.early, branch, pooled, tokens)
        return F.normalize(fused.float(), dim=-1)

    def encode_image(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB to ``(B, embed_dim)`` L2-normalised; in evaluation over all views.

        Args:
            images: uint8, or float in [0, 1].
        """
        check_images(images, self.config.preprocessing.channels)
        return self._refined(self._images(images), is_image=True) if images.shape[0] else self._none()

    def _none(self) -> Tensor:
        return torch.zeros(0, self.embed_dim, device=self.device)

    def _images(self, images: Tensor) -> Tensor:
        count = 1 if self.training else self.config.eval_views
        views = mirrorings(images, count)
        views = [torch.cat(views)] if images.device.type == "cpu" else views  # whose cores see few at a time anyway
        vectors = torch.cat([self.embed_features(self.backbone_features(view)) for view in views])
        return vectors if count == 1 else unit_heads(vectors.reshape(count, -1, self.width).mean(0), self.heads)

    def _refined(self, vectors: Tensor, *, is_image: bool) -> Tensor:
        """By the bank, in evaluation: training is of the vectors themselves."""
        return vectors if self.training or self.bank is None else self.bank.refine(vectors, is_image=is_image)

    def encode_tokens(self, tokens: Tokens) -> Tensor:
        """``M`` tokenised texts to ``(M, embed_dim)`` L2-normalised.

        Args:
            tokens: each ``(M, L)``; or ``(M, P, L)`` of texts in ``P`` prompts, whose mean is taken.
        """
        return self._refined(self._texts(tokens), is_image=False)

    def _texts(self, tokens: Tokens) -> Tensor:
        return over_prompts({key: value.to(self.device) for key, value in tokens.items()}, self._encode, self.heads)

    def _encode(self, tokens: Tokens) -> Tensor:
        features = self._text_features(tokens).to(self._weight.dtype)
        vectors = self.text_projection(features)
        return unit_heads(vectors if self.text_adapter is None else self.text_adapter(vectors), self.heads)

    def _text_features(self, tokens: Tokens) -> Tensor:
        """``(M, W)`` the text tower's global vectors, from the cache where there is one."""
        largest = None if self.text_tower.training else CORE_TEXTS

        def compute(new: Tokens) -> Sequence[Tensor]:
            return in_pieces(lambda piece: [self.text_tower(piece).pooled], new, largest)

        return (self._caches["text"](tokens, compute) if "text" in self._caches else compute(tokens))[0]

    def encode_text(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Tensor:
        """``M`` texts to ``(M, embed_dim)`` L2-normalised, in these prompts or the model's own."""
        check_texts(texts)
        chosen = prompted(self.text_tower.tokenizer, self.config.prompts if prompts is None else prompts)
        return self.encode_tokens(chosen(texts)) if len(texts) else self._none()

    def forward(self, images: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """What losses take, ``(B, width)`` each, not refined; in chunks where ``chunk_size`` is set, with gradients."""
        size, weight = self.config.chunk_size, self._weight
        return in_chunks(self._images, images, size, weight), in_chunks(self._texts, tokens, size, weight)
