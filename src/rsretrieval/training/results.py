"""What was retrieved for some queries of a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.data.table import Table
from rsretrieval.metrics import SplitEmbeddings

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
    """

    row: int
    text: str | None
    results: list[Result]


def answers(table: Table, embeddings: SplitEmbeddings, queries: int) -> tuple[list[Answer], list[Answer]]:
    """Queries by text with their best images, and queries by image with their best distinct captions.

    Args:
        table: the captions of the split.
        embeddings: of it.
        queries: of each kind, evenly spaced over the images.
    """
    embeddings = SplitEmbeddings(*(field.cpu() for field in embeddings))
    spaced = torch.linspace(0, len(embeddings.image) - 1, queries).long().unique()  # type: ignore[no-untyped-call]
    rows: list[int] = spaced.tolist()
    return list(_by_text(table, embeddings, rows)), list(_by_image(table, embeddings, rows))


def _best(gallery: Tensor, query: Tensor) -> list[int]:
    best: list[int] = (gallery @ query).topk(min(RESULTS, len(gallery))).indices.tolist()
    return best


def _caption(table: Table, embeddings: SplitEmbeddings, text_row: int) -> tuple[str, set[int]]:
    """A distinct text and the rows of the images that it describes."""
    owners = embeddings.owners[embeddings.caption_rows == text_row].tolist()
    own = embeddings.caption_rows[embeddings.owners == owners[0]].tolist()
    return table.captions[int(embeddings.image_ids[owners[0]])][own.index(text_row)], set(owners)


def _by_text(table: Table, embeddings: SplitEmbeddings, rows: list[int]) -> Iterator[Answer]:
    for row in rows:
        text_row = int(embeddings.caption_rows[(embeddings.owners == row).nonzero()[0, 0]])
        text, owners = _caption(table, embeddings, text_row)
        hits = _best(embeddings.image, embeddings.text[text_row])
        results = [Result(int(embeddings.image_ids[hit]), hit in owners) for hit in hits]
        yield Answer(int(embeddings.image_ids[row]), text, results)


def _by_image(table: Table, embeddings: SplitEmbeddings, rows: list[int]) -> Iterator[Answer]:
    for row in rows:
        captions = (_caption(table, embeddings, hit) for hit in _best(embeddings.text, embeddings.image[row]))
        results = [Result(text, row in owners) for text, owners in captions]
        yield Answer(int(embeddings.image_ids[row]), None, results)
