"""Several queries as classes: which of them each place of a scene is nearest to, or none."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rsretrieval.archive.search.scoring import bank_of
from rsretrieval.localization.grid import mean_scores
from rsretrieval.localization.heat import MOST_PIXELS, shrink_of
from rsretrieval.localization.localizer import Localizer, Method, MethodError

OTHER = "other"
MOST = 254
"""Classes of a map of eight bits; 0 is none of them, 255 no data."""
NO_DATA = 255
GREY, WHITE = (128, 128, 128), (255, 255, 255)
BLOCK = 16384  # windows
LINE, GAP, SWATCH, FONT = 22, 8, 14, 14  # pixels


class ClassMap(NamedTuple):
    """What each place of a scene is nearest to.

    Attributes:
        names: of the classes.
        values: ``(height / shrink, width / shrink)`` of 8 bits: 0 for none of them, 1 for the first, 255 without data.
        shrink: pixels of the scene that a value stands for, in x and in y.
        against: what z-scores are against, in words.
    """

    names: list[str]
    values: NDArray[np.uint8]
    shrink: int
    against: str

    def shares(self) -> dict[str, float]:
        """How much of what has data is of none of the classes, and of each."""
        counts = np.bincount(self.values[self.values != NO_DATA], minlength=len(self.names) + 1)
        return dict(zip([OTHER, *self.names], (counts / counts.sum()).tolist(), strict=True))


def named_queries(lines: Sequence[str]) -> dict[str, str]:
    """Sentences by their classes' names, of lines ``NAME: SENTENCE`` or of a sentence that is its own name.

    Raises:
        MethodError: for a class that comes twice, and for more than a map can tell.

    Example:
        >>> named_queries(["port: many boats in a harbour", "a red roof"])
        {'port': 'many boats in a harbour', 'a red roof': 'a red roof'}
    """
    found: dict[str, str] = {}
    for line in lines:
        name, _, sentence = (part.strip() for part in line.partition(": "))
        if name in found or name == OTHER:
            raise MethodError(f"the class '{name}' comes twice: give each once, and '{OTHER}' to none")
        found[name] = sentence or name
    if len(found) > MOST:
        raise MethodError(f"{len(found)} classes are more than the {MOST} of a map of eight bits")
    return found


def check_method(method: Method) -> None:
    """Refuse one whose windows are another query's each.

    Raises:
        MethodError: saying what to do.
    """
    if method.fine:
        raise MethodError(
            "classes are compared on the same windows, and fine ones are each query's own: take another preset than "
            "coarse_to_fine"
        )


def class_map(
    localizer: Localizer, queries: dict[str, str], least_z: float = 1.0, most_pixels: int = MOST_PIXELS
) -> ClassMap:
    """The class with the highest mean z of the windows over each pixel, or none where that is too low.

    A window's z of a class is how far its cosine is above the mean of others', in their standard deviations: above that
    window's cosines with the model's bank of texts, or, where the model has none, above those of all windows with all
    the classes.

    Args:
        localizer: of the scene; of a method without fine windows, which are another query's each.
        queries: see :func:`named_queries`.
        least_z: below which a place is of none of the classes.
        most_pixels: of the map.

    Raises:
        MethodError: for a method with fine windows.
    """
    check_method(localizer.method)
    scene, retriever = localizer.windows, localizer.scene.retriever
    vectors, bank = retriever.encode_texts(list(queries.values())).numpy(), bank_of(retriever, "texts")
    cosines = scene.vectors @ vectors.T
    if bank is None:
        against = "all windows with all classes, since the model has no bank of texts"
        z = (cosines - cosines.mean()) / max(float(cosines.std()), 1e-9)
    else:
        against = f"each window with the model's bank of {len(bank)} texts"
        mean, deviation = np.zeros((2, len(cosines), 1), np.float32)
        for start in range(0, len(cosines), BLOCK):
            others = scene.vectors[start : start + BLOCK] @ bank.T
            mean[start : start + BLOCK, 0], deviation[start : start + BLOCK, 0] = others.mean(1), others.std(1)
        z = (cosines - mean) / deviation.clip(1e-9)
    size = (scene.width, scene.height)
    shrink = shrink_of(*size, most_pixels)
    best, values = np.full(0, 0.0), np.full(0, 0, np.uint8)
    for number in range(len(queries)):
        means = mean_scores(scene.places, z[:, number], size, shrink)
        if not number:
            best, values = np.full_like(means, least_z), np.where(np.isnan(means), NO_DATA, 0).astype(np.uint8)
        higher = means >= best
        best[higher], values[higher] = means[higher], number + 1
    return ClassMap(list(queries), values, shrink, against)


def colours(count: int) -> list[tuple[int, int, int]]:
    """Of none of the classes, and of so many classes."""
    hues = [
        (number * 0.618034 % 1, 0.85 - 0.3 * (number % 2), 0.95 - 0.25 * (number // 2 % 2)) for number in range(count)
    ]
    return [GREY, *(tuple(round(255 * part) for part in colorsys.hsv_to_rgb(*hue)) for hue in hues)]  # type: ignore[list-item]


def picture_of(found: ClassMap, size: tuple[int, int]) -> Image.Image:
    """The map in colours, white where there is no data.

    Args:
        found: the map.
        size: width and height, in pixels.
    """
    table = np.full((256, 3), WHITE, np.uint8)
    table[: len(found.names) + 1] = colours(len(found.names))
    return Image.fromarray(table[found.values]).resize(size, Image.Resampling.NEAREST)


def with_legend(picture: Image.Image, found: ClassMap) -> Image.Image:
    """A picture, and below it the colour, name and share of each class."""
    font, shares = ImageFont.load_default(FONT), found.shares()
    lines = [f"{name}  {100 * share:.1f} %" for name, share in shares.items()]
    width = max(picture.width, *(SWATCH + 3 * GAP + math.ceil(font.getlength(line)) for line in lines))
    sheet = Image.new("RGB", (width, picture.height + 2 * GAP + LINE * len(lines)), WHITE)
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for number, (line, colour) in enumerate(zip(lines, colours(len(found.names)), strict=True)):
        top = picture.height + GAP + LINE * number
        draw.rectangle((GAP, top, GAP + SWATCH, top + SWATCH), colour)
        draw.text((2 * GAP + SWATCH, top - 1), line, "black", font)
    return sheet
