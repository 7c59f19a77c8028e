"""Mirrorings and turns of an image: seen from above there is no up."""

from __future__ import annotations

from itertools import islice

from torch import Tensor


def mirrorings(images: Tensor, count: int) -> list[Tensor]:
    """The images ``(..., H, W)`` as they are, and mirrored and turned, up to ``count`` (8 are all there are)."""
    flips: list[tuple[int, ...]] = [(), (-1,), (-2,), (-1, -2)]
    views = ((image, dims) for image in (images, images.transpose(-1, -2)) for dims in flips)
    return [image.flip(dims) if dims else image for image, dims in islice(views, count)]
