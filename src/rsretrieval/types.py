"""What flows between the parts: a batch of images and texts, and their embeddings.

Imports torch and numpy alone, so that every other module may import it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


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
        texts: ``M`` cleaned captions.
        text_ids: ``(M,)`` int64, see :func:`text_ids`; of the whole caption where training deleted words from it.
        owners: ``(M,)`` int64, the image id that each text describes.
        scenes: ``(M,)`` int64, scene class of each text's image.
        caption_values: ``(M,)`` float, value of each caption in the weighted contrastive loss.
        skipped: names of rows that belong here and cannot be read.
    """

    images: Tensor
    image_ids: Tensor
    texts: list[str]
    text_ids: Tensor
    owners: Tensor
    scenes: Tensor
    caption_values: Tensor
    skipped: list[str] = []  # noqa: RUF012 - never written to

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes small tensors go by value: each in a shared-memory file of its own costs far more."""
        return _batch, tuple(f.numpy() if isinstance(f, Tensor) and f.ndim == 1 else f for f in self)


def _batch(*fields: Any) -> Batch:  # noqa: ANN401
    return Batch(*(torch.from_numpy(f) if isinstance(f, np.ndarray) else f for f in fields))  # type: ignore[arg-type]


class Features(NamedTuple):
    """What a tower gives: a global vector ``(B, W)`` and tokens ``(B, T, W)``."""

    pooled: Tensor
    tokens: Tensor


class Pairs(NamedTuple):
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

    def map(self, function: Callable[[Tensor], Tensor]) -> Pairs:
        """Apply ``function`` to every field."""
        return Pairs(*(function(field) for field in self))
