"""What a query is made of: keys of rows, pictures that came in, sentences; and the query that they make together."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rsretrieval.archive.search.query import Query, Vectors, Wish
from rsretrieval.embeddings import ArchiveError
from rsretrieval.embeddings.rows import quantise
from rsretrieval.images import BrokenImageError
from rsretrieval.images.decode import UNREADABLE
from rsretrieval.images.samples import is_eight_bit
from rsretrieval.serve.settings import LIMITS

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Of pictures that come in, by Pillow's names; no others are even looked at."""
FACTORS = (2.0, 1.0)


class UnknownKeyError(LookupError):
    """A key that is of no row."""


def key_of(id_: str) -> str:
    """An id as one part of an address: base64url without padding.

    Example:
        >>> key_of("a/b.tif#0,0,9,9")
        'YS9iLnRpZiMwLDAsOSw5'
    """
    return _encoded(id_.encode())


def id_of(key: str) -> str:
    """The id that a key stands for.

    Raises:
        UnknownKeyError: if it is no key.
    """
    try:
        id_ = _decoded(key).decode()
    except ValueError as error:
        raise UnknownKeyError from error
    if key_of(id_) != key:
        raise UnknownKeyError
    return id_


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """What base64url without padding stands for.

    Raises:
        ValueError: if it is none.
    """
    if not text.isascii():
        raise ValueError(text)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


def picture_term(vector: NDArray[np.float32]) -> str:
    """A picture's vector ``(d,)`` as a term of an address, each number in eight bits."""
    return _encoded(quantise(vector[None], "int8").tobytes())


def picture_vector(term: str, width: int) -> NDArray[np.float32]:
    """The vector ``(d,)``, L2-normalised, that such a term stands for.

    Raises:
        ArchiveError: if it is none of this archive.
    """
    try:
        values = np.frombuffer(_decoded(term), np.int8).astype(np.float32)
    except ValueError:
        values = np.zeros(0, np.float32)
    if len(values) != width or not values.any():
        raise ArchiveError("a picture of the search is not of this archive: drop the picture again")
    return np.asarray(values / np.linalg.norm(values), np.float32)


def opened_picture(content: bytes) -> Image.Image:
    """A picture that came in, read and in RGB.

    Raises:
        BrokenImageError: if it is of another format, of more than eight bits, too large, or damaged.
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > LIMITS.upload_pixels:
            raise BrokenImageError(
                f"it has {picture.width} x {picture.height} pixels, and {LIMITS.upload_pixels:,} are read: make it "
                "smaller"
            )
        if not is_eight_bit(picture):
            raise BrokenImageError("it has more than 8 bits: save it as an 8-bit picture")
        picture.load()
        return picture.convert("RGB")
    except BrokenImageError:
        raise
    except (*UNREADABLE, MemoryError) as error:
        raise BrokenImageError(
            f"it cannot be read as {', '.join(FORMATS)}: it is damaged, or of another format"
        ) from error


class _Known:
    """Stands for a model where all that is asked for is embedded already; pictures are their vectors."""

    def __init__(self, sentences: Mapping[str, NDArray[np.float32]], width: int) -> None:
        self._sentences, self.model = sentences, SimpleNamespace(embed_dim=width)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(np.stack([self._sentences[text] for text in texts]))

    def encode_images(self, images: Sequence[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(images))


def made(wish: Wish, sentences: Mapping[str, NDArray[np.float32]], width: int) -> Query:
    """The one query of a wish whose pictures are vectors ``(d,)``.

    Args:
        wish: of one query.
        sentences: vector of each.
        width: numbers of a vector.

    Raises:
        ArchiveError: if what is wanted and what is not are the same.
    """
    (query,) = wish.queries(cast("Retriever", _Known(sentences, width)), FACTORS)
    return query


def pooled(query: Query) -> Vectors:
    """One vector ``(d,)`` of a query, L2-normalised: of a picture and a sentence that are composed their mean."""
    vector: Any = query.vectors.mean(0)
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)
