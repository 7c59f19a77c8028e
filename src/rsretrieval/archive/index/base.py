"""What every index of an archive's embeddings can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.registry import Registry

Keys = NDArray[np.int64]
Vectors = NDArray[np.float32]
Options = Mapping[str, Any]


class VectorIndex(ABC):
    """Vectors by key, searched by cosine.

    A key is a number from 0 (:func:`rsretrieval.embeddings.rows.keys`); vectors are L2-normalised.

    Attributes:
        exact: whether its answers are always those of comparing with every vector.
        filters_natively: whether :meth:`search` takes ``where``; else it raises ArchiveError for one.
        options: its settings and their defaults; with any other it is built anew.
        options_of_search: those among them that need no other index.
    """

    exact: ClassVar[bool]
    filters_natively: ClassVar[bool] = False
    options: ClassVar[Options] = {}
    options_of_search: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def build(cls, folder: Path, width: int, options: Options) -> Self:
        """An empty index.

        Args:
            folder: of this kind in the archive, for what is too large for memory.
            width: numbers of a vector.
            options: all of them.
        """

    @classmethod
    @abstractmethod
    def open(cls, folder: Path, options: Options, *, to_change: bool = False) -> Self:
        """What :meth:`save` wrote to a folder; memory-mapped where that can be, unless it is to be changed.

        Raises:
            ArchiveError: if it is damaged.
        """

    @property
    @abstractmethod
    def keys(self) -> Keys:
        """``(n,)`` that it has, in any order."""

    def __len__(self) -> int:
        return len(self.keys)

    @abstractmethod
    def search(
        self, queries: Vectors, k: int, allowed: Keys | None = None, where: str | None = None
    ) -> tuple[Vectors, Keys]:
        """The ``k`` best answers to each query; of equal scores the smaller key first.

        Args:
            queries: ``(Q, d)``, L2-normalised.
            k: 1 or more.
            allowed: ``(a,)`` keys that an answer may have, in any order; those it does not know are passed over. None
                for all.
            where: a condition in SQL over ``id, source, datetime, datetime_origin, west, south, east, north`` (degrees;
                null without a place), ``width, height`` (pixels), for kinds that filter natively; applied before the
                search, and together with ``allowed``. A kind has a dialect of its own: lancedb compares dates with
                ``date '2024-01-31'`` and not with a text.

        Returns:
            Cosines ``(Q, k)``, descending, and keys ``(Q, k)``; where there are fewer than ``k``, ``-inf`` and -1.
        """

    @abstractmethod
    def vectors(self, keys: Keys) -> Vectors:
        """``(n, d)`` of keys, as this kind stores them.

        Raises:
            KeyError: naming one that it does not have.
        """

    def outdated(self, keys: Keys, information: pa.Table) -> NDArray[np.bool_]:
        """``(n,)`` which rows it has with other information than this, for kinds that keep it."""
        return np.zeros(len(keys), np.bool_)

    @abstractmethod
    def add(self, keys: Keys, vectors: Vectors, information: pa.Table) -> None:
        """Take rows that it does not have; ``information`` is their other columns."""

    @abstractmethod
    def remove(self, keys: Keys) -> None:
        """Forget rows that it has."""

    def worn(self) -> str:
        """Why it should be built anew, in words; empty if it need not."""
        return ""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write it to a fresh folder."""

    def tidy(self) -> None:  # noqa: B027 - most have nothing to do
        """Delete what no saved index needs any more, once the archive names this one."""

    def bytes_elsewhere(self) -> int:
        """What it takes on disk outside of the folder of :meth:`save`."""
        return 0


INDEX_KINDS = Registry[type[VectorIndex]]("kind of index")
"""Kinds by name; those that come with the package are in ``rsretrieval.archive.index``."""
register_index = INDEX_KINDS.register
"""``@register_index("name")`` on a :class:`VectorIndex`."""
