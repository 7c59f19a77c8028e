"""The similarities that several losses of a step look at, computed once, and on each process for its own rows alone."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from rsretrieval.losses.membership import same_id

ALL = slice(None)


class Similarity:
    """Cosines of embeddings over a temperature: the rows of a batch against all of it, in both directions.

    Args:
        image: ``(B, d)`` L2-normalised.
        text: ``(B, d)`` L2-normalised.
        image_ids: ``(B,)`` which image each pair belongs to.
        temperature: divisor of the cosines.
        rows: ``R`` pairs of the batch, in one piece; all by default.

    Example:
        >>> eye = torch.eye(3)
        >>> half = Similarity(eye, eye.flip(0), torch.arange(3), temperature=0.5, rows=slice(0, 2))
        >>> half.of_images
        tensor([[0., 0., 2.],
                [0., 2., 0.]])
    """

    def __init__(
        self, image: Tensor, text: Tensor, image_ids: Tensor, temperature: Tensor | float, rows: slice = ALL
    ) -> None:
        self.image = image
        self.text = text
        self.image_ids = image_ids
        self.temperature = temperature
        self.rows = rows
        self.whole = len(image[rows]) == len(image)

    @cached_property
    def scaled(self) -> tuple[Tensor, Tensor]:
        """``(R, d)`` images and texts of the rows, over the temperature."""
        own = (self.image, self.text) if self.whole else (self.image[self.rows], self.text[self.rows])
        return own[0] / self.temperature, own[1] / self.temperature

    @cached_property
    def of_images(self) -> Tensor:
        """``(R, B)``: each row's image against all texts."""
        return self.scaled[0] @ self.text.T

    @cached_property
    def of_texts(self) -> Tensor:
        """``(R, B)``: each row's text against all images."""
        return self.of_images.T if self.whole else self.scaled[1] @ self.image.T

    @cached_property
    def same_image(self) -> Tensor:
        """``(R, B)``: 1 where a pair is of the row's image, 0 elsewhere."""
        return same_id(self.image_ids, self.image.dtype, self.rows)


def log_sum_exp(scores: Tensor) -> Tensor:
    """``(R,)`` of each row. torch's own takes several times as long on a CPU, and more of a transposed matrix."""
    shift = scores.detach().amax(1, keepdim=True)
    return (scores - shift).exp().sum(1).log() + shift[:, 0]


def positives(similarity: Similarity, text_ids: Tensor | None) -> Tensor:
    """``(R, B)``: 1 where a pair is of the row's image, or has its caption where ``text_ids`` tell captions apart."""
    if text_ids is None:
        return similarity.same_image
    return torch.maximum(similarity.same_image, same_id(text_ids, similarity.image.dtype, similarity.rows))
