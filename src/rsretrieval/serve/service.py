"""What the server does for a request: embed the query, find rows, read pictures; nothing of it on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rsretrieval.archive.search.formats import FORMATS
from rsretrieval.archive.search.query import Query, Wish
from rsretrieval.archive.search.results import Results
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError, stack
from rsretrieval.models.tokens import TokensError, cell_vectors
from rsretrieval.recent import Recent
from rsretrieval.serve import heat
from rsretrieval.serve.results import NEAREST, answered, chosen, neighbours, part_of
from rsretrieval.serve.schema import Answers, Detail, Export, Item, Search, Terms
from rsretrieval.serve.settings import Settings
from rsretrieval.serve.snapshot import Snapshot, in_order
from rsretrieval.serve.store import Store
from rsretrieval.serve.terms import made, opened_picture, picture_term, picture_vector, pooled
from rsretrieval.serve.work import Encoder, Lane, ModelThread

REMEMBERED = 2048  # vectors of sentences
SQUARES = 8
"""Pictures that are encoded at once; sentences come in between."""
EXPORTS = 8
"""That wait; a sheet of many pictures takes seconds."""
MAPPED = 64
"""Pictures whose windows are kept in memory, encoded."""
VIEW = 1024
"""Longest side of a picture under its heat map, in pixels."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class MissingFileError(LookupError):
    """A row whose file cannot be read any more."""


class Service:
    """An archive and its model at work.

    Args:
        settings: of the server.
        store: of the archive.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.retriever = store.current.model.retriever
        self.searches, self.reads, self.exports = Lane("search", 2), Lane("read", 2), Lane("export", 1, EXPORTS)
        self.model = ModelThread(
            {
                "texts": Encoder(lambda texts: self.retriever.encode_texts(texts, progress=False).numpy(), 64),
                "squares": Encoder(lambda squares: self.retriever.encode_squares(squares).numpy(), SQUARES),
                "tokens": Encoder(self._tokens, SQUARES),
            }
        )
        self._texts: Recent[str, NDArray[Any]] = Recent(REMEMBERED)
        self._maps: Recent[tuple[str, str], tuple[NDArray[Any], NDArray[Any], tuple[int, int]]] = Recent(MAPPED)
        self._takes_tokens = self.retriever.channels == 3

    def close(self) -> None:
        """End once what was begun is done."""
        for part in (self.searches, self.reads, self.exports, self.store, self.model):
            part.close()

    async def search(self, asked: Search) -> Answers:
        """The answers to a search; without terms the archive's first rows.

        Raises:
            ArchiveError: for what is not understood.
            UnknownKeyError: for a key that is of no row.
        """
        sentences = await self._sentences(asked)
        return await self.store.ask(self.searches, lambda now: answered(now, self._query(now, asked, sentences), asked))

    async def by_picture(self, content: bytes) -> str:
        """A picture as a term of a search.

        Raises:
            BrokenImageError: if it cannot be read.
        """
        square = await self.reads(lambda: self.retriever.square_of(opened_picture(content)))
        return picture_term((await self.model("squares", [square]))[0])

    async def detail(self, key: str) -> Detail:
        """All that is known of a row."""
        return await self.store.ask(self.searches, lambda now: self._detail(now, key))

    async def picture(self, key: str, read: Callable[[Snapshot, dict[str, Any]], T]) -> T:
        """What is read of a row's file.

        Args:
            key: of the row.
            read: of the archive and the row.

        Raises:
            MissingFileError: if it cannot be read.
        """

        def reading(now: Snapshot) -> T:
            row = _row(now, key)
            try:
                return read(now, row)
            except (ArchiveError, BrokenImageError, OSError) as error:
                log.warning("the picture of '%s' cannot be read: %s", row["id"], error)
                raise MissingFileError from error

        return await self.store.ask(self.reads, reading)

    async def export(self, asked: Export) -> bytes:
        """Answers or chosen rows as a file."""
        sentences = await self._sentences(asked)
        return await self.store.ask(self.exports, lambda now: self._file(now, asked, sentences))

    async def heatmap(self, key: str, terms: Terms) -> bytes:
        """Where in a row's picture a query is, as a PNG of the size of its view.

        Raises:
            NoHeatError: if there is nothing to look for, or the picture has no map.
            MissingFileError: if the picture cannot be read.
        """
        sentences = await self._sentences(terms)
        query = await self.store.ask(self.searches, lambda now: self._query(now, terms, sentences))
        if query is None:
            raise heat.NoHeatError("there is nothing to look for: give a text")
        found, vectors, size = await self._mapped(key)
        return await self.reads(heat.png, found, vectors, pooled(query), size)

    async def _mapped(self, key: str) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int]]:
        """Windows or cells of a row's picture, their vectors, and the picture's size; kept for the next query."""
        place = (str(self.store.current.about["written"]), key)
        if kept := self._maps.get(place):
            return kept
        view = await self.picture(key, _view)
        if reason := self._no_heat(*view.size):
            raise heat.NoHeatError(reason)
        if self._takes_tokens:
            try:
                found = heat.places(*view.size, tokens=True)
                vectors = await self._encoded("tokens", view, found)
                return self._maps.put(place, (heat.cells(found, vectors.shape[1]), np.concatenate(vectors), view.size))
            except TokensError:
                self._takes_tokens = False
        found = heat.places(*view.size, tokens=False)
        return self._maps.put(place, (found, await self._encoded("squares", view, found), view.size))

    async def _encoded(self, kind: str, view: Any, found: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401 - a picture
        squares = await self.reads(lambda: [self.retriever.square_of(part) for part in heat.cut(view, found)])
        parts = (squares[start : start + SQUARES] for start in range(0, len(squares), SQUARES))
        return np.concatenate(await asyncio.gather(*(self.model(kind, part) for part in parts)))

    def _tokens(self, squares: list[NDArray[Any]]) -> NDArray[Any]:
        model = self.retriever.model
        return cell_vectors(model, stack(squares).to(model.device)).cpu().to(torch.float32).numpy()

    async def _sentences(self, terms: Terms) -> dict[str, NDArray[Any]]:
        """Vector of each sentence, those that are new encoded together with those of other requests."""
        if terms.is_empty:
            return {}
        wanted = Wish([terms.text], terms.like or terms.picture, terms.against, []).sentences()
        known = {text: vector for text in wanted if (vector := self._texts.get(text)) is not None}
        if new := [text for text in wanted if text not in known]:
            for text, vector in zip(new, await self.model("texts", new), strict=True):
                known[text] = self._texts.put(text, vector)
        return known

    @staticmethod
    def _query(now: Snapshot, terms: Terms, sentences: dict[str, NDArray[Any]]) -> Query | None:
        """Of all terms together; None where nothing is looked for."""
        if terms.is_empty:
            return None
        pictures = [picture_vector(term, now.width) for term in terms.picture]
        like, unlike = ([now.vector(now.row(key)) for key in keys] for keys in (terms.like, terms.unlike))
        return made(Wish([terms.text], [*like, *pictures], terms.against, unlike), sentences, now.width)

    def _detail(self, now: Snapshot, key: str) -> Detail:
        row = now.row(key)
        own: Item = now.items(in_order(np.array([row])))[0]
        box = now.information.column("pixel_bbox")[row].as_py()
        reason = self._no_heat(*_view_size(own.width, own.height))
        return Detail(
            **own.model_dump(), neighbours=neighbours(now, row, NEAREST), pixel_bbox=box, heatmap=reason is None,
            heatmap_reason=reason,
        )  # fmt: skip

    def _no_heat(self, width: int, height: int) -> str | None:
        if self.retriever.channels != 3:
            return f"the model sees {self.retriever.channels} bands, and a view has three"
        return heat.looked_into(width, height)

    def _file(self, now: Snapshot, asked: Export, sentences: dict[str, NDArray[Any]]) -> bytes:
        query = self._query(now, asked, sentences)
        found = chosen(now, query, asked.key) if asked.key else part_of(now, query, asked).found
        label = "chosen rows" if query is None else query.label
        content = FORMATS[asked.format]([Results(label, now.answers(found), "", now.folder, now.about)])
        return content.encode() if isinstance(content, str) else content


def _row(now: Snapshot, key: str) -> dict[str, Any]:
    row: dict[str, Any] = now.information.slice(now.row(key), 1).select(["id", "source", "pixel_bbox"]).to_pylist()[0]
    return row


def _view(now: Snapshot, row: dict[str, Any]) -> Any:  # noqa: ANN401 - a picture
    return now.pictures.picture(row["source"], row["pixel_bbox"], VIEW)


def _view_size(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, VIEW / max(width, height))
    return round(width * shrink), round(height * shrink)
