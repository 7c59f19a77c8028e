"""Recall as a torchmetrics metric, exact on any number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rsretrieval.metrics.functional import retrieval_recall
from rsretrieval.metrics.hubness import HubnessConfig, hubness_corrected_recall
from rsretrieval.metrics.inputs import integers, matching
from rsretrieval.metrics.protocol import check_protocol


class SplitEmbeddings(NamedTuple):
    """The embeddings of a split.

    Attributes:
        image: ``(N, d)``.
        image_ids: ``(N,)`` in ascending order.
        text: ``(T, d)`` of distinct texts.
        caption_rows: ``(M,)`` row of ``text`` of each caption.
        owners: ``(M,)`` row of ``image`` that each caption belongs to.
    """

    image: Tensor
    image_ids: Tensor
    text: Tensor
    caption_rows: Tensor
    owners: Tensor

    def asked(self, queries: str) -> dict[str, Any]:
        """What functions of embeddings take: ``image``, ``text``, ``owners`` and ``distinct_ids``.

        Args:
            queries: every caption or each distinct one.
        """
        return {
            "image": self.image,
            "text": self.text[self.caption_rows],
            "owners": self.owners,
            "distinct_ids": self.caption_rows if queries == "distinct" else None,
        }


class CrossModalRecall(Metric):
    """R@K in both directions and mR over embeddings and owner ids.

    Images are identified by id and texts by theirs (:func:`rsretrieval.types.text_ids`), so that a text that several
    processes encoded counts as one; a text is encoded once, however many images it describes. Equal images get equal
    embeddings, whatever batches they were encoded in, so that they tie. Unlike torchmetrics'
    ``RetrievalRecall`` it scores embeddings, not pairs, in both directions, and a query succeeds when the best of what
    belongs to it is among the first K.

    Args:
        ks: the ranks.
        ties: see :func:`rsretrieval.metrics.retrieval_recall`.
        queries: see :func:`rsretrieval.metrics.retrieval_recall`; distinct captions are told by their ids.
        kwargs: of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: for ranks below 1, unknown ``ties`` or ``queries``.

    Example:
        Image 7 has the captions "a pond" and "a pier", image 9 only "a pier", which is encoded once. The text query "a
        pier" of image 7 retrieves image 9 first:

        >>> from rsretrieval.types import text_ids
        >>> recall = CrossModalRecall(ks=(1,))
        >>> recall.update(
        ...     image=torch.eye(2),
        ...     image_ids=torch.tensor([7, 9]),
        ...     text=torch.eye(2),
        ...     text_ids=text_ids(["a pond", "a pier"]),
        ...     caption_text_ids=text_ids(["a pond", "a pier", "a pier"]),
        ...     caption_image_ids=torch.tensor([7, 7, 9]),
        ... )
        >>> {name: round(value, 1) for name, value in recall.compute().items()}
        {'i2t_R@1': 75.0, 't2i_R@1': 66.7, 'mR': 70.8}
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    image: list[Tensor]
    image_ids: list[Tensor]
    image_keys: list[Tensor]
    text: list[Tensor]
    text_ids: list[Tensor]
    caption_text_ids: list[Tensor]
    caption_image_ids: list[Tensor]

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10),
        ties: str = "expected",
        queries: str = "every",
        **kwargs: Any,  # noqa: ANN401 - torchmetrics' own
    ) -> None:
        super().__init__(**kwargs)
        self.ks, self.ties, self.queries = check_protocol(ks, ties, queries), ties, queries
        for name in ("image", "image_ids", "image_keys", "text", "text_ids", "caption_text_ids", "caption_image_ids"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        *,
        image: Tensor,
        image_ids: Tensor,
        text: Tensor,
        text_ids: Tensor,
        caption_text_ids: Tensor,
        caption_image_ids: Tensor,
        image_keys: Tensor | None = None,
    ) -> None:
        """Add a batch: tensors, or what becomes one, such as arrays; ids are integers.

        Args:
            image: ``(N, d)`` embeddings, of the width of the batches before.
            image_ids: ``(N,)`` distinct for distinct images.
            text: ``(T, d)`` embeddings of distinct texts that were not added before.
            text_ids: ``(T,)``.
            caption_text_ids: ``(M,)`` text id of every caption.
            caption_image_ids: ``(M,)`` id of the image that each caption describes.
            image_keys: ``(N,)`` int64, equal for images of equal pixels (:func:`rsretrieval.images.image_keys`); None
                where all differ.

        Raises:
            TypeError: for embeddings that are no numbers, and ids that are no integers.
            ValueError: if widths differ, or a tensor of ids has another length than what it identifies.
        """
        ids = {
            "image_ids": image_ids,
            "image_keys": image_ids if image_keys is None else image_keys,
            "text_ids": text_ids,
            "caption_text_ids": caption_text_ids,
            "caption_image_ids": caption_image_ids,
        }
        batch = dict(zip(("image", "text"), matching(image=image, text=text), strict=True))
        batch |= {name: integers(name, values) for name, values in ids.items()}
        for ids_of, name in (
            ("image", "image_ids"),
            ("image", "image_keys"),
            ("text", "text_ids"),
            ("caption_text_ids", "caption_image_ids"),
        ):
            rows, shape = batch[ids_of].shape, batch[name].shape
            if shape != rows[:1]:
                raise ValueError(f"{ids_of} {tuple(rows)} and {name} {tuple(shape)} do not match: give an id for each")
        if len(self.image) and self.image[0].shape[-1] != batch["image"].shape[1]:
            raise ValueError(
                f"this batch's embeddings have a width of {batch['image'].shape[1]}, those before of "
                f"{self.image[0].shape[-1]}: reset the metric before another model's"
            )
        for name, values in batch.items():
            getattr(self, name).append(values.float() if name in ("image", "text") else values)

    def merged(self) -> SplitEmbeddings:
        """Everything added so far, each image and each text once; equal images have the embedding of the first.

        Raises:
            ValueError: if nothing was added, or a caption belongs to a text or an image that was not.
        """
        if not len(self.image):
            raise ValueError("there are no embeddings to compare: give one batch or more to update before")
        image_ids, image_rows = _first_occurrences(dim_zero_cat(self.image_ids))
        keys = dim_zero_cat(self.image_keys)[image_rows]
        distinct, first_of_key = _first_occurrences(keys)
        image_rows = image_rows[first_of_key[torch.searchsorted(distinct, keys)]]
        text_ids, text_rows = _first_occurrences(dim_zero_cat(self.text_ids))
        return SplitEmbeddings(
            image=dim_zero_cat(self.image)[image_rows],
            image_ids=image_ids,
            text=dim_zero_cat(self.text)[text_rows],
            caption_rows=_rows_of(dim_zero_cat(self.caption_text_ids), text_ids, "text"),
            owners=_rows_of(dim_zero_cat(self.caption_image_ids), image_ids, "image"),
        )

    def compute(self) -> dict[str, float]:
        """The figures in percent; see :func:`rsretrieval.metrics.retrieval_recall`."""
        split = self.merged()
        return retrieval_recall(
            image=split.image,
            text=split.text[split.caption_rows],
            owners=split.owners,
            ks=self.ks,
            ties=self.ties,
            queries=self.queries,
            text_ids=split.caption_rows,
        )

    def hubness_corrected(self, config: HubnessConfig, bank: tuple[Tensor, Tensor] | None = None) -> dict[str, float]:
        """The same on scores corrected for hubs.

        Args:
            config: the method.
            bank: image queries and text queries; see :func:`rsretrieval.metrics.hubness_corrected_recall`.
        """
        return hubness_corrected_recall(
            **self.whole().asked(self.queries), config=config, bank=bank, ks=self.ks, ties=self.ties
        )

    def whole(self) -> SplitEmbeddings:
        """What all processes added, see :meth:`merged`; every process is to call it."""
        with self.sync_context():
            return self.merged()


def _first_occurrences(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids in ascending order and the index of each one's first occurrence."""
    distinct, inverse = ids.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    index = torch.full_like(distinct, len(ids))
    return distinct, index.scatter_reduce(0, inverse, torch.arange(len(ids), device=ids.device), "amin")


def _rows_of(ids: Tensor, ascending: Tensor, kind: str) -> Tensor:
    """Position of each id in ``ascending``."""
    rows = torch.searchsorted(ascending, ids.contiguous())
    unknown = ids[ascending[rows.clamp(max=len(ascending) - 1)] != ids] if len(ascending) else ids
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} of {len(ids)} captions belong to {kind} ids that were not added, such as "
            f"{int(unknown[0])}: give every {kind} to update once"
        )
    return rows
