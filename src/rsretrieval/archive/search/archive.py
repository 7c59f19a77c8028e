"""An archive to search: its index, what is known of its rows, and the model that they were embedded by."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.archive.index import Index, open_index
from rsretrieval.archive.search.answers import answers_of, note
from rsretrieval.archive.search.filters import Filters, filter_columns
from rsretrieval.archive.search.model import ArchiveModel
from rsretrieval.archive.search.query import Query, Vectors, Wish, listed, query_of_vector
from rsretrieval.archive.search.ranking import Demand, Ranking
from rsretrieval.archive.search.results import Results
from rsretrieval.archive.search.scoring import bank_z, hub_biases
from rsretrieval.embeddings import ArchiveError

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever


class Archive:
    """Rows of embedded pictures, searched by sentences, pictures or vectors.

    Args:
        index: that was opened.
        model: that queries are embedded by.

    Example:
        >>> archive = Archive.open("my-archive")  # doctest: +SKIP
        >>> print(archive.search("two white planes", bbox="-74,40,-73,41").table())  # doctest: +SKIP
    """

    def __init__(self, index: Index, model: ArchiveModel) -> None:
        self.index, self._model = index, model

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | Retriever | None = None,
        *,
        kind: str | None = None,
        device: str = "cpu",
        scale: str | None = None,
        bands: str | None = None,
        trust_remote_code: bool = False,
    ) -> Archive:
        """Open an archive that was indexed.

        Args:
            path: its folder.
            model: that it was embedded by, or its name; None for the name that the archive has. A relative path is
                looked for in the archive's folder too.
            kind: of its indexes; None for the one that was built last.
            device: where queries are embedded.
            scale: of pictures to search by that are not 8-bit; see :class:`rsretrieval.Retriever`.
            bands: of pictures to search by.
            trust_remote_code: let the model run Python code that comes with it.

        Raises:
            ArchiveError: if there is no archive or no index, or they or the model do not go together.
        """
        folder = Path(path).expanduser()
        index = open_index(folder, kind)
        options = {"device": device, "scale": scale, "bands": bands, "trust_remote_code": trust_remote_code}
        return cls(index, ArchiveModel(folder, index.embeddings.about, model, options))

    def __len__(self) -> int:
        return len(self.index.keys)

    @property
    def model(self) -> Retriever:
        """What embeds queries, loaded now if it is not yet.

        Raises:
            ArchiveError: if it is not the model of the archive.
            PretrainedError: if there is none of that name.
        """
        return self._model.retriever

    def search(
        self,
        text: str | Sequence[str] | Query | None = None,
        image: Any = None,  # noqa: ANN401 - a picture in any form
        *,
        negatives_text: str | Sequence[str] = (),
        negatives_image: Any = (),  # noqa: ANN401
        vector: NDArray[np.floating] | None = None,
        factors: tuple[float, float] = (2.0, 1.0),
        weight: float = 0.6,
        k: int = 5,
        bbox: str | Sequence[float] | None = None,
        where: str | None = None,
        hubness: bool = False,
        min_z: float | None = None,
        fold: float | None = None,
    ) -> Results:
        """The rows that answer a query best, of those that lie in a place and meet a condition.

        Several sentences, or several pictures, and what is not wanted become one vector (:func:`combined`); sentences
        with pictures are composed (:func:`composed`). Equal scores are in the order of ids.

        Args:
            text: a sentence that describes what is wanted, or several that do; or a query that is made already.
            image: a picture that shows it, or a list of them, in any form of :meth:`Retriever.encode_images`.
            negatives_text: sentences that describe what it is not.
            negatives_image: pictures that show what it is not.
            vector: ``(d,)`` an embedding by the archive's model, in place of all these.
            factors: of the positives' and of the negatives' mean.
            weight: of the sentences, from 0 to 1, where there are pictures too.
            k: answers, where there are as many.
            bbox: west, south, east, north in degrees, or a text of these: rows that share a point with it. West above
                east crosses the antimeridian. Rows without a place are never in it.
            where: a condition in SQL, see :data:`rsretrieval.archive.search.filters.COLUMNS`; both are applied before
                the search, so that there are ``k`` answers where ``k`` rows meet them.
            hubness: correct the scores for hubs by the model's bank of queries.
            min_z: of these answers those are left out whose z is below, or not known.
            fold: cosine from which rows are near-duplicates, of which the best alone is an answer; such as 0.97.

        Raises:
            ArchiveError: if the query or a condition is not understood, or the model has no bank for what needs one.
            BrokenImageError: for a picture that cannot be read.
        """
        _check(k, weight, min_z, fold, factors)
        selection = self._filters(bbox, where)
        wish = listed(text), listed(image), listed(negatives_text), listed(negatives_image)
        query = self._made(text, vector, *wish)
        if query is None:
            (query,) = Wish([wish[0]], *wish[1:]).queries(self.model, factors)
        bank = self._model.bank(query, is_needed=min_z is not None)
        bias = self._bias(query) if hubness else None
        ranking = Ranking(self.index, self._information.column("id"))
        groups, scores = ranking(query, Demand(k, weight, bias, fold), selection)
        heads = np.array([group[0] for group in groups], np.int64)
        z = np.full(len(heads), np.nan)
        if bank is not None:
            z = bank_z(ranking.cosines(heads, query.vectors)[0], ranking.vectors(heads), bank)
        kept = [place for place in range(len(heads)) if min_z is None or z[place] >= min_z]
        answers = answers_of(self._information, [groups[place] for place in kept], scores[kept], z[kept])
        missing = note(len(self), selection, len(groups), len(answers), k, min_z)
        return Results(query.label, answers, missing, self._model.folder, self._model.about)

    def search_each(
        self,
        texts: Sequence[str | Sequence[str]],
        image: Any = None,  # noqa: ANN401 - a picture in any form
        *,
        negatives_text: str | Sequence[str] = (),
        negatives_image: Any = (),  # noqa: ANN401
        factors: tuple[float, float] = (2.0, 1.0),
        **options: Any,  # noqa: ANN401 - of search
    ) -> list[Results]:
        """Several queries, embedded together: see :meth:`search`, which takes the other options too.

        Args:
            texts: each a sentence, or several that describe one thing.
            image: a picture, or several, of every query.
            negatives_text: of every query.
            negatives_image: of every query.
            factors: of the positives' and of the negatives' mean.
            **options: of :meth:`search`.

        Raises:
            ArchiveError: as :meth:`search`.
            BrokenImageError: for a picture that cannot be read.
        """
        if isinstance(texts, str):
            raise ArchiveError("Archive.search_each takes a list of queries: give [text], or take Archive.search")
        wish = Wish([listed(text) for text in texts], listed(image), listed(negatives_text), listed(negatives_image))
        return [self.search(query, factors=factors, **options) for query in wish.queries(self.model, factors)]

    def _made(self, text: Any, vector: Any, *wish: list[Any]) -> Query | None:  # noqa: ANN401
        """The query, if it is made already or is a vector, and then it is all."""
        if any(isinstance(item, list | tuple) for item in wish[0]):
            raise ArchiveError("several queries at once are for Archive.search_each, which gives a list of results")
        is_made = isinstance(text, Query)
        if (is_made or vector is not None) and sum(map(len, wish)) + (vector is not None) > 1:
            raise ArchiveError(
                "a vector, or a query that is made already, is all of a query: leave out what is beside it"
            )
        if vector is not None:
            return query_of_vector(vector, len(self.index.mean))
        return text if is_made else None

    def _bias(self, query: Query) -> Vectors:
        if query.kind not in ("texts", "images"):
            raise ArchiveError(
                "--hubness corrects the scores of sentences, or those of pictures: leave it out for a vector, and for "
                "a picture and a sentence together"
            )
        written, vectors = str(self._model.about["written"]), self.index.embeddings.vectors()
        return hub_biases(self._model.folder / "index", written, self.model, query.kind, vectors)

    @cached_property
    def _information(self) -> pa.Table:
        return self.index.embeddings.information()

    @cached_property
    def _filters(self) -> Filters:
        return Filters(filter_columns(self._information))


def _check(k: int, weight: float, min_z: float | None, fold: float | None, factors: tuple[float, float]) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        ArchiveError: naming the option, its value and what is allowed.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ArchiveError(f"--k {k}: give a whole number of answers, 1 or more")
    if not 0 <= weight <= 1:
        raise ArchiveError(f"--weight {weight}: give a number from 0 (the pictures alone) to 1 (the sentences alone)")
    if min_z is not None and not math.isfinite(min_z):
        raise ArchiveError(f"--min_z {min_z}: give a number of standard deviations, such as 2")
    if fold is not None and not 0 < fold <= 1:
        raise ArchiveError(f"--fold {fold}: give a cosine above 0, up to 1, such as 0.97")
    if len(factors) != 2 or not (math.isfinite(sum(factors)) and factors[0] > 0 and factors[1] >= 0):
        raise ArchiveError(f"--factors {factors}: give two numbers, the first above 0, the second 0 or more")
