"""The routes of the API: what is asked comes in, what is answered goes out, and who has gone away is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from hashlib import blake2b
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Form, Query, Request, Response

from rsretrieval import __version__
from rsretrieval.serve.pictures import jpeg
from rsretrieval.serve.schema import (
    About,
    Answers,
    Detail,
    Export,
    Health,
    PictureAnswers,
    PictureSearch,
    Refusal,
    Search,
    Terms,
)
from rsretrieval.serve.service import VIEW, Service
from rsretrieval.serve.settings import SECONDS, limits
from rsretrieval.serve.snapshot import Snapshot

T = TypeVar("T")
MEDIA = {"geojson": "application/geo+json", "csv": "text/csv; charset=utf-8", "png": "image/png"}
STATUSES = (400, 401, 403, 404, 408, 413, 421, 422, 503)
router = APIRouter(responses={status: {"model": Refusal} for status in STATUSES})


class ClientLeftError(Exception):
    """Nobody waits for the answer any more."""


class TooSlowError(Exception):
    """An answer that took too long."""


async def waited(request: Request, work: Awaitable[T]) -> T:
    """The result of work, which is given up where the client goes away or time is up.

    Raises:
        ClientLeftError: if the client went away.
        TooSlowError: if it takes too long.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, leaving}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeftError if leaving.done() else TooSlowError
    finally:
        task.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.get("/health")
async def health(request: Request) -> Health:
    """That the server answers, and what it serves."""
    now = _service(request).store.current
    return Health(rows=len(now), model=_model(now), index=now.index.kind, version=__version__)


@router.get("/api/archive")
async def archive(request: Request) -> About:
    """What the archive holds, and what may be asked of it."""
    service = _service(request)

    def about(now: Snapshot) -> About:
        settings = service.settings
        return About(
            title=settings.title, rows=len(now), model=_model(now), index=now.index.kind, scenes=now.scene_counts(),
            dates=now.dates(), bounds=now.bounds, captions=any(said.captions for said in now.told.values()),
            basemap=settings.basemap, limits=limits(), z=now.has_bank,
        )  # fmt: skip

    return await waited(request, service.store.ask(service.searches, about))


@router.get("/api/search")
async def search(request: Request, asked: Annotated[Search, Query()]) -> Answers:
    """The rows that answer best; without terms the archive's first rows."""
    return await waited(request, _service(request).search(asked))


@router.post("/api/search")
async def search_by_picture(
    request: Request, asked: Annotated[PictureSearch, Form(media_type="multipart/form-data")]
) -> PictureAnswers:
    """The same with a picture that is sent; the answer names it, so that further searches need not send it."""

    async def answer() -> PictureAnswers:
        content = await asked.file.read()
        term = await _service(request).by_picture(content)
        terms = asked.model_copy(update={"picture": [*asked.picture, term]})
        return PictureAnswers(**(await _service(request).search(terms)).model_dump(), picture=term)

    return await waited(request, answer())


@router.get("/api/items/{key}")
async def item(request: Request, key: str) -> Detail:
    """All that is known of a row, and what is like it."""
    return await waited(request, _service(request).detail(key))


JPEG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/jpeg": {}}}}}
PNG: dict[str, Any] = {"response_class": Response, "responses": {200: {"content": {"image/png": {}}}}}


@router.get("/api/items/{key}/image", **JPEG)
async def image(request: Request, key: str, size: Annotated[int, Query(ge=16, le=2048)] = VIEW) -> Response:
    """A row's picture; a tile is read by window."""

    def read(now: Snapshot, row: dict[str, Any]) -> bytes:
        return jpeg(now.pictures.picture(row["source"], row["pixel_bbox"], size))

    return Response(await waited(request, _service(request).picture(key, read)), media_type="image/jpeg")


@router.get("/api/items/{key}/thumbnail", **JPEG)
async def thumbnail(request: Request, key: str) -> Response:
    """The same, small."""
    service = _service(request)
    state = f"{service.store.current.about['written']} {key}"
    headers = {"ETag": f'"{blake2b(state.encode(), digest_size=12).hexdigest()}"', "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        service.store.current.row(key)
        return Response(status_code=304, headers=headers)

    def read(now: Snapshot, row: dict[str, Any]) -> bytes:
        return now.pictures.thumbnail(key, row["source"], row["pixel_bbox"])

    content = await waited(request, service.picture(key, read))
    return Response(content, media_type="image/jpeg", headers=headers)


@router.get("/api/items/{key}/heatmap", **PNG)
async def heatmap(request: Request, key: str, terms: Annotated[Terms, Query()]) -> Response:
    """Where in a row's picture a query is, to be laid over it: the lower, the clearer."""
    return Response(await waited(request, _service(request).heatmap(key, terms)), media_type="image/png")


@router.get("/api/tiles/{key}", **JPEG)
async def tile(request: Request, key: str, margin: Annotated[float, Query(ge=0, le=4)] = 1) -> Response:
    """A tile, framed, and what lies around it in its scene."""

    def read(now: Snapshot, row: dict[str, Any]) -> bytes:
        return jpeg(now.pictures.surroundings(row["id"], row["source"], row["pixel_bbox"], margin, VIEW))

    return Response(await waited(request, _service(request).picture(key, read)), media_type="image/jpeg")


@router.get(
    "/api/export", response_class=Response, responses={200: {"content": {media: {} for media in MEDIA.values()}}}
)
async def export(request: Request, asked: Annotated[Export, Query()]) -> Response:
    """Answers or chosen rows as a file."""
    content = await waited(request, _service(request).export(asked))
    headers = {"Content-Disposition": f'attachment; filename="answers.{asked.format}"'}
    return Response(content, media_type=MEDIA[asked.format], headers=headers)


def _model(now: Snapshot) -> str:
    """Name of the model; of a path what stands last, since where this machine keeps it is nobody's business."""
    parts = [part for part in str(now.about["model"]["name"]).replace("\\", "/").split("/") if part not in ("", "..")]
    return "/".join(parts[-2:])
