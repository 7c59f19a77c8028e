"""What the backbones of the image side give, before anything that trains above them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BackboneFeatures(NamedTuple):
    """What the backbones of the image side give for ``B`` images; without FGIS the global vector alone.

    Attributes:
        pooled: ``(B, W)`` the tower's global vector.
        tokens: ``(B, T, V)`` its tokens.
        early: ``(B, C, H/4, W/4)`` the convolutional branch's early map.
        branch: ``(B, U)`` the branch's global vector.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    early: Tensor | None = None
    branch: Tensor | None = None

    def parts(self) -> list[Tensor]:
        """Those that are there, in order."""
        return [part for part in self if part is not None]
