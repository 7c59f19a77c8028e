"""Uploads that a server meets where anybody may send it a picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from served import encoded

KINDS = (
    "truncated", "flipped", "empty", "noise", "text", "svg", "svg bomb", "html as png", "pdf", "zip", "eps", "psd",
    "cmyk", "animated gif", "animated webp", "animated png", "palette", "transparent", "grey", "bits", "sixteen bits",
    "float tiff", "tiled tiff", "png of 30,000 x 30,000", "png of 30,000 x 1,000", "gif of 65,535 x 65,535",
    "one pixel", "one row", "text chunks", "polyglot gif", "polyglot jpeg", "exif", "jpeg of 65,535 x 65,535",
    "bmp of 2^31", "many tags",
)  # fmt: skip
TAKEN = {
    "cmyk", "animated gif", "animated webp", "animated png", "palette", "transparent", "grey", "bits", "tiled tiff",
    "png of 30,000 x 1,000", "one pixel", "one row", "polyglot gif", "polyglot jpeg", "exif",
}  # fmt: skip
"""Kinds that are pictures, odd as they are."""


def upload(kind: str, seed: int) -> bytes:
    """A file's content of a kind; another for each seed."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(20, 90, 2)
    pixels = generator.integers(0, 256, (int(height), int(width), 3), dtype=np.uint8)
    content: bytes = _MAKERS[kind](Image.fromarray(pixels), generator)
    return content


def every(count: int) -> Iterator[tuple[str, bytes]]:
    """So many of all kinds in turn."""
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        yield kind, upload(kind, number)


@cache
def _png(width: int, height: int, bits: int = 8, lines: int = 0) -> bytes:
    """A PNG that says it is so large, of grey; as many lines are there."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    line = b"\0" + bytes(-(-width * bits // 8))
    packer = zlib.compressobj(9)
    content = b"".join([*(packer.compress(line) for _ in range(lines)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def _truncated(picture: Image.Image, generator: np.random.Generator) -> bytes:
    whole = encoded(picture, ("PNG", "JPEG", "WEBP", "TIFF", "GIF")[generator.integers(5)])
    return whole[: generator.integers(1, max(2, len(whole) // 2))]


def _flipped(picture: Image.Image, generator: np.random.Generator) -> bytes:
    content = bytearray(encoded(picture, ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")[generator.integers(6)]))
    for place in generator.integers(0, len(content), 24).tolist():
        content[place] ^= 1 << int(generator.integers(8))
    return bytes(content)


def _animated(form: str) -> Any:
    def make(picture: Image.Image, generator: np.random.Generator) -> bytes:
        others = [picture.rotate(90 * turn) for turn in range(1, 30)]
        return encoded(picture, form, save_all=True, append_images=others)

    return make


def _text_chunks(picture: Image.Image, _: Any) -> bytes:
    """A PNG whose comment is 200 MB once it is unpacked."""
    whole = encoded(picture)
    packed = b"comment\0\0" + _zeros()
    name = b"zTXt" + packed
    return whole[:33] + struct.pack(">I", len(packed)) + name + struct.pack(">I", zlib.crc32(name)) + whole[33:]


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(200_000_000), 9)


def _many_tags(picture: Image.Image, generator: np.random.Generator) -> bytes:
    """A TIFF whose directory leads to itself and is full of tags that point beyond the file."""
    tags = b"".join(struct.pack("<HHII", tag, 5, 2**28, 8) for tag in range(256, 256 + 500))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 500) + tags + struct.pack("<I", 8)


def _jpeg_of(picture: Image.Image, _: Any) -> bytes:
    content = bytearray(encoded(picture, "JPEG"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    return bytes(content)


def _float_tiff(picture: Image.Image, generator: np.random.Generator) -> bytes:
    return encoded(Image.fromarray(generator.normal(size=(30, 40)).astype(np.float32)), "TIFF")


_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="90000" height="90000"><script>alert(1)</script></svg>'
_ENTITIES = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + b"".join(
    b'<!ENTITY b%d "&b%d;&b%d;&b%d;&b%d;">' % (n + 1, n, n, n, n) for n in range(20)
)
_HTML = b"<html><script>alert(1)</script></html>"
_MAKERS: dict[str, Any] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "empty": lambda picture, _: b"",
    "noise": lambda picture, generator: generator.bytes(int(generator.integers(1, 5000))),
    "text": lambda picture, _: b"/etc/passwd\n" * 20,
    "svg": lambda picture, _: _SVG,
    "svg bomb": lambda picture, _: _ENTITIES + b"]><svg>&b20;</svg>",
    "html as png": lambda picture, _: b"\x89PNG\r\n\x1a\n" + _HTML,
    "pdf": lambda picture, _: encoded(picture, "PDF"),
    "zip": lambda picture, _: b"PK\3\4" + bytes(200),
    "eps": lambda picture, _: encoded(picture, "EPS"),
    "psd": lambda picture, _: b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 50, 50, 8, 3) + bytes(9000),
    "cmyk": lambda picture, _: encoded(picture.convert("CMYK"), "JPEG"),
    "animated gif": _animated("GIF"),
    "animated webp": _animated("WEBP"),
    "animated png": _animated("PNG"),
    "palette": lambda picture, _: encoded(picture.convert("P")),
    "transparent": lambda picture, _: encoded(picture.convert("RGBA")),
    "grey": lambda picture, _: encoded(picture.convert("LA")),
    "bits": lambda picture, _: encoded(picture.convert("1")),
    "sixteen bits": lambda picture, _: _png(60, 40, 16, 40),
    "float tiff": _float_tiff,
    "tiled tiff": lambda picture, _: encoded(picture, "TIFF", compression="tiff_lzw"),
    "png of 30,000 x 30,000": lambda picture, _: _png(30_000, 30_000, 8, 30_000),
    "png of 30,000 x 1,000": lambda picture, _: _png(30_000, 1000, 8, 1000),
    "gif of 65,535 x 65,535": lambda picture, _: b"GIF89a" + b"\xff" * 4 + encoded(picture, "GIF")[10:],
    "one pixel": lambda picture, _: encoded(picture.resize((1, 1)), "JPEG"),
    "one row": lambda picture, _: encoded(picture.resize((5000, 1))),
    "text chunks": _text_chunks,
    "polyglot gif": lambda picture, _: encoded(picture, "GIF") + b"/*" + _HTML + b"*/",
    "polyglot jpeg": lambda picture, _: encoded(picture, "JPEG") + b"PK\3\4" + _HTML,
    "exif": lambda picture, _: encoded(picture, "JPEG", exif=b"Exif\0\0" + bytes(60_000)),
    "jpeg of 65,535 x 65,535": _jpeg_of,
    "bmp of 2^31": lambda picture, _: (
        encoded(picture, "BMP")[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bytes(9000)
    ),
    "many tags": _many_tags,
}
