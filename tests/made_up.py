"""Splits of no images."""

import torch

from rsretrieval.data.table import Table
from rsretrieval.metrics import SplitEmbeddings


def split(images: int, scenes: list[int]) -> tuple[Table, SplitEmbeddings]:
    """Two captions an image, random embeddings, the images' ids from 10 on."""
    draw = torch.Generator().manual_seed(0)
    captions = [[f"{row} a", f"{row} b"] for row in range(images + 10)]
    names = [f"{row}.png" for row in range(images + 10)]
    content = Table(names, captions, [], [0] * 10 + scenes, [], [f"scene {n}" for n in range(5)])
    owners = torch.arange(images).repeat_interleave(2)
    image, text = (torch.randn(rows, 4, generator=draw) for rows in (images, 2 * images))
    ids = torch.arange(images) + 10
    return content, SplitEmbeddings(image, ids, text, torch.arange(2 * images), owners)
