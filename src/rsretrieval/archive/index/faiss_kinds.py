"""Indexes in memory, by FAISS: ``flat`` compares with every vector, ``hnsw`` walks a graph of neighbours.

https://github.com/facebookresearch/faiss; Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
using Hierarchical Navigable Small World graphs", 2018. Both number vectors from 0; a file beside says which key has
which number. FAISS and torch each bring an OpenMP to macOS, and the process may abort where both are loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.archive.index.base import Keys, Options, VectorIndex, Vectors, register_index
from rsretrieval.archive.index.exact import SLACK, cosines, filled, ranked, search_blocks, settled
from rsretrieval.archive.index.lookup import Lookup
from rsretrieval.embeddings import ArchiveError
from rsretrieval.lazy import needs

VECTORS, KEYS = "vectors.faiss", "keys.npy"
BLOCK = 8192
Mask = NDArray[np.bool_]


class FaissIndex(VectorIndex):
    """What both kinds share.

    Args:
        vectors: FAISS's index.
        numbered: ``(n,)`` key of each of its vectors; -1 for what is removed and still in it.
        options: of the kind.
    """

    def __init__(self, vectors: Any, numbered: Keys, options: Options) -> None:  # noqa: ANN401 - FAISS has no types
        self._faiss, self._vectors, self._options = needs("faiss", "archive"), vectors, options
        self._set(numbered)

    def _set(self, numbered: Keys) -> None:
        self._parts, self._lookup = [numbered], Lookup(numbered)
        self._removed = int((numbered < 0).sum())

    def _join(self) -> None:
        if len(self._parts) > 1:
            self._set(np.concatenate(self._parts))

    @property
    def _numbered(self) -> Keys:
        self._join()
        return self._parts[0]

    @classmethod
    def build(cls, folder: Path, width: int, options: Options) -> Self:  # noqa: D102
        return cls(cls._empty(width, options), np.zeros(0, np.int64), options)

    @classmethod
    @abstractmethod
    def _empty(cls, width: int, options: Options) -> Any:  # noqa: ANN401
        """An index of FAISS."""

    @abstractmethod
    def _near(self, queries: Vectors, k: int, mask: Mask | None) -> tuple[Vectors, Keys]:
        """Scores and numbers ``(Q, k)`` of what the index finds among the vectors of a mask; -1 for nothing."""

    @classmethod
    def open(cls, folder: Path, options: Options, *, to_change: bool = False) -> Self:  # noqa: D102
        faiss = needs("faiss", "archive")
        try:
            vectors = faiss.read_index(str(folder / VECTORS), 0 if to_change else faiss.IO_FLAG_MMAP_IFC)
            numbered = np.load(folder / KEYS)
        except (RuntimeError, OSError, ValueError) as error:
            raise ArchiveError(f"the index in '{folder}' cannot be read ({error})") from error
        if vectors.ntotal != len(numbered):
            raise ArchiveError(f"the index in '{folder}' has {vectors.ntotal} vectors and {len(numbered)} keys")
        return cls(vectors, numbered, options)

    @property
    def keys(self) -> Keys:  # noqa: D102
        return self._numbered[self._numbered >= 0]

    def _numbers(self, keys: Keys) -> Keys:
        self._join()
        return self._lookup.all(np.asarray(keys, np.int64))

    def vectors(self, keys: Keys) -> Vectors:  # noqa: D102
        return self._at(self._numbers(keys))

    def _at(self, numbers: Keys) -> Vectors:
        if not len(numbers):
            return np.zeros((0, self._vectors.d), np.float32)
        return np.asarray(self._vectors.reconstruct_batch(numbers), np.float32)

    def add(self, keys: Keys, vectors: Vectors, information: pa.Table) -> None:  # noqa: D102
        if len(keys):
            self._vectors.add(np.ascontiguousarray(vectors, np.float32))
            self._parts.append(np.asarray(keys, np.int64))

    def save(self, folder: Path) -> None:  # noqa: D102
        try:
            self._faiss.write_index(self._vectors, str(folder / VECTORS))
        except RuntimeError as error:
            raise OSError(f"'{folder / VECTORS}' cannot be written ({error})") from error
        np.save(folder / KEYS, self._numbered)

    def search(  # noqa: D102
        self, queries: Vectors, k: int, allowed: Keys | None = None, where: str | None = None
    ) -> tuple[Vectors, Keys]:
        if where is not None:
            raise ArchiveError("an index of this kind takes keys that are allowed, and no condition in SQL")
        mask, count = self._mask(allowed)
        if not count:
            return filled([(np.zeros(0, np.float32), np.zeros(0, np.int64))] * len(queries), k)
        return self._search(np.ascontiguousarray(queries, np.float32), k, mask, count)

    @abstractmethod
    def _search(self, queries: Vectors, k: int, mask: Mask | None, count: int) -> tuple[Vectors, Keys]:
        """Answers among the ``count`` vectors of a mask, 1 or more."""

    def _mask(self, allowed: Keys | None) -> tuple[Mask | None, int]:
        """Which vectors may be answers, and how many; None for all."""
        if allowed is None and not self._removed:
            return None, len(self._numbered)
        mask = self._numbered >= 0
        if allowed is not None:
            numbers = self._lookup(np.asarray(allowed, np.int64))
            mask = np.zeros(len(mask), np.bool_)
            mask[numbers[numbers >= 0]] = True
        count = int(mask.sum())
        return (None if count == len(mask) else mask), count

    def _selector(self, mask: Mask) -> Any:  # noqa: ANN401
        return self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    def _ranked(self, queries: Vectors, numbers: Keys, k: int) -> tuple[Vectors, Keys]:
        """The best of the vectors ``(Q, n)`` that were found."""
        answers = []
        for query, row in zip(queries, numbers, strict=True):
            near = row[row >= 0]
            answers.append(ranked(cosines(query, self._at(near)), self._numbered[near], k))
        return filled(answers, k)


@register_index("flat")
class Flat(FaissIndex):
    """Every vector in float32, compared with every query; memory-mapped."""

    exact = True

    @classmethod
    def _empty(cls, width: int, options: Options) -> Any:  # noqa: ANN401
        return needs("faiss", "archive").IndexFlatIP(width)

    def _near(self, queries: Vectors, k: int, mask: Mask | None) -> tuple[Vectors, Keys]:
        parameters = None if mask is None else self._faiss.SearchParameters(sel=self._selector(mask))
        return self._vectors.search(queries, k, params=parameters)  # type: ignore[no-any-return]

    def _search(self, queries: Vectors, k: int, mask: Mask | None, count: int) -> tuple[Vectors, Keys]:
        slack = SLACK
        while True:
            scores, numbers = self._near(queries, min(count, k + slack), mask)
            if k + slack >= count or all(settled(row, k) for row in scores):
                return self._ranked(queries, numbers, k)
            slack *= 4

    def remove(self, keys: Keys) -> None:  # noqa: D102
        numbers = self._numbers(keys)
        if len(numbers):
            self._vectors.remove_ids(numbers)
            self._set(np.delete(self._numbered, numbers))


@register_index("hnsw")
class HNSW(FaissIndex):
    """A graph of neighbours over vectors in float16.

    What is removed stays as a step on the way and is never an answer; the graph is built anew once that is more than a
    fifth. Where a filter leaves under a tenth, or the walk finds too few, what is left is compared one by one.

    Options:
        m: neighbours of a vector in the graph; twice as many on its ground.
        ef_construction: vectors that are kept in view while one is put in.
        ef_search: vectors that are kept in view on the way of a query; it can be changed without building anew.
    """

    exact = False
    options = {"m": 32, "ef_construction": 200, "ef_search": 128}  # noqa: RUF012 - never written to
    options_of_search = ("ef_search",)

    @classmethod
    def _empty(cls, width: int, options: Options) -> Any:  # noqa: ANN401
        faiss = needs("faiss", "archive")
        if options["m"] < 2:
            raise ArchiveError(f"the option m is {options['m']}: give 2 neighbours or more")  # FAISS dies of one
        kind, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexHNSWSQ(width, kind, options["m"], metric)
        index.hnsw.efConstruction = options["ef_construction"]
        return index

    def _near(self, queries: Vectors, k: int, mask: Mask | None, share: float = 1) -> tuple[Vectors, Keys]:
        selector = None if mask is None else self._selector(mask)
        wide = int(max(self._options["ef_search"], k) / share)
        parameters = self._faiss.SearchParametersHNSW(sel=selector, efSearch=wide)
        return self._vectors.search(queries, k, params=parameters)  # type: ignore[no-any-return]

    def _search(self, queries: Vectors, k: int, mask: Mask | None, count: int) -> tuple[Vectors, Keys]:
        share, total = count / len(self._numbered), min(k, count)
        if share < 0.1 or 2 * k > count:
            return search_blocks(self._blocks(mask), queries, k)
        _, numbers = self._near(queries, min(count, k + SLACK), mask, share)
        scores, keys = self._ranked(queries, numbers, k)
        lacking = np.flatnonzero((keys >= 0).sum(1) < total)  # parts of a graph can be out of reach
        if len(lacking):
            scores[lacking], keys[lacking] = search_blocks(self._blocks(mask), queries[lacking], k)
        return scores, keys

    def _blocks(self, mask: Mask | None) -> Iterator[tuple[Keys, Vectors]]:
        numbers = np.arange(len(self._numbered)) if mask is None else np.flatnonzero(mask)
        for start in range(0, len(numbers), BLOCK):
            part = numbers[start : start + BLOCK]
            yield self._numbered[part], self._at(part)

    def remove(self, keys: Keys) -> None:  # noqa: D102
        numbered = self._numbered.copy()
        numbered[self._numbers(keys)] = -1
        self._set(numbered)

    def worn(self) -> str:  # noqa: D102
        return "more than a fifth of it is removed rows" if 5 * self._removed > len(self._numbered) else ""
