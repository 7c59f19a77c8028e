"""The exact answers to queries, block by block."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.index.base import Keys, Vectors

TIED = 1e-6
"""Cosines that differ by no more may be one: what float32 leaves of a sum, added up in another order."""

SLACK = 16
"""Answers beyond the last that are looked at first, to see whether it ties with others."""


def cosines(query: Vectors, vectors: Vectors) -> Vectors:
    """``(n,)`` of a query ``(d,)`` and vectors ``(n, d)``; equal vectors have equal ones, to the last bit.

    A product of matrices adds up in another order at its edges, so that equal vectors would not tie.
    """
    return np.asarray(np.einsum("nd,d->n", vectors, query), np.float32)


def border(scores: NDArray[np.float32], k: int) -> float:
    """What a score must reach to be among the ``k`` best of ``(n,)`` by a sum in another order."""
    return -np.inf if len(scores) <= k else float(np.partition(scores, len(scores) - k)[len(scores) - k]) - TIED


def settled(scores: NDArray[np.float32], k: int) -> bool:
    """Whether none beyond ``(n,)`` found scores, ``n > k``, can be equal to the ``k``-th best of them."""
    return bool(scores.min() < border(scores, k))


def ranked(scores: NDArray[np.float32], keys: Keys, k: int) -> tuple[NDArray[np.float32], Keys]:
    """The best ``k`` of ``(n,)`` or fewer, descending, of equal scores the smaller key first."""
    order = np.lexsort((keys, -scores))[:k]
    return scores[order], keys[order]


def filled(answers: Iterable[tuple[NDArray[np.float32], Keys]], k: int) -> tuple[Vectors, Keys]:
    """Answers of queries as ``(Q, k)``, filled up by ``-inf`` and -1."""
    pairs = list(answers)
    scores, names = np.full((len(pairs), k), -np.inf, np.float32), np.full((len(pairs), k), -1, np.int64)
    for row, (best, keys) in enumerate(pairs):
        scores[row, : len(best)], names[row, : len(best)] = best, keys
    return scores, names


def search_blocks(blocks: Iterable[tuple[Keys, Vectors]], queries: Vectors, k: int) -> tuple[Vectors, Keys]:
    """The exact answers, of which never more than a block is in memory.

    Args:
        blocks: keys ``(n,)`` and vectors ``(n, d)``.
        queries: ``(Q, d)``.
        k: answers to each.

    Returns:
        As :meth:`rsretrieval.archive.index.VectorIndex.search`.
    """
    best = [(np.zeros(0, np.float32), np.zeros(0, np.int64))] * len(queries)
    for keys, vectors in blocks:
        for row, rough in enumerate(queries @ vectors.T):
            near = np.flatnonzero(rough >= border(rough, k))
            scores, names = best[row]
            scores = np.append(scores, cosines(queries[row], vectors[near]))
            best[row] = ranked(scores, np.append(names, keys[near]), k)
    return filled(best, k)
