"""``rsretrieval serve``: an archive in a browser, and as a JSON API."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import warnings
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser

from rsretrieval.cli.plugins import add_plugins, load_plugins
from rsretrieval.lazy import needs
from rsretrieval.redaction import error_line

if TYPE_CHECKING:
    from rsretrieval.serve.settings import Settings

log = logging.getLogger(__name__)
EXTRA = ("fastapi", "uvicorn", "python_multipart", "rasterio", "duckdb")
MOST_CONNECTIONS = 512
DESCRIPTION = """Serve an archive that `rsretrieval embed` and `rsretrieval index` made: a page to search by text, by
picture and by place, and the JSON API that it uses (/openapi.json).

It listens at 127.0.0.1, where nobody but this machine's users reach it; elsewhere a --token is needed. What is
embedded and indexed meanwhile is taken in within seconds. It ends by Ctrl-C."""


def main(arguments: Sequence[str]) -> None:
    """Run ``serve``, the first of the arguments; what keeps it from starting is said, and the status is 2."""
    options: Any = vars(_parse(arguments[1:]))
    try:
        load_plugins(options.pop("plugins"))
        run(**options)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    sys.stderr.write(error_line(error) + "\n")
    sys.exit(2)


def _parse(arguments: Sequence[str]) -> Any:  # noqa: ANN401
    parser = ArgumentParser(prog="rsretrieval serve", description=DESCRIPTION)
    add = parser.add_argument
    add("archive", type=str, help="its folder")
    add("--model", type=str | None, default=None, help="where the archive's model is, if it is not where it was")
    add("--host", type=str, default="127.0.0.1", help="address to listen at; for others than this machine 0.0.0.0")
    add("--port", type=int, default=8000, help="to listen at; 0 for any that is free")
    add(
        "--basemap", type=str | None, default=None,
        help="map tiles, such as https://tile.example.org/{z}/{x}/{y}.png; by default a graticule, without a network",
    )  # fmt: skip
    add("--token", type=str | None, default=None, help="that a client must know; needed where others reach the server")
    add("--title", type=str | None, default=None, help="of the page; by default the folder's name")
    add("--open", type=bool, default=False, help="open the page in this machine's browser")
    add("--names", type=list[str], default=[], help="host names that the server is called by, as behind a proxy")
    add("--kind", type=str | None, default=None, help="of the index; by default the one that was built last")
    add("--device", type=str, default="cpu", help="where queries are embedded, such as cuda")
    add("--trust_remote_code", type=bool, default=False, help="let the model run code that it brings")
    add_plugins(parser)
    return parser.instantiate(parser.parse_args(list(arguments)))


def run(
    archive: str, host: str, port: int, basemap: str | None, token: str | None, title: str | None, open: bool,
    names: Sequence[str], **options: Any,  # noqa: ANN401 - of Snapshot.open
) -> None:  # fmt: skip
    """Serve until the process is told to end.

    Args:
        archive: its folder.
        host: see :class:`rsretrieval.serve.settings.Settings`, as the next four.
        port: to listen at; 0 for any.
        basemap: of the map.
        token: that a client must know.
        title: of the page; None for the folder's name.
        open: show it in a browser.
        names: of the server.
        **options: of :meth:`rsretrieval.serve.snapshot.Snapshot.open`.

    Raises:
        ServeError: for a setting under which nothing is served.
        ArchiveError: if there is no archive or no index, or the model is another.
        PretrainedError: if there is no such model.
        OSError: if the address is taken.
    """
    for module in EXTRA:
        needs(module, "serve")
    from rsretrieval.serve.settings import Settings

    folder = Path(archive).expanduser()
    settings = Settings(title or folder.resolve().name, host, token, basemap, tuple(names))
    with listening(host, port) as listener:
        _serve(folder, settings, listener, open=open, **options)


def listening(host: str, port: int) -> socket.socket:
    """A socket that waits for connections.

    Raises:
        OSError: saying what to do, if the address is taken or is none of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(f"nothing can listen at {host}, port {port} ({error}): give another --port or --host") from error


def _serve(folder: Path, settings: Settings, listener: socket.socket, *, open: bool, **options: Any) -> None:  # noqa: ANN401
    uvicorn = needs("uvicorn", "serve")
    from rsretrieval.serve.app import create_app
    from rsretrieval.serve.snapshot import Snapshot
    from rsretrieval.serve.store import Store

    warnings.filterwarnings("ignore", module=r"PIL\.")  # what uploads are made of would fill the log
    first = Snapshot.open(folder, **options)
    first.model.retriever  # noqa: B018 - now, and not with the first query
    log.info("%d rows, index %s; the model is loaded", len(first), first.index.kind)
    config = uvicorn.Config(
        create_app(settings, Store(first, options.get("kind"))), access_log=False, log_level="warning", lifespan="on",
        server_header=False, proxy_headers=False, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=15,
        timeout_graceful_shutdown=5, ws="none",
    )  # fmt: skip
    address = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}/"
    log.info("open %s", address + ("?token=TOKEN" if settings.token else ""))
    server = uvicorn.Server(config)
    if open:
        where = address + (f"?token={settings.token}" if settings.token else "")
        threading.Thread(target=_show, args=(server, where), daemon=True).start()
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has ended by it
        server.run(sockets=[listener])


def _shown(host: str) -> str:
    """An address that a browser opens."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{name}]" if ":" in name else name


def _show(server: Any, address: str) -> None:  # noqa: ANN401 - of uvicorn
    while not server.started:
        time.sleep(0.1)
    webbrowser.open(address)
