"""What was retrieved for some queries of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.data.table import Table
from rsretrieval.metrics import SplitEmbeddings
from rsretrieval.metrics.functional import ranks_of_pairs

RESULTS = 5
"""Results of a query."""


class Result(NamedTuple):
    """A result of a query.

    Attributes:
        item: row of the split of an image, or a distinct caption.
        right: whether it belongs to the query.
    """

    item: int | str
    right: bool


class Answer(NamedTuple):
    """A query and its results.

    Attributes:
        row: of the split, of the query's image.
        text: the query; None where it is the image.
        results: the best first.
        place: of the first right result among all, from 1, on average over ties; None where nobody asked.
    """

    row: int
    text: str | None
    results: list[Result]
    place: float | None = None


def answers(
    table: Table, embeddings: SplitEmbeddings, queries: int, *, worst: bool = False
) -> tuple[list[Answer], list[Answer]]:
    """Queries by text with their best images, and queries by image with their best distinct captions.

    Args:
        table: the captions of the split.
        embeddings: of it.
        queries: of each kind, evenly spaced over the images.
        worst: those whose first right result comes last instead, the worst first.
    """
    embeddings = SplitEmbeddings(*(field.cpu() for field in embeddings))
    texts = caption_texts(table, embeddings)
    if worst:
        places = first_places(embeddings)
        text_rows, image_rows = (of.argsort(descending=True, stable=True)[:queries] for of in places)
        by_text, by_image = _by_text(texts, embeddings, text_rows), _by_image(texts, embeddings, image_rows)
        return (
            [answer._replace(place=float(places[0][row])) for row, answer in zip(text_rows, by_text, strict=True)],
            [answer._replace(place=float(places[1][row])) for row, answer in zip(image_rows, by_image, strict=True)],
        )
    image_rows = torch.linspace(0, len(embeddings.image) - 1, queries).long().unique()  # type: ignore[no-untyped-call]
    first_captions = [int((embeddings.owners == row).nonzero()[0, 0]) for row in image_rows]
    text_rows = embeddings.caption_rows[torch.tensor(first_captions)]
    return list(_by_text(texts, embeddings, text_rows)), list(_by_image(texts, embeddings, image_rows))


def first_places(embeddings: SplitEmbeddings) -> tuple[Tensor, Tensor]:
    """Place of the first right result of each distinct text ``(T,)`` and of each image ``(N,)``, from 1, float64.

    Right is every image that has the text. Where it ties with others, the place is the mean over their orders.
    """
    once = torch.unique(torch.stack([embeddings.caption_rows, embeddings.owners]), dim=1)  # an image may repeat a text
    ranks = ranks_of_pairs(embeddings.image, embeddings.text, once[0], once[1])
    by_text, by_image = (1 + above + foreign / (own + 1.0) for above, foreign, own in (ranks["t2i"], ranks["i2t"]))
    return by_text.double(), by_image.double()


def caption_texts(table: Table, embeddings: SplitEmbeddings) -> list[str]:
    """Each distinct text of the split's embeddings, in their order."""
    texts, used = [""] * len(embeddings.text), [0] * len(embeddings.image)
    ids = embeddings.image_ids.tolist()
    for row, owner in zip(embeddings.caption_rows.tolist(), embeddings.owners.tolist(), strict=True):
        texts[row] = table.captions[ids[owner]][used[owner]]
        used[owner] += 1
    return texts


def _best(gallery: Tensor, query: Tensor) -> list[int]:
    best: list[int] = (gallery @ query).topk(min(RESULTS, len(gallery))).indices.tolist()
    return best


def _by_text(texts: list[str], embeddings: SplitEmbeddings, rows: Tensor) -> Iterator[Answer]:
    ids = embeddings.image_ids.tolist()
    for row in rows.tolist():
        owners: list[int] = embeddings.owners[embeddings.caption_rows == row].tolist()
        hits = _best(embeddings.image, embeddings.text[row])
        yield Answer(ids[owners[0]], texts[row], [Result(ids[hit], hit in owners) for hit in hits])


def _by_image(texts: list[str], embeddings: SplitEmbeddings, rows: Tensor) -> Iterator[Answer]:
    ids = embeddings.image_ids.tolist()
    for row in rows.tolist():
        own: list[int] = embeddings.caption_rows[embeddings.owners == row].tolist()
        hits = _best(embeddings.text, embeddings.image[row])
        yield Answer(ids[row], None, [Result(texts[hit], hit in own) for hit in hits])
