"""What a server may be told, and the limits of what it may be asked."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

MOST_RANKED = 10_000
"""Answers to a query that can be reached by paging."""
SECONDS = 30.0
"""That an answer, or a body on its way in, may take."""
ALPHABET = re.compile(r"[!-~]+")  # of ASCII, without spaces


class ServeError(ValueError):
    """A setting under which nothing is served."""


@dataclass(frozen=True)
class Limits:
    """Of a request.

    Attributes:
        k: answers.
        text: letters of a sentence.
        terms: sentences, rows and pictures of a query, together; scenes of a filter.
        upload_bytes: of a picture.
        upload_pixels: of a picture.
    """

    k: int = 200
    text: int = 500
    terms: int = 16
    upload_bytes: int = 20 * 2**20
    upload_pixels: int = 40_000_000


LIMITS = Limits()


@dataclass(frozen=True)
class Settings:
    """How an archive is served.

    Attributes:
        title: of the page.
        host: address to listen at.
        token: that a client must know; None for none, which only a loopback address allows.
        basemap: address of map tiles with ``{z}``, ``{x}`` and ``{y}``; None for none.
        names: that the server is called by beside its address, as behind a proxy.

    Raises:
        ServeError: for an address that others reach and no token, or a basemap or token that is none.
    """

    title: str = "Archive"
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    basemap: str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise ServeError(
                f"--host {self.host} lets other machines in: give a --token that they must know, or stay at 127.0.0.1"
            )
        if self.token is not None and (len(self.token) < 8 or not ALPHABET.fullmatch(self.token)):
            raise ServeError("--token: give 8 letters or more, of ASCII and without spaces")
        if self.basemap is not None:
            _check_basemap(self.basemap)

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone reaches the server."""
        if self.host == "localhost":
            return True
        address = _address(self.host)
        return address is not None and address.is_loopback

    @property
    def basemap_origin(self) -> str | None:
        """Scheme and host of the basemap, as a content security policy names it."""
        if self.basemap is None:
            return None
        parts = urlsplit(self.basemap)
        return f"{parts.scheme}://{parts.netloc}"

    def answers_to(self, host: str) -> bool:
        """Whether a request with such a ``Host`` is meant for this server, and not for a name that points to it.

        A name that is none of ours may belong to another site, whose page would then be of one origin with the archive
        (DNS rebinding); an address cannot.
        """
        name = host.rpartition(":")[0] if re.search(r"[^:]:\d*$|\]:\d*$", host) else host
        name = name.strip("[]").rstrip(".").lower()
        if name in {"localhost", "127.0.0.1", "::1", self.host.lower(), *(own.lower() for own in self.names)}:
            return True
        if self.is_loopback:
            return False
        return _address(name) is not None or name in {socket.gethostname().lower(), socket.getfqdn().lower()}


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _check_basemap(basemap: str) -> None:
    """Refuse what is no address of tiles, or would write into the content security policy.

    Raises:
        ServeError: saying what to give.
    """
    try:
        parts = urlsplit(basemap)
        is_address = parts.scheme in ("http", "https") and re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc, re.ASCII)
    except ValueError:
        is_address = None
    if not is_address or not ALPHABET.fullmatch(basemap) or any(part not in basemap for part in ("{z}", "{x}", "{y}")):
        raise ServeError(
            f"--basemap '{basemap}' is no address of map tiles: give one such as "
            "https://tile.example.org/{z}/{x}/{y}.png"
        )


def limits() -> dict[str, int]:
    """The limits by name, as the API tells them."""
    return asdict(LIMITS)
