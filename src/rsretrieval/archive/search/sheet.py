"""A contact sheet: for each query the pictures of its answers."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from rsretrieval.archive.search.results import Answer, Results
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError

log = logging.getLogger(__name__)
SIDE, GAP, LINE, COLUMNS = 224, 8, 18, 5  # pixels, pixels, pixels, pictures in a row


def to_png(results: Sequence[Results]) -> bytes:
    """The sheet as a PNG, five pictures in a row; queries stand below each other.

    A picture that cannot be read is a grey square, and the log says why.
    """
    font = ImageFont.load_default(13)
    parts = [_part(result, font) for result in results]
    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _part(result: Results, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    """One query and its pictures."""
    step, rows = SIDE + GAP, -(-len(result.answers) // COLUMNS)
    height = SIDE + LINE + GAP
    part = Image.new("RGB", (COLUMNS * step + GAP, 2 * GAP + LINE + max(rows * height, LINE)), "white")
    draw = ImageDraw.Draw(part)
    draw.text((GAP, GAP), _fitting(result.query, part.width - 2 * GAP, font), "black", font)
    if not result.answers:
        draw.text((GAP, GAP + LINE), _fitting(result.note or "no answers", part.width - 2 * GAP, font), "#555555", font)
    for place, answer in enumerate(result.answers):
        left, top = GAP + place % COLUMNS * step, 2 * GAP + LINE + place // COLUMNS * height
        image = _picture(result, answer)
        part.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
        caption = f"{answer.rank}  " + ("" if answer.score is None else f"{answer.score:.3f}  ")
        room = SIDE - font.getlength(caption)
        draw.text((left, top + SIDE + 2), caption + _fitting(answer.id, room, font, from_end=True), "black", font)
    return part


def _picture(result: Results, answer: Answer) -> Image.Image:
    from rsretrieval.archive.pictures import picture

    try:
        image: Image.Image = picture(result.folder, result.about, answer.source, answer.pixel_bbox, SIDE)
    except (ArchiveError, BrokenImageError, OSError) as error:
        log.warning("the picture of '%s' is grey on the sheet, since it cannot be read: %s", answer.id, error)
        return Image.new("RGB", (SIDE, SIDE), "#cccccc")
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return image


def _fitting(
    text: str, room: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, from_end: bool = False
) -> str:
    """A text, or its end or beginning, on one line of that many pixels."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= room:
        return text
    length = len(text)
    while length and font.getlength(_cut(text, length, from_end=from_end)) > room:
        length -= 1
    return _cut(text, length, from_end=from_end)


def _cut(text: str, length: int, *, from_end: bool) -> str:
    return "…" + text[len(text) - length :] if from_end else text[:length] + "…"
