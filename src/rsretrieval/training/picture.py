"""A picture of queries and what was retrieved for them."""

from __future__ import annotations

import textwrap

import torch
from PIL import Image, ImageDraw, ImageFont

from rsretrieval.data.stream import RetrievalStream
from rsretrieval.metrics import SplitEmbeddings

TILE, GAP, FRAME, RESULTS = 112, 8, 4, 5  # pixels, pixels, pixels, results a query
RIGHT, WRONG = "#1a9641", "#cccccc"


def _framed(image: Image.Image, right: bool | None) -> Image.Image:
    """A tile with a frame: green for right, grey for wrong, none for a query."""
    out = Image.new("RGB", (TILE, TILE), "white" if right is None else RIGHT if right else WRONG)
    side = TILE - 2 * FRAME
    out.paste(image.resize((side, side), Image.Resampling.BICUBIC), (FRAME, FRAME))
    return out


def draw_results(stream: RetrievalStream, embeddings: SplitEmbeddings, queries: int = 4) -> Image.Image:
    """Queries by text with their five best images, then queries by image with their five best distinct captions.

    Args:
        stream: where the images and captions are.
        embeddings: of its split.
        queries: of each kind, evenly spaced over the images.
    """
    embeddings = SplitEmbeddings(*(field.cpu() for field in embeddings))
    rows = torch.linspace(0, len(embeddings.image) - 1, queries).long().unique().tolist()  # type: ignore[no-untyped-call]
    font = ImageFont.load_default(13)
    width = 2 * TILE + RESULTS * (TILE + GAP) + 2 * GAP
    canvas = Image.new("RGB", (width, 2 * len(rows) * (TILE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(canvas)

    def caption(text_row: int) -> tuple[str, set[int]]:
        """A distinct text and the rows of the images that it describes."""
        owners = embeddings.owners[embeddings.caption_rows == text_row].tolist()
        row = int(embeddings.image_ids[owners[0]])
        own = embeddings.caption_rows[embeddings.owners == owners[0]].tolist()
        return stream.table.captions[row][own.index(text_row)], set(owners)

    for line, row in enumerate(rows):
        y = GAP + line * (TILE + GAP)
        text_row = int(embeddings.caption_rows[(embeddings.owners == row).nonzero()[0, 0]])
        text, owners = caption(text_row)
        draw.multiline_text((GAP, y), textwrap.fill(text, 30), "black", font)
        best = (embeddings.image @ embeddings.text[text_row]).topk(min(RESULTS, len(embeddings.image))).indices.tolist()
        for place, hit in enumerate(best):
            tile = _framed(stream.image(int(embeddings.image_ids[hit])), hit in owners)
            canvas.paste(tile, (2 * TILE + 2 * GAP + place * (TILE + GAP), y))
    for line, row in enumerate(rows, len(rows)):
        y = GAP + line * (TILE + GAP)
        canvas.paste(_framed(stream.image(int(embeddings.image_ids[row])), None), (GAP, y))
        best = (embeddings.text @ embeddings.image[row]).topk(min(RESULTS, len(embeddings.text))).indices.tolist()
        for place, hit in enumerate(best):
            text, owners = caption(hit)
            shown = textwrap.shorten(text, 90, placeholder=" …")
            draw.text((2 * TILE, y + place * TILE // RESULTS), shown, RIGHT if row in owners else "#555555", font)
    return canvas
