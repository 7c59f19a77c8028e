"""Pictures in batches, each distinct one encoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from rsretrieval.images import BrokenImageError, image_keys
from rsretrieval.models.inputs import check_batch_size
from rsretrieval.models.parallel import on_cores


def encode_distinct(
    images: Iterable[Any],
    read: Callable[[Any], NDArray[Any]],
    encode: Callable[[Sequence[NDArray[Any]]], Tensor],
    *,
    batch_size: int,
    width: int,
) -> Tensor:
    """Pictures to ``(N, width)``; equal ones to equal vectors.

    Args:
        images: one after the other.
        read: one to what the model sees; several threads may call it, each with another file.
        encode: what is read of several to ``(b, width)``.
        batch_size: pictures that are read, and encoded, at once.
        width: of a vector.

    Raises:
        BrokenImageError: for a picture that cannot be read; the message says which.
        ValueError: for a batch size that is no whole number, or below 1.
    """
    batch_size = check_batch_size(batch_size)
    rows: dict[int, int] = {}  # of each distinct picture, by its key
    order: list[int] = []
    embeddings = [torch.zeros(0, width)]
    numbered = enumerate(images)
    while batch := list(islice(numbered, batch_size)):
        new = []
        files = all(isinstance(image, str | os.PathLike | bytes) for _, image in batch)
        for key, pixels in (on_cores if files else map)(partial(_keyed, read), batch):
            if key not in rows:
                rows[key] = len(rows)
                new.append(pixels)
            order.append(rows[key])
        if new:
            embeddings.append(encode(new))
    return torch.cat(embeddings)[order]


def _keyed(read: Callable[[Any], NDArray[Any]], numbered: tuple[int, Any]) -> tuple[int, NDArray[Any]]:
    number, image = numbered
    try:
        pixels = read(image)
    except BrokenImageError as error:
        name = f" ('{image}')" if isinstance(image, str | os.PathLike) else ""
        raise type(error)(f"picture {number} of the list{name}: {error}") from error
    return int(image_keys([pixels])), pixels
