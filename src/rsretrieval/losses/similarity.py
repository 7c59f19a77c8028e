"""The similarities that several losses of a step look at, computed once, and on each process for its own rows alone."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from rsretrieval.losses.membership import same_id

ALL = slice(None)


class Similarity:
    """Cosines of embeddings: the rows of a batch against all of it, in both directions.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to.
        temperature: by which the losses divide the cosines.
        rows: ``R`` pairs of the batch, in one piece; all by default.

    Example:
        >>> eye = torch.eye(3)
        >>> half = Similarity(eye, eye.flip(0), torch.arange(3), temperature=0.07, rows=slice(0, 2))
        >>> half.of_images
        tensor([[0., 0., 1.],
                [0., 1., 0.]])
    """

    def __init__(
        self, image: Tensor, text: Tensor, image_ids: Tensor, temperature: Tensor | float, rows: slice = ALL
    ) -> None:
        self.image = image
        self.text = text
        self.image_ids = image_ids
        self.temperature = torch.as_tensor(temperature, dtype=image.dtype, device=image.device)
        self.rows = rows
        self.whole = len(image[rows]) == len(image)

    @cached_property
    def of_images(self) -> Tensor:
        """``(R, B)``: each row's image against all texts."""
        return self._own(self.image) @ self.text.T

    @cached_property
    def of_texts(self) -> Tensor:
        """``(R, B)``: each row's text against all images."""
        return self.of_images.T if self.whole else self._own(self.text) @ self.image.T

    @cached_property
    def same_image(self) -> Tensor:
        """``(R, B)``: 1 where a pair is of the row's image, 0 elsewhere."""
        return same_id(self.image_ids, self.image.dtype, self.rows)

    def _own(self, embeddings: Tensor) -> Tensor:
        return embeddings if self.whole else embeddings[self.rows]


def positives(similarity: Similarity, text_ids: Tensor | None) -> Tensor:
    """``(R, B)``: 1 where a pair is of the row's image, or has its caption where ``text_ids`` tell captions apart."""
    if text_ids is None:
        return similarity.same_image
    return torch.maximum(similarity.same_image, same_id(text_ids, similarity.image.dtype, similarity.rows))
