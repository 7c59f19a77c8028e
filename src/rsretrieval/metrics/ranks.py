"""Where each query's best own item stands, in both directions, from one product of all images with all captions.

The product is made in blocks that stay in the cache. Each is counted by columns for the images and by rows for the
captions, and only where its maximum reaches the query's best own score: in most blocks nothing does. A query has to
know that score first, so that the blocks that hold own pairs are made twice; captions stand in the order of their
images, which puts these blocks on a diagonal.

Equal rows are scored once and copied, so that equal items tie to the last bit whatever the matrix product does with
their positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

_IMAGES, _TEXTS = 1024, 1024  # columns and rows of a block of scores; smaller ones cost calls, larger ones the cache


class _Piece(NamedTuple):
    """Items that the distinct rows of one block stand for.

    Attributes:
        places: of them.
        copies: ``(places,)`` row within the block of each; None where every row stands for one item.
    """

    places: slice
    copies: Tensor | None

    def of(self, scores: Tensor, axis: int) -> Tensor:
        """Scores of the items from those of the rows along ``axis``."""
        return scores if self.copies is None else scores.index_select(axis, self.copies)


class _Side(NamedTuple):
    """Embeddings of one kind, equal ones once. An item's place is its position among the items sorted by their rows.

    Attributes:
        blocks: ``(b, d)`` distinct rows each.
        pieces: the items of each block, as many at a time as a block has rows.
        row: ``(N,)`` of each item.
        place: ``(N,)`` of each item.
    """

    blocks: tuple[Tensor, ...]
    pieces: list[list[_Piece]]
    row: Tensor
    place: Tensor


def _side(rows: Tensor, row: Tensor, size: int) -> _Side:
    """Lay out distinct ``rows`` and the items, whose ``row`` is given, in blocks of ``size``."""
    sorted_row, items = row.sort()
    blocks, pieces, low = torch.split(rows, size), [], 0
    for start, count in zip(range(0, len(rows), size), torch.bincount(row // size).tolist(), strict=True):
        parts = [slice(place, min(place + size, low + count)) for place in range(low, low + count, size)]
        alone = count == len(blocks[start // size])
        pieces.append([_Piece(part, None if alone else sorted_row[part] - start) for part in parts])
        low += count
    return _Side(blocks, pieces, row, items.argsort())


def _distinct(x: Tensor) -> tuple[Tensor, Tensor]:
    """Number of each row of ``x`` among the distinct ones ``(N,)``, and a row that has it, by number ``(n,)``.

    Rows with a first coordinate that no other has need no comparison.
    """
    _, value, count = torch.unique(x[:, 0], return_inverse=True, return_counts=True)
    alone = count[value] == 1
    single, shared = alone.nonzero()[:, 0], (~alone).nonzero()[:, 0]
    number = torch.empty_like(value)
    number[single] = torch.arange(len(single), device=x.device)
    if not len(shared):
        return number, single
    rows, among = torch.unique(x[shared], dim=0, return_inverse=True)
    number[shared] = len(single) + among
    return number, torch.cat([single, shared.new_empty(len(rows)).scatter(0, among, shared)])


def _sides(image: Tensor, text: Tensor, captions: Tensor, images: Tensor) -> tuple[_Side, _Side]:
    """Images in any order, and captions in that of their images, those of several at the end."""
    (image_row, an_image), (text_row, a_text) = _distinct(image), _distinct(text)
    pair_row = text_row[captions]
    owner = pair_row.new_zeros(len(a_text)).scatter(0, pair_row, image_row[images])
    owner[torch.bincount(pair_row, minlength=len(owner)) > 1] = len(an_image)
    order = owner.argsort()
    return (
        _side(image[an_image], image_row, _IMAGES),
        _side(text[a_text[order]], order.argsort()[text_row], _TEXTS),
    )


class _Scores:
    """Scores of the blocks of both sides, ``(texts, images)``, the same to the last bit each time; in one buffer."""

    def __init__(self, image: _Side, text: _Side) -> None:
        self.image, self.text = image, text
        self.buffer = image.blocks[0].new_empty(len(image.blocks[0]) * len(text.blocks[0]))

    def block(self, row: int, column: int) -> Tensor:
        """Scores of a block of distinct captions with one of distinct images."""
        texts, images = self.text.blocks[row], self.image.blocks[column]
        shape = texts.shape[0], images.shape[0]
        return torch.mm(texts, images.T, out=self.buffer[: shape[0] * shape[1]].view(shape))

    def of_pairs(self, captions: Tensor, images: Tensor) -> Tensor:
        """``(P,)`` scores of single pairs of items."""
        columns = len(self.image.blocks)
        row, column = self.text.row[captions], self.image.row[images]
        block, pairs = (row // _TEXTS * columns + column // _IMAGES).sort()
        numbers, counts = torch.unique_consecutive(block, return_counts=True)
        scores = self.buffer.new_empty(len(pairs))
        for number, within in zip(numbers.tolist(), torch.split(pairs, counts.tolist()), strict=True):
            scores[within] = self.block(*divmod(number, columns))[row[within] % _TEXTS, column[within] % _IMAGES]
        return scores

    def of_items(self) -> Iterator[tuple[Tensor, slice, slice]]:
        """Scores of all captions with all images, with the places of both."""
        for row, column in product(range(len(self.text.blocks)), range(len(self.image.blocks))):
            block = self.block(row, column)
            for texts, images in product(self.text.pieces[row], self.image.pieces[column]):
                yield images.of(texts.of(block, 0), 1), texts.places, images.places


class _Queries:
    """Queries of one kind, by place, and what is counted for them.

    Args:
        place: ``(Q,)`` of each.
        at: ``(P,)`` place of the query of each relevant pair.
        scores: ``(P,)`` of the pairs.
    """

    def __init__(self, place: Tensor, at: Tensor, scores: Tensor) -> None:
        self.place = place
        self.best = scores.new_full(place.shape, -torch.inf).scatter_reduce(0, at, scores, "amax")
        self.own = torch.zeros_like(place).index_add(0, at, (scores == self.best[at]).long())
        self.counts = place.new_zeros(2, len(place))  # above and at the best own score

    def count(self, scores: Tensor, axis: int, places: slice, enough: int | None) -> None:
        """Count a block of scores for the queries along an ``axis``, and no further for those with ``enough`` above.

        A comparison is written as numbers of the scores' type, whose sum is several times faster than that of bool,
        and exact up to 2 ** 24 items, more than a block has.
        """
        best, across = self.best[places], 1 - axis
        reached = (~(scores.amax(across) < best)).nonzero().view(-1)
        scores, limit = scores.index_select(axis, reached), best.index_select(0, reached).unsqueeze(across)
        greater = torch.gt(scores, limit, out=torch.empty_like(scores)).sum(across)
        tied = scores.eq_(limit).sum(across)
        counts = self.counts[:, places].index_add_(1, reached, torch.stack([greater, tied]).long())
        if enough is not None:
            best.masked_fill_(counts[0] >= enough, torch.inf)

    def ranks(self) -> tuple[Tensor, Tensor, Tensor]:
        """Above, tied foreign and tied own, of each query; on the CPU, as float64 comes next, which MPS has not."""
        greater, tied = self.counts
        foreign = (tied - self.own).clamp(min=0)  # below 0 where the count ended before the own items
        greater, foreign, own = torch.stack([greater, foreign, self.own])[:, self.place].cpu()
        return greater, foreign, own


def count_ranks(
    image: Tensor, text: Tensor, captions: Tensor, images: Tensor, enough: int | None = None
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Counts above, tied foreign and tied own of each query's best own item, on the CPU.

    Args:
        image: ``(N, d)`` float32 or float64, finite.
        text: ``(Q, d)`` of the same type.
        captions: ``(P,)`` row of ``text`` of each relevant pair.
        images: ``(P,)`` row of ``image`` of each relevant pair.
        enough: for a query with so many items above, the counts may be lower than they are, but of those above no lower
            than this; None for exact counts throughout.

    Returns:
        ``i2t`` and ``t2i`` to int64 counts, ``(N,)`` and ``(Q,)``.
    """
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        image_side, text_side = _sides(image, text, captions, images)
        scores = _Scores(image_side, text_side)
        own_scores = scores.of_pairs(captions, images)
        image_queries = _Queries(image_side.place, image_side.place[images], own_scores)
        text_queries = _Queries(text_side.place, text_side.place[captions], own_scores)
        for block, texts, columns in scores.of_items():
            text_queries.count(block, 0, texts, enough)
            image_queries.count(block, 1, columns, enough)
        return {"i2t": image_queries.ranks(), "t2i": text_queries.ranks()}
