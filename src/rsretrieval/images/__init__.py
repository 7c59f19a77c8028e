"""Pictures on their way into a model: decoded, resized, normalised, by one :class:`rsretrieval.types.Preprocessing`.

Below data and models alike, so that training, evaluation, ``prepare`` and :class:`rsretrieval.Retriever` see the same
pixels.
"""

from rsretrieval.images.decode import BrokenImageError, content, decode
from rsretrieval.images.normalise import normalise
from rsretrieval.images.resize import Pixels, resize, stack
from rsretrieval.images.views import mirrorings

__all__ = ["BrokenImageError", "Pixels", "content", "decode", "mirrorings", "normalise", "resize", "stack"]
