"""What is measured of an archive's embeddings and of its index."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.index.base import Keys, VectorIndex, Vectors
from rsretrieval.archive.index.exact import TIED
from rsretrieval.archive.index.lookup import Lookup

AT = 10


class Moments:
    """Mean and covariance of vectors that come in pieces.

    The mean of a query's cosines over all of them is then ``q·mean``, their variance ``qᵀ·covariance·q``.
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._origin = np.zeros(width, np.float32)  # near the mean: the variance is no small rest of large numbers
        self._sum, self._squares = np.zeros(width), np.zeros((width, width))

    def add(self, vectors: Vectors) -> None:
        """Take ``(n, d)``."""
        if not self._count and len(vectors):
            self._origin = vectors.mean(0)
        centred = vectors - self._origin
        self._count += len(vectors)
        self._sum += centred.sum(0, dtype=np.float64)
        self._squares += centred.T @ centred

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean ``(d,)`` and covariance ``(d, d)``, over ``n`` and not ``n - 1``."""
        mean = self._sum / self._count
        return self._origin + mean, self._squares / self._count - np.outer(mean, mean)


def sample_rows(count: int, size: int, seed: int) -> NDArray[np.int64]:
    """Numbers of ``size`` of ``count`` rows, chosen by chance, ascending; all if there are fewer."""
    return np.sort(np.random.default_rng(seed).choice(count, min(size, count), replace=False))


def recall(index: VectorIndex, queries: Vectors, pieces: Iterable[tuple[Keys, Vectors]]) -> float:
    """Share of the ten best answers that an index finds; of all answers where there are fewer rows.

    An answer is right if its cosine reaches the tenth best less 1e-6, so that of equal ones any will do.

    Args:
        index: with all rows.
        queries: ``(Q, d)``.
        pieces: keys and vectors of all rows, as they are in the archive; they are compared block by block.
    """
    _, answers = index.search(queries, AT)
    reached = np.full(answers.shape, -np.inf, np.float32)
    best = np.zeros((len(queries), 0), np.float32)
    for keys, vectors in pieces:
        scores = np.asarray(queries @ vectors.T, np.float32)
        places = Lookup(keys)(answers)
        rows, columns = np.nonzero(places >= 0)
        reached[rows, columns] = scores[rows, places[rows, columns]]
        best = np.hstack([best, scores])
        best = -np.partition(-best, AT - 1, axis=1)[:, :AT] if best.shape[1] > AT else best
    reached[_repeated(answers)] = -np.inf
    right = reached >= best.min(axis=1, keepdims=True) - TIED
    return float(right.sum() / best.size)


def _repeated(answers: Keys) -> NDArray[np.bool_]:
    """Which answers ``(Q, k)`` a query had before."""
    order = np.argsort(answers, axis=1, kind="stable")
    ordered = np.take_along_axis(answers, order, 1)
    repeated = np.zeros(answers.shape, np.bool_)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return repeated
