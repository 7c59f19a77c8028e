"""An archive as it was when it was opened: rows, what is known of them, and the rows that answer a query."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsretrieval.archive.index import Index, open_index
from rsretrieval.archive.search.answers import answers_of
from rsretrieval.archive.search.filters import Filters, Selection, filter_columns
from rsretrieval.archive.search.model import ArchiveModel
from rsretrieval.archive.search.query import Query
from rsretrieval.archive.search.ranking import Demand, Ranking
from rsretrieval.archive.search.results import Answer, middle
from rsretrieval.archive.search.scoring import bank_of, bank_z
from rsretrieval.serve.pictures import Pictures
from rsretrieval.serve.schema import Item, Search
from rsretrieval.serve.terms import UnknownKeyError, id_of, key_of
from rsretrieval.serve.told import Told, told

Rows = NDArray[np.int64]
BLOCK = 1024
"""Rows that are compared with the bank at once."""


@dataclass(frozen=True)
class Ranked:
    """Rows in order.

    Attributes:
        rows: ``(n,)``.
        scores: ``(n,)``.
        z: ``(n,)``, not a number where it is not known.
    """

    rows: Rows
    scores: NDArray[np.floating]
    z: NDArray[np.float64]

    def __getitem__(self, part: slice | Sequence[int]) -> Ranked:
        return Ranked(self.rows[part], self.scores[part], self.z[part])


class Snapshot:
    """An archive, opened once and never changed; several threads may ask it.

    Args:
        folder: of the archive.
        index: of it.
        model: of it.
    """

    def __init__(self, folder: Path, index: Index, model: ArchiveModel) -> None:
        self.folder, self.index, self.model = folder, index, model
        self.about = index.embeddings.about
        self.information = index.embeddings.information()
        self.pictures = Pictures(folder, self.about)
        sources = pc.unique(self.information.column("source"))
        self._codes = pc.index_in(self.information.column("source"), sources).to_numpy()
        self._sources: list[str] = sources.to_pylist()
        self.told = told(self._sources, Path(os.path.normpath(folder / self.about["root"])))
        self._filters = Filters(filter_columns(self.information))
        geometry = json.loads((pq.read_schema(index.embeddings.file).metadata or {}).get(b"geo", b"{}"))
        self.bounds = geometry.get("columns", {}).get("geometry", {}).get("bbox")

    @classmethod
    def open(cls, folder: Path, model: Any = None, *, kind: str | None = None, **options: Any) -> Snapshot:  # noqa: ANN401
        """Open an archive as it is now.

        Args:
            folder: of the archive.
            model: a retriever or the name of one; None for the archive's own.
            kind: of index; None for the one that was built last.
            **options: of :meth:`rsretrieval.Retriever.from_pretrained`.

        Raises:
            ArchiveError: if there is no archive or no index, or they or the model do not go together.
        """
        index = open_index(folder, kind)
        return cls(folder, index, ArchiveModel(folder, index.embeddings.about, model, options))

    def __len__(self) -> int:
        return len(self.information)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return len(self.index.mean)

    @cached_property
    def scenes(self) -> list[str | None]:
        """Of each source its scene: the raster that tiles are of, else the class that is told."""
        whole = pc.equal(self.information.column("id"), self.information.column("source")).to_numpy()
        is_cut = np.zeros(len(self._sources), bool)
        is_cut[self._codes[~whole]] = True
        return [name if cut else self.told[name].scene for name, cut in zip(self._sources, is_cut, strict=True)]

    def scene_counts(self) -> dict[str, int]:
        """Rows of each scene, by its name."""
        counts: dict[str, int] = {}
        for scene, count in zip(self.scenes, np.bincount(self._codes, minlength=len(self.scenes)), strict=True):
            if scene is not None:
                counts[scene] = counts.get(scene, 0) + int(count)
        return dict(sorted(counts.items()))

    def dates(self) -> list[str] | None:
        """First and last of the rows that have one."""
        ends = pc.min_max(self.information.column("datetime")).as_py()
        return None if ends["min"] is None else [ends["min"].isoformat(), ends["max"].isoformat()]

    @property
    def has_bank(self) -> bool:
        """Whether z of a sentence is known."""
        return bank_of(self.model.retriever, "texts") is not None

    def row(self, key: str) -> int:
        """Number of the row of a key.

        Raises:
            UnknownKeyError: if there is none.
        """
        place = pc.index(self.information.column("id"), pa.scalar(id_of(key))).as_py()
        if place < 0:
            raise UnknownKeyError
        return int(place)

    def vector(self, row: int) -> NDArray[np.float32]:
        """``(d,)`` of a row."""
        vectors = self.index.index.vectors(self.index.keys[[row]])
        return np.asarray(vectors[0], np.float32)

    def selection(self, asked: Search) -> Selection:
        """The rows that may answer.

        Raises:
            ArchiveError: if the box is none.
        """
        days = [
            None if asked.since is None else f"datetime >= '{_start(asked.since)}'",
            None if asked.to is None else f"datetime < '{_start(asked.to, 1)}'",
        ]
        found = self._filters(asked.box, " AND ".join(day for day in days if day) or None)
        if not asked.scene:
            return found
        codes = [number for number, scene in enumerate(self.scenes) if scene in asked.scene]
        rows = np.flatnonzero(np.isin(self._codes, codes))
        if found.rows is not None:
            rows = np.intersect1d(rows, found.rows, assume_unique=True)
        return Selection(rows, None, "of the scenes")

    def ranked(
        self, query: Query, selection: Selection, count: int, first: int = 0, *, needs_z: bool = False
    ) -> Ranked:
        """The best rows for a query.

        Args:
            query: made by the archive's model.
            selection: rows that may answer.
            count: of rows.
            first: place from which z is to be known, where the model has a bank; of the best row it is, too.
            needs_z: of all.

        Raises:
            ArchiveError: if z is needed and not known.
        """
        bank = self.model.bank(query, is_needed=needs_z)
        ranking = Ranking(self.index, self.information.column("id"))
        groups, scores = ranking(query, Demand(count), selection)
        rows = np.array([group[0] for group in groups], np.int64)
        z = np.full(len(rows), np.nan)
        if bank is not None and len(rows):
            places = np.arange(len(rows)) if needs_z else np.union1d(0, np.arange(first, len(rows)))
            for part in np.array_split(places, -(-len(places) // BLOCK)):
                z[part] = bank_z(scores[part], ranking.vectors(rows[part]), bank)
        return Ranked(rows, scores, z)

    def answers(self, found: Ranked) -> tuple[Answer, ...]:
        """Rows as the archive's formats take them."""
        return answers_of(self.information, [[int(row)] for row in found.rows], found.scores, found.z)

    def items(self, found: Ranked) -> list[Item]:
        """Rows as the API tells them."""
        return [
            self._item(answer, self.told[answer.source], self.scenes[self._codes[row]])
            for answer, row in zip(self.answers(found), found.rows, strict=True)
        ]

    @staticmethod
    def _item(answer: Answer, said: Told, scene: str | None) -> Item:
        left, top, right, bottom = answer.pixel_bbox
        return Item(
            key=key_of(answer.id), id=answer.id, source=answer.source, z=answer.z, scene=scene,
            score=answer.score,
            datetime=None if answer.datetime is None else answer.datetime.isoformat(),
            captions=list(said.captions) or None, geometry=answer.geometry,
            centre=None if answer.bbox is None else list(middle(answer.bbox)), width=right - left, height=bottom - top,
        )  # fmt: skip


def in_order(rows: Rows) -> Ranked:
    """Rows that answer nothing: without scores."""
    nothing = np.full(len(rows), np.nan)
    return Ranked(rows, nothing, nothing)


def _start(day: Any, later: int = 0) -> str:  # noqa: ANN401 - a date
    """The beginning of a day in UTC, as SQL reads it."""
    try:
        moment = datetime.combine(day, time(), UTC) + timedelta(days=later)
    except OverflowError:  # the last day there is
        moment = datetime.max.replace(tzinfo=UTC)
    return moment.isoformat()
