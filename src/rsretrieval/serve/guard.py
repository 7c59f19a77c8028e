"""What stands before the API: whom a request is meant for, who sends it, how much and how slowly; and safe headers."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import blake2b
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from rsretrieval.serve.settings import LIMITS, SECONDS, Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
FORM_BYTES = 256 * 1024
"""Of a form beside its picture."""


class Guard:
    """The app behind all checks.

    Args:
        app: that answers what passes.
        settings: of the server.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self.app, self._settings = app, settings
        self._digest = None if settings.token is None else blake2b(settings.token.encode(), digest_size=32).hexdigest()
        self._headers = _headers(settings)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            await (self.app(scope, receive, send) if scope["type"] == "lifespan" else asyncio.sleep(0))
            return
        refusal = self._refused(Request(scope))
        await (refusal or self.app)(scope, _limited(receive), self._with_headers(send))

    def _refused(self, request: Request) -> Response | None:
        """Another answer than the app's; None for a request that passes."""
        host = request.headers.getlist("host")
        if len(host) != 1 or not self._settings.answers_to(host[0]):
            return _error(421, "this server is not called so: open it by its own address, or start it with --names")
        if request.headers.get("sec-fetch-site") == "cross-site" and request.method != "GET":
            return _error(403, "pages of other sites may not send anything here")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > LIMITS.upload_bytes + FORM_BYTES:
            return _error(413, TOO_LARGE)
        return None if self._digest is None else self._unknown(request, self._digest)

    def _unknown(self, request: Request, digest: str) -> Response | None:
        """A refusal of who does not know the token; a cookie for who has it in the address."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        cookie = f"rsretrieval_{digest[:8]}"
        if hmac.compare_digest(request.cookies.get(cookie, "").encode(), digest[8:].encode()):
            return None
        if kind.lower() == "bearer" and self._is_token(token.strip()):
            return None
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        if request.method == "GET" and any(name == "token" and self._is_token(value) for name, value in pairs):
            rest = urlencode([(name, value) for name, value in pairs if name != "token"])
            place = "/" + quote(request.url.path.lstrip("/")) + ("?" + rest if rest else "")
            return _with_cookie(place, cookie, digest[8:], is_secure=request.url.scheme == "https")
        refusal = _error(401, "this archive is not open to all: add ?token=TOKEN to the address once, or send it")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), str(self._settings.token).encode())

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self._headers]
            await send(message)

        return sending


TOO_LARGE = f"a picture may have {LIMITS.upload_bytes // 2**20} MiB: make it smaller"


def _headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    basemap = f" {settings.basemap_origin}" if settings.basemap_origin else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        f"img-src 'self' blob: data:{basemap}; connect-src 'self'{basemap}; worker-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


def _error(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


def _with_cookie(place: str, name: str, value: str, *, is_secure: bool) -> Response:
    """A page that leads to a place of ours: a redirect that another site's link began would come without the cookie."""
    address = escape(place, quote=True)
    icon = '<link rel="icon" href="/static/icon.svg">'  # none would be asked for otherwise
    page = f'<!doctype html>{icon}<meta http-equiv="refresh" content="0;url={address}"><a href="{address}">open</a>'
    answer = HTMLResponse(page, headers={"Cache-Control": "no-store"})
    answer.set_cookie(name, value, httponly=True, samesite="strict", secure=is_secure)
    return answer


def _limited(receive: Receive) -> Receive:
    """A body that ends the request where it is too large or too slow."""
    size, until = 0, asyncio.get_running_loop().time() + SECONDS
    is_whole = False

    async def receiving() -> Message:
        nonlocal size, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the request took longer than {SECONDS:g} seconds to arrive") from error
        size += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if size > LIMITS.upload_bytes + FORM_BYTES:
            raise HTTPException(413, TOO_LARGE)
        return message

    return receiving
