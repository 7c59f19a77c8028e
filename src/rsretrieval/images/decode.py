"""An RGB picture from whatever a data set holds."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rsretrieval.images.errors import BrokenImageError, RenderingError
from rsretrieval.images.rendering import Rendering
from rsretrieval.images.samples import hidden_bands, is_eight_bit, opened, samples, to_rgb

FORMS = "a picture, a path, encoded bytes, the hub's {bytes, path}, or an array (H, W) or (H, W, bands)"
UNREADABLE = (
    OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for a file that is damaged."""


def several(images: Iterable[Any]) -> Iterable[Any]:
    """The pictures, refused if they are one.

    Raises:
        TypeError: naming the type, and what to give.
    """
    is_array = isinstance(images, np.ndarray | torch.Tensor) and images.ndim < 4
    single = isinstance(images, Image.Image | str | bytes | bytearray | os.PathLike | dict)
    if is_array or single or not isinstance(images, Iterable):
        raise TypeError(
            f"encode_images takes several pictures, not one {type(images).__name__}: give a list of pictures: [picture]"
        )
    return images


def content(image: object) -> object:
    """What the hub's ``{bytes, path}`` holds, its bytes or else its path; anything else as it is."""
    return (image.get("path") if image.get("bytes") is None else image["bytes"]) if isinstance(image, dict) else image


def decode(image: object, rendering: Rendering | None = None) -> Image.Image:
    """An RGB picture from a picture, encoded bytes, the hub's ``{bytes, path}``, a path, an array or a tensor.

    Pictures of 8 bits are taken as Pillow converts them, whatever the rendering's scale; transparency is left out. Of
    more bits than that are also formats whose mode in Pillow has 8, such as PNG in colour; AVIF and the like are 8-bit,
    since their decoders give no more.

    Args:
        image: any of these; arrays are ``(H, W)`` or ``(H, W, bands)``.
        rendering: how values of other types, and which bands, become RGB; None refuses what needs one.

    Raises:
        BrokenImageError: saying what is wrong with it.
        RenderingError: saying which setting it needs.
    """
    rendering = rendering or Rendering()
    try:
        source = _source(image)
        if isinstance(source, np.ndarray):
            _check_axes(source.shape)
            return Image.fromarray(rendering(source))
        picture = None if rendering.bands else _plain(source)
        if picture is None:
            return Image.fromarray(rendering(samples(source)))
        picture.load()
        return to_rgb(picture)
    except BrokenImageError:
        raise
    except UNREADABLE as error:
        raise BrokenImageError(str(error) or type(error).__name__) from error


def _check_axes(shape: tuple[int, ...]) -> None:
    """Refuse arrays whose bands come first: they would be taken for columns."""
    if len(shape) == 3 and shape[2] > 4 and shape[0] < shape[2]:
        raise RenderingError(
            f"an array of shape {shape} is read as (H, W, bands), and has more bands than rows: if its bands come "
            "first, give array.transpose(1, 2, 0), of a tensor .permute(1, 2, 0)"
        )


def is_plain(image: object) -> bool:
    """Whether an image that decodes is a file, or the bytes of one, which needs no rendering: of 8 bits."""
    source = content(image)
    return isinstance(source, str | bytes | os.PathLike) and _plain(_source(source)) is not None


def _plain(source: object) -> Image.Image | None:
    """The picture of 8 bits, not loaded yet; None for one that Pillow does not give as it is."""
    try:
        picture = opened(source)
    except UnidentifiedImageError:
        return None
    return picture if is_eight_bit(picture) and hidden_bands(picture) is None else None


def _source(image: object) -> Image.Image | NDArray[Any] | bytes | str:
    """One of four forms.

    Raises:
        BrokenImageError: for anything else, naming its type.
    """
    image = content(image)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        return (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    if isinstance(image, Image.Image | np.ndarray | bytes | str):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, os.PathLike):
        return os.fsdecode(image)
    what = "there is no image (null)" if image is None else f"a value of type {type(image).__name__} is no image"
    raise BrokenImageError(f"{what}; possible are {FORMS}")
