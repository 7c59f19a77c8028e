"""Arrays of any type and number of bands to 8-bit RGB: the one rule of training, evaluation, copies and retrieval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.images.errors import RenderingError
from rsretrieval.images.resize import Pixels
from rsretrieval.images.scale import ADVICE, Scale, check_finite

OPTION = "--data.bands (elsewhere --bands, in Python bands=…)"
CHOOSE = f'say which are red, green and blue by {OPTION}, counted from 1, such as "4 3 2"'


@dataclass(frozen=True)
class Rendering:
    """How the values of a picture become 8-bit RGB.

    Attributes:
        scale: for values that are not 8-bit; None refuses them.
        bands: numbers of the bands that become red, green and blue, counted from 1, or of one that becomes grey; empty
            for the only one, or for the first three of three or four (the fourth is transparency or near infrared).
    """

    scale: Scale | None = None
    bands: tuple[int, ...] = ()

    @classmethod
    def parse(cls, scale: str | None = None, bands: str | None = None) -> Rendering:
        """A rendering from the texts of the settings.

        Args:
            scale: see :class:`Scale`.
            bands: such as ``4 3 2``.

        Raises:
            ValueError: naming the setting, and what is possible.
        """
        words = str(bands).replace(",", " ").split() if bands is not None else ["1"]
        if len(words) not in (1, 3) or not all(word.isdecimal() and int(word) > 0 for word in words):
            raise ValueError(
                f"--data.bands '{bands}' is not understood: give three numbers of bands, red, green and blue, or one, "
                'counted from 1, such as "4 3 2"'
            )
        try:
            parsed = Scale.parse(scale) if scale is not None else None
        except ValueError as error:
            raise ValueError(f"--data.scale: {error}") from error
        return cls(parsed, tuple(map(int, words)) if bands is not None else ())

    def __call__(self, values: NDArray[Any]) -> Pixels:
        """Render an array.

        Args:
            values: ``(H, W)`` or ``(H, W, bands)`` of any real type; masked where there is no data: black.

        Returns:
            ``(H, W, 3)`` uint8.

        Raises:
            RenderingError: naming the setting that is missing.
            BrokenImageError: see :class:`Scale`.
        """
        bands = self._bands(_with_bands(values))
        check_finite(np.ma.compressed(bands) if np.ma.isMaskedArray(bands) else bands)
        if bands.dtype == np.bool_:
            bands = bands.astype(np.uint8) * 255
        if bands.dtype != np.uint8:
            bands = self._scaled(bands, values)
        pixels = np.ma.filled(bands, 0)
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))

    def _bands(self, values: NDArray[Any]) -> NDArray[Any]:
        """``(H, W, 3)``, or ``(H, W, 1)`` for grey."""
        count = values.shape[2]
        if not self.bands and count not in (1, 3, 4):
            also = "" if self.scale or values.dtype == np.uint8 else f"; and {ADVICE}"
            raise RenderingError(f"it has {count} bands of {values.dtype}: {CHOOSE}{also}")
        if max(self.bands, default=1) > count:
            raise RenderingError(
                f"it has {count} band{'s' * (count > 1)}, and --data.bands asks for {' '.join(map(str, self.bands))}: "
                f"give numbers from 1 to {count}"
            )
        return values[..., [number - 1 for number in self.bands] or slice(3)]

    def _scaled(self, bands: NDArray[Any], values: NDArray[Any]) -> NDArray[np.uint8]:
        if bands.dtype.kind not in "iuf":
            raise RenderingError(
                f"its values are {bands.dtype}, and only real numbers become a picture: save such ones"
            )
        if self.scale is None:
            count = values.shape[2] if values.ndim == 3 else 1
            raise RenderingError(
                f"it has {count} band{'s' * (count > 1)} of {bands.dtype} with values from {bands.min():g} to "
                f"{bands.max():g}, not 8 bits: {ADVICE}"
            )
        return self.scale(bands)


def _with_bands(values: NDArray[Any]) -> NDArray[Any]:
    """``(H, W, bands)``.

    Raises:
        RenderingError: for another shape.
    """
    if values.ndim not in (2, 3):
        raise RenderingError(f"an array of shape {values.shape} is no picture; possible are (H, W) and (H, W, bands)")
    return values if values.ndim == 3 else values[..., None]
