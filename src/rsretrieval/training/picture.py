"""A picture of queries and what was retrieved for them."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont

from rsretrieval.data.stream import RetrievalStream
from rsretrieval.metrics import SplitEmbeddings
from rsretrieval.training.results import RESULTS, Answer, answers

TILE, GAP, FRAME = 112, 8, 4  # pixels
RIGHT, WRONG = "#1a9641", "#cccccc"


def _framed(image: Image.Image, right: bool | None) -> Image.Image:
    """A tile with a frame: green for right, grey for wrong, none for a query."""
    out = Image.new("RGB", (TILE, TILE), "white" if right is None else RIGHT if right else WRONG)
    side = TILE - 2 * FRAME
    out.paste(image.resize((side, side), Image.Resampling.BICUBIC), (FRAME, FRAME))
    return out


def _place(answer: Answer) -> str:
    return "" if answer.place is None else f" (own: place {answer.place:.0f})"


def draw_results(
    stream: RetrievalStream, embeddings: SplitEmbeddings, queries: int = 4, *, worst: bool = False
) -> Image.Image:
    """Queries by text with their five best images, then queries by image with their five best distinct captions.

    Args:
        stream: where the images and captions are.
        embeddings: of its split.
        queries: of each kind, evenly spaced over the images.
        worst: those whose first right result comes last instead, with its place.
    """
    by_text, by_image = answers(stream.table, embeddings, queries, worst=worst)
    font = ImageFont.load_default(13)
    width = 2 * TILE + RESULTS * (TILE + GAP) + 2 * GAP
    canvas = Image.new("RGB", (width, (len(by_text) + len(by_image)) * (TILE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for line, answer in enumerate(by_text):
        y = GAP + line * (TILE + GAP)
        draw.multiline_text((GAP, y), textwrap.fill(f"{answer.text}{_place(answer)}", 30), "black", font)
        for place, (row, right) in enumerate(answer.results):
            tile = _framed(stream.image(int(row)), right)
            canvas.paste(tile, (2 * TILE + 2 * GAP + place * (TILE + GAP), y))
    for line, answer in enumerate(by_image, len(by_text)):
        y = GAP + line * (TILE + GAP)
        canvas.paste(_framed(stream.image(answer.row), None), (GAP, y))
        draw.text((GAP + TILE + GAP, y), _place(answer).strip(), "black", font)
        for place, (text, right) in enumerate(answer.results):
            shown = textwrap.shorten(str(text), 90, placeholder=" …")
            draw.text((2 * TILE, y + place * TILE // RESULTS), shown, RIGHT if right else "#555555", font)
    return canvas
