"""Zero-shot classification (Radford et al., ICML 2021): an image is of the class whose text is nearest to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rsretrieval.data.datasets.base import DataError
from rsretrieval.data.pictures import LabelledRows
from rsretrieval.metrics.classification import Accuracy, accuracy, confusion_matrix


class Encoder(Protocol):
    """What embeds pictures and texts, as :class:`rsretrieval.Retriever` does."""

    def encode_images(self, images: Iterable[Any], /) -> Tensor:
        """Pictures to ``(N, d)`` L2-normalised."""

    def encode_texts(self, texts: Iterable[str], /, *, templates: Sequence[str] | None) -> Tensor:
        """Texts to ``(M, d)`` L2-normalised, the mean over templates."""


@dataclass(frozen=True)
class Classification:
    """Images and what they were taken for.

    Attributes:
        texts: class to the text that it was told by; the order of the classes.
        names: of the images that could be read.
        labels: ``(N,)`` class of each, an index into ``texts``.
        predicted: ``(N,)``.
        cosines: ``(N,)`` of the predicted class's text.
        broken: how many images could not be read.
        without: how many have no label.
    """

    texts: dict[str, str]
    names: list[str]
    labels: Tensor
    predicted: Tensor
    cosines: Tensor
    broken: int
    without: int

    @property
    def confusion(self) -> Tensor:
        """See :func:`rsretrieval.metrics.classification.confusion_matrix`."""
        return confusion_matrix(self.labels, self.predicted, len(self.texts))

    @property
    def accuracy(self) -> Accuracy:
        """See :func:`rsretrieval.metrics.classification.accuracy`."""
        return accuracy(self.confusion)


def classify(
    encoder: Encoder,
    pictures: Iterable[tuple[int, Any]],
    labelled: LabelledRows,
    texts: Mapping[str, str],
    templates: Sequence[str],
    batch_size: int = 64,
) -> Classification:
    """Classify pictures as they come; of each no more stays than its class.

    Args:
        encoder: of pictures and texts.
        pictures: row and picture; of those rows that can be read.
        labelled: the rows and their labels.
        texts: class to text, for every label.
        templates: of every text; their embeddings are averaged. Without any, the text alone.
        batch_size: pictures that are embedded at once.

    Raises:
        DataError: if no picture can be read.
    """
    places = {row: place for place, row in enumerate(labelled.rows)}
    classes = encoder.encode_texts(list(texts.values()), templates=templates)
    read: list[int] = []
    best: list[tuple[Tensor, Tensor]] = []
    batch: list[Any] = []

    def embed() -> None:
        scores = encoder.encode_images(batch) @ classes.T
        best.append((scores.max(1).values, scores.argmax(1)))
        batch.clear()

    for row, picture in pictures:
        read.append(places[row])
        batch.append(picture)
        if len(batch) == batch_size:
            embed()
    if batch:
        embed()
    if not read:
        raise DataError(f"none of the {len(places)} images can be read: check the data")
    numbers = {label: number for number, label in enumerate(texts)}
    return Classification(
        texts=dict(texts),
        names=[labelled.names[place] for place in read],
        labels=torch.tensor([numbers[labelled.labels[place]] for place in read]),
        predicted=torch.cat([predicted for _, predicted in best]),
        cosines=torch.cat([cosines for cosines, _ in best]),
        broken=len(places) - len(read),
        without=labelled.without,
    )
