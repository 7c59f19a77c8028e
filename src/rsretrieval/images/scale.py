"""Values that are not 8-bit to 0 … 255, by one stated rule."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rsretrieval.images.errors import BrokenImageError, RenderingError

log = logging.getLogger(__name__)
Rule = Literal["dtype", "minmax", "percentile"]
POSSIBLE = "dtype, minmax, minmax LOW HIGH or percentile LOW HIGH"
OPTION = "--data.scale (elsewhere --scale, in Python scale=…)"
ADVICE = f'say how they become 0 to 255 by {OPTION}: {POSSIBLE}, such as "percentile 2 98"'


@dataclass(frozen=True)
class Scale:
    """How values of another type than uint8 become 0 … 255: linearly, from a lower to an upper value, rounded.

    What lies beyond the two is clipped. 8-bit values stay as they are, whatever the rule.

    Attributes:
        rule: ``dtype`` takes the whole range of the type, for floats [0, 1], beyond which they are refused;
            ``minmax`` the picture's own least and largest value over all of its bands, or fixed ones; ``percentile``
            two percentiles of the picture's own values over all of its bands.
        low: lower value of ``minmax``, None for each picture's own; or lower percentile.
        high: the upper one.
        clips: whether values beyond fixed limits are meant to be clipped, and no warning.

    Raises:
        ValueError: if rule and numbers do not go together.

    Example:
        >>> Scale.parse("minmax 0 3000")(np.array([[0, 1500, 3000]], np.uint16)).tolist()
        [[0, 128, 255]]
    """

    rule: Rule
    low: float | None = None
    high: float | None = None
    clips: bool = field(default=False, compare=False, repr=False)
    _clipped_once: list[str] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        numbers = [number for number in (self.low, self.high) if number is not None]
        counts = {"dtype": (0,), "minmax": (0, 2), "percentile": (2,)}.get(self.rule, ())
        ascending = len(numbers) < 2 or -np.inf < numbers[0] < numbers[1] < np.inf
        percent = self.rule != "percentile" or all(0 <= number <= 100 for number in numbers)
        if len(numbers) not in counts or not ascending or not percent:
            raise ValueError(
                f"the scale '{self}' is not understood: possible are {POSSIBLE}, with LOW below HIGH, and percentiles "
                "from 0 to 100"
            )

    def __str__(self) -> str:
        return " ".join([self.rule, *(f"{number:g}" for number in (self.low, self.high) if number is not None)])

    @classmethod
    def parse(cls, text: str) -> Scale:
        """A scale from its text, such as ``percentile 2 98``.

        Raises:
            ValueError: naming the possible ones.
        """
        rule, *words = str(text).replace(",", " ").split() or [""]
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if rule not in get_args(Rule) or len(numbers) != len(words) or len(numbers) not in (0, 2):
            raise ValueError(f"the scale '{text}' is not understood: possible are {POSSIBLE}")
        return cls(rule, *numbers)  # type: ignore[arg-type]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale a picture.

        Args:
            values: of any shape and real type; where an array is masked (no data) the result is 0, and the picture's
                own range does not count these.

        Raises:
            BrokenImageError: for values that are no numbers (NaN, infinite), or if all are masked.
            RenderingError: for floats outside [0, 1] under ``dtype``.
        """
        valid = np.ma.compressed(values).astype(np.float64) if np.ma.isMaskedArray(values) else values
        check_finite(valid)
        low, high = self._bounds(np.asarray(valid))
        numbers = np.ma.filled(values, 0).astype(np.float64)
        span = high - low if high > low else np.inf  # a picture of one value alone becomes black
        scaled = np.rint(np.clip((numbers - low) / span, 0, 1) * 255).astype(np.uint8)
        return np.where(np.ma.getmaskarray(values), np.uint8(0), scaled) if np.ma.isMaskedArray(values) else scaled

    def _bounds(self, valid: NDArray[Any]) -> tuple[float, float]:
        """The values that become 0 and 255."""
        if self.rule == "percentile":
            low, high = np.percentile(valid, (self.low, self.high))  # type: ignore[arg-type]
            return float(low), float(high)
        least, largest = float(valid.min()), float(valid.max())
        if self.rule == "dtype":
            return self._range_of_type(valid.dtype, least, largest)
        if self.low is None or self.high is None:
            return least, largest
        if not (self.clips or self._clipped_once) and (least < self.low or largest > self.high):
            self._clipped_once.append("said")
            beyond = int(((valid < self.low) | (valid > self.high)).sum())
            log.warning(
                "scale '%s': %d of %d values of a picture lie beyond it (they are %g to %g) and are clipped; further "
                "pictures are clipped without a word",
                self, beyond, valid.size, least, largest,
            )  # fmt: skip
        return self.low, self.high

    @staticmethod
    def _range_of_type(dtype: np.dtype[Any], least: float, largest: float) -> tuple[float, float]:
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            return float(limits.min), float(limits.max)
        if least < 0 or largest > 1:
            raise RenderingError(
                f"the scale 'dtype' takes floats from 0 to 1, and these are {least:g} to {largest:g}: set another by "
                f"{OPTION}: {POSSIBLE}"
            )
        return 0.0, 1.0


def check_finite(valid: NDArray[Any]) -> None:
    """Refuse a picture with values that are no numbers, or without any value.

    Raises:
        BrokenImageError: with how many they are.
    """
    if valid.size == 0:
        raise BrokenImageError("it has no value at all: it is empty, or every pixel is marked as no data")
    if wrong := int((~np.isfinite(valid)).sum()) if valid.dtype.kind == "f" else 0:
        raise BrokenImageError(
            f"{wrong} of {valid.size} values are no numbers (NaN or infinite): replace them, or mark them as no data"
        )
