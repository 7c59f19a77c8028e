"""The values of a picture's file as they are, where Pillow would cut them to 8 bits, or cannot open it.

Pillow gives 8-bit pictures, OpenCV those of more bits in up to four bands, and ``rasterio``, where it is installed,
everything else.
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rsretrieval.images.errors import BrokenImageError, RenderingError
from rsretrieval.images.rendering import CHOOSE
from rsretrieval.images.tiff import TiffSamples, tiff_header

OTHER_COLOURS = {"1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa"}
"""8-bit modes whose bands are not red, green and blue, or grey."""


def is_eight_bit(image: Image.Image) -> bool:
    """Whether Pillow gives the picture's values as its file has them; to be asked before it is loaded."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is not None and 258 in tags:
        return TiffSamples.of(tags).is_eight_bit
    if re.match("I|F", image.mode):
        return False
    decoder, arguments = _decoder(image)
    if decoder == "ppm":
        return int(arguments[1]) <= 255
    if image.format == "JPEG2000":
        return decoder is None or _bits_of_jpeg2000(image) <= 8
    return not any(isinstance(word, str) and re.search(";16[BLNS]$", word) for word in arguments)


def _decoder(image: Image.Image) -> tuple[str | None, tuple[Any, ...]]:
    """What Pillow will decode the file by, and with which arguments; None for a picture in memory."""
    tile = getattr(image, "tile", None)
    if not tile:
        return None, ()
    name, _, _, arguments = tile[0]
    return name, arguments if isinstance(arguments, tuple) else (arguments,)


def _bits_of_jpeg2000(image: Image.Image) -> int:
    """Bits of the first component; above 128 for signed ones."""
    head = _content(image, None)[:65536]
    start = head.find(b"\xff\x4f\xff\x51")  # start of the codestream, and of the sizes in it
    return 1 + head[start + 42] if 0 <= start < len(head) - 42 else 8


def samples(source: object) -> NDArray[Any]:
    """The values of a picture ``(H, W)`` or ``(H, W, bands)``, masked where its file has no data.

    Args:
        source: a picture, encoded bytes or a path.

    Raises:
        BrokenImageError: if they cannot be read.
        RenderingError: if that takes ``rasterio``.
        OSError: of Pillow, if there is no such file, or it is no picture.
    """
    try:
        image = opened(source)
    except UnidentifiedImageError:
        return _unidentified(source)
    decoder, _ = _decoder(image)
    if not is_eight_bit(image):
        return _wide(image, source, decoder)
    if (tiff := hidden_bands(image)) is not None:
        return _by_rasterio(image, source, tiff)
    return np.asarray(to_rgb(image) if image.mode in OTHER_COLOURS else image)


def hidden_bands(image: Image.Image) -> TiffSamples | None:
    """What a TIFF says that has more bands than Pillow gives of it; None for any other picture."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" and _decoder(image)[0] else {}
    tiff = TiffSamples.of(tags) if 258 in tags else None
    return tiff if tiff is not None and tiff.bands > len(image.getbands()) else None


def opened(source: object) -> Image.Image:
    """A picture from itself, encoded bytes or a path; its pixels are not read yet.

    Raises:
        OSError: of Pillow.
    """
    if isinstance(source, Image.Image):
        return source
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else str(source))


def to_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit picture in RGB; transparency is left out."""
    if image.mode == "La":  # Pillow goes no straight way
        image = image.convert("LA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide(image: Image.Image, source: object, decoder: str | None) -> NDArray[Any]:
    """Values of more than 8 bits of a picture that Pillow opens."""
    numeric = re.match("I|F", image.mode)
    if decoder is None:
        if not numeric:
            raise BrokenImageError("its file has more than 8 bits, of which Pillow left 8: give the path or the bytes")
        return np.asarray(image)
    if image.format == "TIFF":
        return _of_tiff(image, source, TiffSamples.of(image.tag_v2))  # type: ignore[attr-defined]
    if image.format in ("PNG", "PPM"):
        return _by_opencv(_content(image, source))
    if image.format == "JPEG2000" and (not numeric or _bits_of_jpeg2000(image) > 16):
        return _by_rasterio(image, source, None)
    if image.format == "JPEG2000":
        stretched = 16 - _bits_of_jpeg2000(image)  # Pillow fills 16 bits
        return np.asarray(image) >> stretched
    return np.asarray(image) if numeric else _by_rasterio(image, source, None)


def _unidentified(source: object) -> NDArray[Any]:
    """Values of a picture that Pillow does not open.

    Raises:
        UnidentifiedImageError: if nothing else does either.
    """
    file: IO[bytes]
    with io.BytesIO(source) if isinstance(source, bytes) else open(str(source), "rb") as file:
        tiff = tiff_header(file)
    if tiff is not None:
        return _of_tiff(None, source, tiff)
    if not isinstance(source, bytes):  # whose bytes are a stranger's, and GDAL follows references in some formats
        try:
            return _by_rasterio(None, source, None)
        except BrokenImageError:
            pass
    raise UnidentifiedImageError("it is in no format that Pillow knows")


def _of_tiff(image: Image.Image | None, source: object, tiff: TiffSamples) -> NDArray[Any]:
    if tiff.by_opencv:
        values = _by_opencv(_content(image, source))
        if tiff.bands == (1 if values.ndim == 2 else values.shape[2]):  # it makes some of several bands grey
            return tiff.masked(values)
    return _by_rasterio(image, source, tiff)


def _content(image: Image.Image | None, source: object) -> bytes:
    """The file of a picture that is not loaded yet."""
    if isinstance(source, bytes):
        return source
    if source is not None and not isinstance(source, Image.Image):
        return Path(str(source)).read_bytes()
    file = getattr(image, "fp", None)
    if file is None:
        raise BrokenImageError("the picture's file is closed: give the path or the bytes")
    place = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(place)
    return content


def _by_opencv(content: bytes) -> NDArray[Any]:
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BrokenImageError(f"OpenCV cannot decode it: {error}") from error
    if values is None:
        raise BrokenImageError("OpenCV cannot decode it: the file is cut off or damaged")
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def _by_rasterio(image: Image.Image | None, source: object, tiff: TiffSamples | None) -> NDArray[Any]:
    described = "more than 8 bits, in a form"
    if tiff is not None:
        described = f"{tiff.bands} band{'s' * (tiff.bands > 1)} of {tiff.dtype}"
    try:
        rasterio = importlib.import_module("rasterio")
    except ImportError as error:
        choose = f"; and {CHOOSE}" if tiff is not None and tiff.bands not in (1, 3, 4) else ""
        raise RenderingError(
            f"it has {described}, which takes the package rasterio to read: pip install rasterio, or save the picture "
            f"as 8-bit RGB{choose}"
        ) from error
    is_path = not isinstance(source, bytes | Image.Image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it lies nowhere on earth
            place = (
                str(source) if is_path else importlib.import_module("rasterio.io").MemoryFile(_content(image, source))
            )
            with rasterio.open(place) as dataset:
                values: Any = dataset.read(masked=True)
    except Exception as error:  # GDAL's kinds
        raise BrokenImageError(f"rasterio cannot read it: {error}") from error
    values = np.moveaxis(values, 0, -1)
    return values if np.ma.getmaskarray(values).any() else np.ma.getdata(values)
