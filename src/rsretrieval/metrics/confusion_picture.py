"""A picture of which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, GAP, NUMBERED = 26, 8, 20  # pixels, pixels, most classes whose cells have numbers
RIGHT, WRONG = (26, 150, 65), (200, 60, 30)


def _shade(colour: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """From white to a colour."""
    return tuple(round(255 + (channel - 255) * share) for channel in colour)  # type: ignore[return-value]


def draw_confusion(confusion: Tensor, names: Sequence[str]) -> Image.Image:
    """A row for each class, a column for what it was taken for: right in green, wrong in red, by the row's share.

    Args:
        confusion: ``(classes, classes)`` numbers of images, row the label, column the prediction.
        names: of the classes.
    """
    font, small = ImageFont.load_default(13), ImageFont.load_default(10)
    margin = round(max(font.getlength(name) for name in names)) + 2 * GAP
    side = margin + CELL * len(names) + GAP
    canvas = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(names):
        place = margin + number * CELL
        draw.text((margin - GAP, place + CELL / 2), name, "black", font, anchor="rm")
        upright = Image.new("RGB", (margin - GAP, CELL), "white")
        ImageDraw.Draw(upright).text((0, CELL / 2), name, "black", font, anchor="lm")
        canvas.paste(upright.rotate(90, expand=True), (place, 0))
    for row, counts in enumerate(confusion.tolist()):
        images = max(sum(counts), 1)
        for column, count in enumerate(counts):
            share = count / images
            x, y = margin + column * CELL, margin + row * CELL
            shade = _shade(RIGHT if row == column else WRONG, share)
            draw.rectangle((x, y, x + CELL - 2, y + CELL - 2), shade, "#dddddd")
            if count and len(names) <= NUMBERED:
                text = "white" if share > 0.6 else "black"
                draw.text((x + CELL / 2 - 1, y + CELL / 2 - 1), f"{100 * share:.0f}", text, small, anchor="mm")
    return canvas
