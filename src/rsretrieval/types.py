"""What flows between the parts: images' preprocessing, a batch of images and texts, and their embeddings.

Imports torch and numpy alone, so that every other module may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Tokens = Mapping[str, Tensor]
"""Tokenised texts by the name of the tower's argument, each ``(M, L)``; at least ``input_ids``."""
Tokenizer = Callable[[Sequence[str]], Tokens]
"""Texts to their tokens."""

CLIP_MEAN = (0.4815, 0.4578, 0.4082)
CLIP_STD = (0.2686, 0.2613, 0.2758)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of an image tower (``rsretrieval.images`` applies it).

    The last three fields say how a picture becomes a square; a pre-trained pair brings its own.

    Attributes:
        image_size: side of the square input, in pixels.
        mean: of the channels, for values in [0, 1]; of more channels than RGB in the units of their values.
        std: of the channels.
        scale: how values that are not 8-bit become 0 to 255, see :class:`rsretrieval.images.Scale`; null refuses them.
            The command line takes it from the data.
        bands: which bands become red, green and blue, such as ``4 3 2``; null for the only one or the first three. The
            command line takes it from the data.
        resize: ``squash`` to a square; or keep the ratio of the sides, and cut what is beyond the square
            (``shortest``), or fill up to it with black (``longest``).
        interpolation: between pixels.
        resampler: ``default`` is Pillow's where a picture shrinks, OpenCV's where it grows; ``pillow`` as open_clip
            does, ``torchvision`` as transformers does.
    """

    image_size: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    scale: str | None = None
    bands: str | None = None
    resize: Literal["squash", "shortest", "longest"] = "squash"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resampler: Literal["default", "pillow", "torchvision"] = "default"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))  # settings files know lists alone
        object.__setattr__(self, "std", tuple(self.std))
        if self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}: give the side of the images in pixels, 1 or more")
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean={self.mean}, std={self.std}: give one number a channel each, for std above 0")
        own = (self.resize, self.interpolation) == ("squash", "bicubic")
        if self.resampler == "default" and not own:
            raise ValueError(
                f"resize={self.resize!r}, interpolation={self.interpolation!r}: the default resampler squashes, "
                "bicubic; set resampler to 'pillow' or 'torchvision'"
            )

    @property
    def channels(self) -> int:
        """Of an image: 3, or the bands of a multispectral model."""
        return len(self.mean)


def text_ids(texts: Sequence[str]) -> Tensor:
    """``(M,)`` int64: equal for equal texts, on every process."""
    digests = (blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=torch.int64)


class Batch(NamedTuple):
    """Images and the texts that describe some of them.

    A training batch has one text for each image (``owners`` equals ``image_ids``); an evaluation batch has every
    caption of each image. Nothing is paired by position in evaluation: ``owners`` says what belongs together.

    Attributes:
        images: ``(N, 3, H, W)`` uint8 RGB; the model normalises.
        image_ids: ``(N,)`` int64, the image's row number in its split.
        texts: ``M`` captions as the model sees them: cleaned, or as written for a pre-trained pair.
        text_ids: ``(M,)`` int64, see :func:`text_ids`; of the whole caption where training deleted words from it.
        owners: ``(M,)`` int64, the image id that each text describes.
        scenes: ``(M,)`` int64, scene class of each text's image.
        caption_values: ``(M,)`` float, value of each caption in the weighted contrastive loss.
        tokens: the texts, tokenised; empty where no tokeniser was given, and the model does it.
        skipped: names of rows that belong here and cannot be read; a batch of nothing else has no images.
        reasons: why each of them cannot be read.
        image_keys: ``(N,)`` int64, equal for equal images (:func:`rsretrieval.images.image_keys`); None in training.
    """

    images: Tensor
    image_ids: Tensor
    texts: list[str]
    text_ids: Tensor
    owners: Tensor
    scenes: Tensor
    caption_values: Tensor
    tokens: Tokens = {}  # noqa: RUF012 - never written to
    skipped: list[str] = []  # noqa: RUF012 - never written to
    reasons: list[str] = []  # noqa: RUF012 - never written to
    image_keys: Tensor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes small tensors go by value: each in a shared-memory file of its own costs far more."""
        return _batch, tuple(_by_value(field) for field in self)


def _by_value(field: Any) -> Any:  # noqa: ANN401
    if isinstance(field, Tensor):
        return field.numpy() if field.ndim < 4 and field.device.type == "cpu" else field
    return {key: _by_value(value) for key, value in field.items()} if isinstance(field, Mapping) else field


def _batch(*fields: Any) -> Batch:  # noqa: ANN401
    def tensor(field: Any) -> Any:  # noqa: ANN401
        if isinstance(field, np.ndarray):
            return torch.from_numpy(field)
        return {key: tensor(value) for key, value in field.items()} if isinstance(field, dict) else field

    return Batch(*map(tensor, fields))


class TowerOutput(NamedTuple):
    """What a tower gives: a global vector ``(B, W)`` and, for images, tokens ``(B, T, V)``, where they are of use."""

    pooled: Tensor
    tokens: Tensor | None


class PairedEmbeddings(NamedTuple):
    """The pairs of a global batch, as the losses see them.

    Attributes:
        image: ``(B, d)`` L2-normalised image embeddings.
        text: ``(B, d)`` L2-normalised text embeddings.
        image_ids: ``(B,)`` which image each pair belongs to.
        text_ids: ``(B,)`` equal for equal captions.
        scenes: ``(B,)`` scene class of each pair.
        caption_values: ``(B,)`` value of each caption.
    """

    image: Tensor
    text: Tensor
    image_ids: Tensor
    text_ids: Tensor
    scenes: Tensor
    caption_values: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> PairedEmbeddings:
        """Apply ``function`` to every field."""
        return PairedEmbeddings(*(function(field) for field in self))
