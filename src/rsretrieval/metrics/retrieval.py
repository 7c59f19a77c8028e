"""Recall as a torchmetrics metric, exact on any number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rsretrieval.metrics.functional import retrieval_recall
from rsretrieval.metrics.rerank import RerankConfig, reranked_recall


def _first(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids in rising order and the index of each one's first occurrence."""
    distinct, inverse = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    index = torch.full_like(distinct, len(ids))
    return distinct, index.scatter_reduce(0, inverse, torch.arange(len(ids), device=ids.device), "amin")


class Embeddings(NamedTuple):
    """The embeddings of a split.

    Attributes:
        image: ``(N, d)``.
        image_ids: ``(N,)`` in rising order.
        text: ``(T, d)`` of distinct texts.
        captions: ``(M,)`` row of ``text`` of each caption.
        owners: ``(M,)`` row of ``image`` that each caption belongs to.
    """

    image: Tensor
    image_ids: Tensor
    text: Tensor
    captions: Tensor
    owners: Tensor


class RetrievalRecall(Metric):
    """R@K both ways and mR over embeddings and owner ids.

    Images are known by id and texts by theirs (:func:`text_ids`), so that a text that several processes encoded counts
    as one; a text is encoded once, however many images it describes.

    Args:
        ks: the ranks.
        ties: see :func:`rsretrieval.metrics.retrieval_recall`.
    """

    full_state_update = False
    image: list[Tensor]
    image_ids: list[Tensor]
    text: list[Tensor]
    text_ids: list[Tensor]
    captions: list[Tensor]

    def __init__(self, ks: Sequence[int] = (1, 5, 10), ties: str = "expected", **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own
        super().__init__(**kwargs)
        self.ks, self.ties = tuple(ks), ties
        for name in ("image", "image_ids", "text", "text_ids", "captions"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, *, image: Tensor, image_ids: Tensor, text: Tensor, text_ids: Tensor, captions: Tensor) -> None:
        """Add a batch.

        Args:
            image: ``(N, d)`` embeddings.
            image_ids: ``(N,)`` distinct for distinct images.
            text: ``(T, d)`` embeddings of distinct texts that were not added before.
            text_ids: ``(T,)``.
            captions: ``(M, 2)`` text id and image id of every caption.
        """
        for name, value in (("image", image), ("text", text)):
            getattr(self, name).append(value.float())
        self.image_ids.append(image_ids)
        self.text_ids.append(text_ids)
        self.captions.append(captions)

    def merged(self) -> Embeddings:
        """Everything added so far, each image and each text once."""
        image_ids, image_rows = _first(dim_zero_cat(self.image_ids))
        ids, text_rows = _first(dim_zero_cat(self.text_ids))
        captions = dim_zero_cat(self.captions)
        return Embeddings(
            image=dim_zero_cat(self.image)[image_rows],
            image_ids=image_ids,
            text=dim_zero_cat(self.text)[text_rows],
            captions=torch.searchsorted(ids, captions[:, 0].contiguous()),
            owners=torch.searchsorted(image_ids, captions[:, 1].contiguous()),
        )

    def compute(self) -> dict[str, float]:
        """The figures in percent; see :func:`rsretrieval.metrics.retrieval_recall`."""
        every = self.merged()
        return retrieval_recall(
            image=every.image, text=every.text[every.captions], owners=every.owners, ks=self.ks, ties=self.ties
        )

    def reranked(self, config: RerankConfig, bank: tuple[Tensor, Tensor] | None = None) -> dict[str, float]:
        """The same after re-ranking; see :func:`rsretrieval.metrics.rerank.reranked_recall`."""
        with self.sync_context():
            every = self.merged()
        return reranked_recall(
            image=every.image,
            text=every.text[every.captions],
            owners=every.owners,
            config=config,
            bank=bank,
            ks=self.ks,
            ties=self.ties,
        )
