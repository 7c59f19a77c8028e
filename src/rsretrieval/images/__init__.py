"""Pictures on their way into a model, by one :class:`rsretrieval.types.Preprocessing`.

Decoded, rendered in 8 bits, resized, normalised.

Below data and models alike, so that training, evaluation, ``prepare`` and :class:`rsretrieval.Retriever` see the same
pixels.
"""

from rsretrieval.images.bands import band_square
from rsretrieval.images.decode import content, decode, is_plain, several
from rsretrieval.images.errors import BrokenImageError, RenderingError
from rsretrieval.images.keys import image_keys
from rsretrieval.images.normalise import normalise
from rsretrieval.images.rendering import Rendering
from rsretrieval.images.resize import Pixels, Square, resize, stack
from rsretrieval.images.scale import Scale
from rsretrieval.images.views import mirrorings

__all__ = [
    "BrokenImageError",
    "Pixels",
    "Rendering",
    "RenderingError",
    "Scale",
    "Square",
    "band_square",
    "content",
    "decode",
    "image_keys",
    "is_plain",
    "mirrorings",
    "normalise",
    "resize",
    "several",
    "stack",
]
