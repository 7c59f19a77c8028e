"""Embeddings of training that stay with a model, as queries to tell hubs by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class QueryBank(nn.Module):
    """The last embeddings of training, part of the model's state.

    A gallery item that is near to many of them is a hub, and that can be told for an archive alone, without further
    queries (Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022). They are what training
    saw in its last steps: augmented, with dropout, by the weights of the step, not their average. A checkpoint without
    a bank loads as one whose bank is empty.

    Args:
        size: images, and as many captions, that are kept.
        width: of an embedding.
    """

    image: Tensor
    text: Tensor
    total: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(size, width))
        self.register_buffer("text", torch.zeros(size, width))
        self.register_buffer("total", torch.tensor(0))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:  # noqa: ANN401
        for name, buffer in self.named_buffers():
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def remember(self, image: Tensor, text: Tensor) -> None:
        """Take in the embeddings ``(B, width)`` of a batch of pairs, in place of the oldest."""
        size = len(self.image)
        rows = torch.arange(len(image), device=image.device)[-size:]
        places = (self.total + rows) % size
        self.image[places], self.text[places] = image[rows].float(), text[rows].float()
        self.total += len(image)

    def queries(self) -> tuple[Tensor, Tensor]:
        """Those of images and those of texts, each ``(Q, width)``.

        Raises:
            ValueError: if there are none yet.
        """
        if not self.total:
            raise ValueError(
                "the query bank is empty: train with model.encoder.query_bank set, or take another checkpoint"
            )
        return self.image[: int(self.total)], self.text[: int(self.total)]
