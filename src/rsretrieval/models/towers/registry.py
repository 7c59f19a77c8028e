"""The contract of towers, and the libraries that there are.

A tower gives a global vector ``(B, pooled_width)`` and tokens ``(B, T, token_width)``. A new library is one class and
one registration; the built-in ones import their library where a tower is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from rsretrieval.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from rsretrieval.models.config import TowerConfig
    from rsretrieval.types import Tokenizer, Tokens, TowerOutput


class ImageTower(Protocol):
    """What a registered image tower, an ``nn.Module``, has."""

    pooled_width: int
    token_width: int

    def __call__(self, images: Tensor) -> TowerOutput:
        """Normalised images ``(B, 3, H, W)`` to their global vectors and tokens."""


class TextTower(Protocol):
    """What a registered text tower, an ``nn.Module``, has."""

    pooled_width: int
    token_width: int

    @property
    def tokenizer(self) -> Tokenizer:
        """Texts to tensors ``(M, L)``; it travels to the loader's workers, so it must pickle and hold no network."""

    def __call__(self, tokens: Tokens) -> TowerOutput:
        """Tokenised texts to their global vectors and tokens."""


IMAGE_TOWERS: Registry[Callable[[TowerConfig, int], Any]] = Registry("image tower library")
"""Library to a function from a tower's settings and the side of the images, in pixels, to an :class:`ImageTower`."""
TEXT_TOWERS: Registry[Callable[[TowerConfig], Any]] = Registry("text tower library")
"""Library to a function from a tower's settings to a :class:`TextTower`."""
register_image_tower = IMAGE_TOWERS.register
register_text_tower = TEXT_TOWERS.register


@register_image_tower("timm")
def _timm_image(config: TowerConfig, image_size: int) -> ImageTower:
    from rsretrieval.models.towers.timm import TimmImageTower

    return TimmImageTower(config, image_size)


@register_image_tower("open_clip")
def _open_clip_image(config: TowerConfig, image_size: int) -> ImageTower:
    from rsretrieval.models.towers.open_clip import OpenClipImageTower

    return OpenClipImageTower(config, image_size)


@register_image_tower("transformers")
def _transformers_image(config: TowerConfig, image_size: int) -> ImageTower:
    from rsretrieval.models.towers.transformers import TransformersImageTower
    from rsretrieval.models.towers.transformers_pair import TransformersPairImageTower, is_pair

    return (TransformersPairImageTower if is_pair(config) else TransformersImageTower)(config, image_size)


@register_image_tower("concat")
def _concat_image(config: TowerConfig, image_size: int) -> ImageTower:
    from rsretrieval.models.towers.concat import ConcatImageTower

    return ConcatImageTower(config, image_size)


@register_text_tower("open_clip")
def _open_clip_text(config: TowerConfig) -> TextTower:
    from rsretrieval.models.towers.open_clip import OpenClipTextTower

    return OpenClipTextTower(config)


@register_text_tower("transformers")
def _transformers_text(config: TowerConfig) -> TextTower:
    from rsretrieval.models.towers.transformers import TransformersTextTower
    from rsretrieval.models.towers.transformers_pair import TransformersPairTextTower, is_pair

    return (TransformersPairTextTower if is_pair(config) else TransformersTextTower)(config)


@register_text_tower("ngrams")
def _ngrams_text(config: TowerConfig) -> TextTower:
    from rsretrieval.models.towers.ngrams import NGramTextTower

    return NGramTextTower(config)


@register_text_tower("concat")
def _concat_text(config: TowerConfig) -> TextTower:
    from rsretrieval.models.towers.concat import ConcatTextTower

    return ConcatTextTower(config)
