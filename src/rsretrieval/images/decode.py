"""An RGB picture from whatever a data set holds."""

from __future__ import annotations

import io

from PIL import Image


class BrokenImageError(ValueError):
    """An image that cannot be read; the message says why."""


def content(image: object) -> object:
    """What the hub's ``{bytes, path}`` holds, its bytes or else its path; anything else as it is."""
    return (image["path"] if image.get("bytes") is None else image["bytes"]) if isinstance(image, dict) else image


def decode(image: object) -> Image.Image:
    """An RGB picture from a picture, encoded bytes, the hub's ``{bytes, path}`` or a path.

    Raises:
        BrokenImageError: saying what is wrong with it.
    """
    image = content(image)
    try:
        if not isinstance(image, Image.Image):
            image = Image.open(io.BytesIO(image) if isinstance(image, bytes) else str(image))
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise BrokenImageError(str(error)) from error
