"""From an index to the best rows in order: filters before the search, exact scores after it, near-duplicates in one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.archive.search.filters import Selection
from rsretrieval.archive.search.query import Query, Vectors
from rsretrieval.archive.search.scoring import composed, cosines, moments
from rsretrieval.embeddings import ArchiveError

if TYPE_CHECKING:
    from rsretrieval.archive.index import Index

log = logging.getLogger(__name__)
Rows = NDArray[np.int64]
BLOCK = 8192  # vectors at a time
SCANNED = 1_000_000
"""Rows of an exact index up to which scores that it does not compute itself are computed of all of them."""
FEW = 0.1
"""Fraction of the rows: a filter that keeps fewer is answered without the index, by comparing with each."""
_EQUAL = 1e-6  # of cosines, for sums in another order


@dataclass(frozen=True)
class Demand:
    """How many answers are wanted, and how they are scored.

    Attributes:
        k: answers.
        weight: of the sentence, where a picture and a sentence are composed.
        bias: ``(N,)`` of all rows, taken from their scores; None for plain scores.
        fold: cosine from which rows are near-duplicates; None to keep all.
    """

    k: int
    weight: float = 0.6
    bias: Vectors | None = None
    fold: float | None = None


@dataclass(frozen=True)
class Pool:
    """Rows that may be answers.

    Attributes:
        rows: ``(n,)``.
        scores: ``(n,)``.
        floor: a row that is not among them may have a score up to this.
        is_all: whether there are no others.
    """

    rows: Rows
    scores: NDArray[np.floating]
    floor: float
    is_all: bool

    def best(self, count: int, ids: pa.ChunkedArray) -> tuple[Rows, NDArray[np.floating]]:
        """The best ``count`` in order and those that tie with the last; of equal scores the smaller id first."""
        floor = self.floor
        if len(self.scores) > count:
            floor = max(floor, float(np.partition(self.scores, -count)[-count]))
        kept = np.flatnonzero(self.scores >= floor)
        names = np.asarray(ids.take(pa.array(self.rows[kept])).to_pylist(), object)
        kept = kept[np.lexsort((np.argsort(np.argsort(names, kind="stable")), -self.scores[kept]))]
        return self.rows[kept], self.scores[kept]


class Ranking:
    """The best rows of an archive for a query.

    Args:
        index: of the archive.
        ids: ``(N,)`` of all rows.
    """

    def __init__(self, index: Index, ids: pa.ChunkedArray) -> None:
        self.index, self.ids = index, ids

    def __call__(
        self, query: Query, demand: Demand, selection: Selection
    ) -> tuple[list[list[int]], NDArray[np.floating]]:
        """Up to ``demand.k`` groups of rows, the best first, each with its near-duplicates behind it; the scores.

        Without folding a group is one row. With it near-duplicates are those before the next group would begin.
        """
        total = len(self.ids) if selection.rows is None else len(selection.rows)
        own = query.kind != "both" and demand.bias is None  # the index's order is that of the scores
        count = 2 * demand.k + 16
        wanted = count if own else max(1000, 50 * demand.k)
        pool = None
        while True:
            if pool is None or not pool.is_all:
                pool = self._pool(query, demand, selection, wanted, own=own)
            rows, scores = pool.best(count if pool.is_all or own else len(pool.rows), self.ids)
            groups, is_more = self._groups(rows, demand)
            if (pool.is_all and len(rows) >= total) or (len(groups) == demand.k and is_more):
                best = {int(row): score for row, score in zip(rows, scores, strict=True)}
                return groups, np.array([best[group[0]] for group in groups])
            count, wanted = 4 * count, 4 * wanted

    def _groups(self, rows: Rows, demand: Demand) -> tuple[list[list[int]], bool]:
        """Groups of rows in order, and whether the last of them cannot grow by further rows."""
        if demand.fold is None:
            return [[int(row)] for row in rows[: demand.k]], True
        fold = demand.fold - _EQUAL
        return folded(
            rows, demand.k, lambda others, head: self.cosines(others, self.vectors(np.array([head])))[0] >= fold
        )

    def _pool(self, query: Query, demand: Demand, selection: Selection, wanted: int, *, own: bool) -> Pool:
        """All rows that may answer, or the best that the index finds to each of the query's vectors."""
        rows, total = selection.rows, len(self.ids)
        possible = total if rows is None else len(rows)
        scanned = self.index.index.exact and not own and total <= SCANNED
        is_all = scanned or wanted >= possible or possible < FEW * total
        floor = -np.inf
        if is_all:
            rows = np.arange(total) if rows is None else rows
        else:
            rows, floor = self._found(query.vectors, wanted, selection)
        scores: NDArray[np.floating] = self.cosines(rows, query.vectors)
        if query.kind == "both":
            scores = composed(scores, *moments(query.vectors, self.index.mean, self.index.covariance), demand.weight)
        else:
            scores = scores[0] if demand.bias is None else scores[0] - demand.bias[rows]
        return Pool(rows, scores, -np.inf if is_all or not own else floor + _EQUAL, is_all)

    def _found(self, queries: Vectors, wanted: int, selection: Selection) -> tuple[Rows, float]:
        """Rows by the index, and the lowest score among them."""
        index, rows = self.index.index, selection.rows
        if rows is None:
            return self._rows(*index.search(queries, wanted))
        if index.filters_natively:
            try:
                found, floor = self._rows(*index.search(queries, wanted, where=selection.sql))
                if len(found) >= min(wanted, len(rows)) and np.isin(found, rows).all():
                    return found, floor
                reason = "it means other rows by it"
            except ArchiveError as error:
                reason = str(error)
            log.info("the index does not filter %s itself, but is told each row: %s", selection.words, reason)
        return self._rows(*index.search(queries, wanted, allowed=self.index.keys[rows]))

    def _rows(self, scores: Vectors, keys: NDArray[np.int64]) -> tuple[Rows, float]:
        found = np.unique(self.index.rows_of(keys[keys >= 0]))
        return found[found >= 0], float(scores[keys >= 0].min(initial=np.inf))

    def cosines(self, rows: Rows, queries: Vectors) -> Vectors:
        """Of rows ``(n,)`` with queries ``(Q, d)``: ``(Q, n)``."""
        parts = [cosines(self.vectors(block), queries) for block in _blocks(rows)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(queries), 0), np.float32)

    def vectors(self, rows: Rows) -> Vectors:
        """``(n, d)`` of rows."""
        return self.index.index.vectors(self.index.keys[rows])


def folded(rows: Rows, count: int, is_near: Callable[[Rows, int], NDArray[np.bool_]]) -> tuple[list[list[int]], bool]:
    """The first groups of near-duplicates of rows in order: each row joins the first group whose head it is near to.

    Args:
        rows: in order.
        count: of groups.
        is_near: which of the rows are near to a row.

    Returns:
        The groups, each with its head first, of the rows before the one that would begin the group after them; and
        whether there is such a row.

    Example:
        >>> folded(np.array([1, 11, 2, 31, 12]), 2, lambda others, head: others % 10 == head % 10)
        ([[1, 11, 31], [2, 12]], False)
    """
    groups: list[list[int]] = []
    places = np.arange(len(rows))
    while len(places) and len(groups) < count:
        near = np.concatenate([[True], is_near(rows[places[1:]], rows[places[0]])])
        groups.append(places[near].tolist())
        places = places[~near]
    end = int(places[0]) if len(places) else len(rows)
    return [[int(rows[place]) for place in group if place < end] for group in groups], end < len(rows)


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
