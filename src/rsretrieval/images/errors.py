"""What can be wrong with a picture."""

from __future__ import annotations


class BrokenImageError(ValueError):
    """An image that cannot be read; the message says why."""


class RenderingError(BrokenImageError):
    """An image that is whole, and needs a setting before its values become 8-bit RGB; the message says which.

    Unlike a broken image it is never left out: as a rule the whole data set is like it.
    """
