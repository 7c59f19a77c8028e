"""Embeddings of training that stay with a model, as queries to tell hubs by."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rsretrieval.models.refinement import RefinementConfig, refine


def sample(count: int, size: int, seed: int) -> list[int]:
    """Which ``size`` of ``count`` to take by chance, in ascending order; all where there are no more.

    Raises:
        ValueError: for a size below 1.
    """
    if size < 1:
        raise ValueError(f"--size {size} is too small: give a number of queries, 1 or more")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:size].tolist())


class QueryBank(nn.Module):
    """The last embeddings of training, part of the model's state.

    A gallery item that is near to many of them is a hub, and that can be told for an archive alone, without further
    queries (Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022). They are what training
    saw in its last steps: augmented, with dropout, by the weights of the step, not their average. A checkpoint without
    a bank loads as one whose bank is empty.

    A model that was trained elsewhere gets one by ``rsretrieval bank`` (:meth:`holding`), maybe without images.

    Args:
        size: images, and as many captions, that are kept; a row of each is one pair.
        width: of an embedding.
        refinement: how it refines what the model gives, and then what :meth:`queries` gives too; null for not.
    """

    image: Tensor
    text: Tensor
    total: Tensor

    def __init__(self, size: int, width: int, refinement: RefinementConfig | None = None) -> None:
        super().__init__()
        self.refinement = refinement
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

    @classmethod
    def holding(
        cls, text: Tensor, image: Tensor | None = None, refinement: RefinementConfig | None = None
    ) -> QueryBank:
        """A bank of these queries.

        Args:
            text: ``(Q, width)`` L2-normalised embeddings.
            image: ``(R, width)``, of pairs in the same order; None for a bank without images.
            refinement: see :class:`QueryBank`.
        """
        image = text[:0] if image is None else image
        bank = cls(max(len(text), len(image)), text.shape[1], refinement)
        bank.text[: len(text)], bank.image[: len(image)] = text.float(), image.float()
        bank.total += len(bank.text)
        return bank

    @property
    def added_width(self) -> int:
        """Dimensions that :meth:`refine` adds."""
        return self.refinement.added_width if self.refinement else 0

    def refine(self, vectors: Tensor, *, is_image: bool) -> Tensor:
        """Embeddings of images or texts as :func:`rsretrieval.models.refinement.refine` gives them, or as they are."""
        if self.refinement is None:
            return vectors
        own, other = (self.image, self.text) if is_image else (self.text, self.image)
        kind = vectors.device.type
        # Cosines over a small temperature need their digits; what is traced has no context that changes nothing.
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return refine(vectors, own, other, self.refinement, is_image=is_image)

    def queries(self) -> tuple[Tensor, Tensor]:
        """Those of images ``(R, width)`` and those of texts ``(Q, width)``, refined; either may be none.

        Raises:
            ValueError: if there are none of both yet.
        """
        if not self.total:
            raise ValueError(
                "the query bank is empty: train with model.encoder.query_bank set, or take another checkpoint"
            )
        image, text = self.image[: int(self.total)], self.text[: int(self.total)]
        image, text = image[image.any(1)], text[text.any(1)]  # zeros fill up the side that has fewer
        return self.refine(image, is_image=True), self.refine(text, is_image=False)

    def of(self, kind: str) -> Tensor:
        """The queries of one kind ``(Q, width)``.

        Args:
            kind: ``images`` or ``texts``.

        Raises:
            ValueError: for another kind, or one that the bank has no queries of.
        """
        banks = dict(zip(("images", "texts"), self.queries(), strict=True))
        if kind not in banks:
            raise ValueError(f"there are no queries '{kind}'; possible are {sorted(banks)}")
        if not len(banks[kind]):
            raise ValueError(
                f"the model's query bank has no {kind}: it was made of captions alone; make one of a data set's split, "
                "by `rsretrieval bank MODEL --captions DATASET`"
            )
        return banks[kind]
