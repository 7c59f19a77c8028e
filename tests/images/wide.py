"""Files of many bands and more than 8 bits."""

import struct

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rsretrieval.images import Rendering, RenderingError, decode

RAMP = np.array([[300, 1200, 3000]], np.uint16)
COLOUR = np.array([[[300, 1200, 3000], [400, 1300, 2900]]], np.uint16)
THIRTEEN = np.stack([np.full((14, 15), 100 * band, np.uint16) for band in range(1, 14)], -1)
THIRTEEN[0, 0] += 50


def tiff(values: NDArray, *, nodata: str | None = None, colours: int | None = None, planes: int = 1) -> bytes:
    """A TIFF in one uncompressed strip (with ``planes=2``, one of each band) of ``(H, W, bands)``."""
    height, width, bands = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.tobytes() if planes == 1 else values.transpose(2, 0, 1).tobytes()
    strips = 1 if planes == 1 else bands
    counts = [len(data) // strips] * strips
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [values.dtype.itemsize * 8] * bands), (259, 3, [1]),
        (262, 3, [colours or (2 if bands in (3, 4) else 1)]), (273, 4, [8 + sum(counts[:n]) for n in range(strips)]),
        (277, 3, [bands]), (278, 4, [height]), (279, 4, counts), (284, 3, [planes]), (339, 3, [kind] * bands),
        *([(42113, 2, [*nodata.encode(), 0])] if nodata else []),
    ]  # fmt: skip
    start = 8 + len(data) + len(data) % 2
    after = start + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, form, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}{ {2: 'B', 3: 'H', 4: 'I'}[form] }", *numbers)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", after + len(extra)), extra + packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, form, len(numbers)) + packed.ljust(4, b"\0")
    body = data + b"\0" * (len(data) % 2)
    return b"II*\0" + struct.pack("<I", start) + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + extra


def png(values: NDArray) -> bytes:
    return bytes(cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1])


def first(image: object, *settings: str | None) -> tuple[int, ...]:
    """The first pixel in RGB."""
    return decode(image, Rendering.parse(*settings)).getpixel((0, 0))


def check_thirteen_bands(source: object) -> None:
    with pytest.raises(RenderingError, match=r"13 bands of uint16: say which .*--data\.bands .*; and .*--data\.scale"):
        decode(source)
    with pytest.raises(RenderingError, match=r"13 bands of uint16 with values from 200 to 450, not 8 bits"):
        decode(source, Rendering.parse(None, "4 3 2"))
    with pytest.raises(
        RenderingError, match=r"it has 13 bands, and --data\.bands asks for 14 3 2: give numbers from 1 to"
    ):
        decode(source, Rendering.parse("minmax", "14 3 2"))
    picture = decode(source, Rendering.parse("minmax 0 510", "4 3 2"))
    assert picture.size == (15, 14)
    assert picture.getpixel((0, 0)) == (225, 175, 125)
    assert picture.getpixel((1, 0)) == (200, 150, 100)
    assert first(source, "minmax 0 510", "4") == (225, 225, 225)
