"""The server as an application of ASGI: the API, the page, and the checks before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from rsretrieval import __version__
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError
from rsretrieval.serve.api import ClientLeftError, TooSlowError, router
from rsretrieval.serve.guard import Guard
from rsretrieval.serve.heat import NoHeatError
from rsretrieval.serve.pictures import NoSurroundingsError
from rsretrieval.serve.service import MissingFileError, Service
from rsretrieval.serve.settings import SECONDS, Settings
from rsretrieval.serve.store import Store
from rsretrieval.serve.terms import UnknownKeyError
from rsretrieval.serve.work import BusyError

STATIC = Path(__file__).parent / "static"
RETRY = {"Retry-After": "2"}
SENTENCES: dict[type[Exception], tuple[int, str]] = {
    UnknownKeyError: (404, "the archive has no such row: it may have left; search again"),
    NoSurroundingsError: (404, "this is a whole picture, and lies in no scene: open its image"),
    MissingFileError: (404, "the file of this row cannot be read any more: the server's log says why"),
    BusyError: (503, "too many ask at once: try again in two seconds"),
    TooSlowError: (503, f"the answer took longer than {SECONDS:g} seconds: try again, or ask for less"),
    ClientLeftError: (499, "nobody waits for the answer"),
}
"""What is said of an error, and with which status."""
SPEAKING = (ArchiveError, BrokenImageError, NoHeatError)
"""Errors whose own text is for whom it may concern."""


def create_app(settings: Settings, store: Store) -> Guard:
    """The application.

    Args:
        settings: of the server.
        store: of the archive, whose model is loaded.
    """
    service = Service(settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(store.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        service.close()

    app = FastAPI(title="rsretrieval", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.include_router(router)
    for kind in SENTENCES:
        app.add_exception_handler(kind, _known)
    for kind in SPEAKING:
        app.add_exception_handler(kind, _speaking)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _failed)
    app.add_api_route("/", _page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    return Guard(app, settings)


async def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _known(_: Request, error: Exception) -> Response:
    status, sentence = SENTENCES[type(error)]
    return JSONResponse({"error": sentence}, status, RETRY if status == 503 else None)


async def _speaking(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _invalid(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    parts = [f"{'.'.join(map(str, one['loc'][1:])) or 'the request'}: {one['msg']}" for one in found]
    return JSONResponse({"error": "; ".join(parts)}, 422)


async def _plain(_: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (400, str(error))
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse({"error": detail}, status, headers)


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "the server failed: its log says why"}, 500)
