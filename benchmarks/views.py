"""Validation mR of models by the number of views that an image's embedding is the mean of, refined and not.

    python benchmarks/views.py --path FOLDER MODEL...  # FOLDER holds valid-*.parquet; MODEL: a name, folder, checkpoint

Images in bf16, as the recipes validate; each view is encoded once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor

from rsretrieval import Retriever
from rsretrieval.data import RetrievalDataModule
from rsretrieval.images import mirrorings, stack
from rsretrieval.metrics import retrieval_recall
from rsretrieval.models import DualEncoder
from rsretrieval.models.projections import unit_heads

BATCH = 64


def main() -> None:
    """Print a line for each model and number of views."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--path", type=Path, required=True)
    options = parser.parse_args()
    captions = RetrievalDataModule("parquet", str(options.path)).table("valid").captions
    images = Dataset.from_parquet([str(file) for file in sorted(options.path.glob("valid-*.parquet"))])["image"]
    owners = torch.tensor([row for row, own in enumerate(captions) for _ in own])
    for name in options.models:
        retriever = Retriever.from_pretrained(name)
        model, bank = retriever.model, retriever.model.bank
        model.bank = None
        squares = [retriever.square_of(image) for image in images]
        views = torch.cat(
            [of_views(model, stack(squares[n : n + BATCH])) for n in range(0, len(squares), BATCH)], dim=1
        )
        text = retriever.encode_texts([caption for own in captions for caption in own])
        for count in (1, 2, 4, 8):
            image = unit_heads(views[:count].mean(0), model.heads)
            said = f"{name}, {count} views: mR {retrieval_recall(image=image, text=text, owners=owners)['mR']:.2f}"
            if bank is not None and bank.refinement is not None:
                refined = {"image": bank.refine(image, is_image=True), "text": bank.refine(text, is_image=False)}
                said += f", refined {retrieval_recall(**refined, owners=owners)['mR']:.2f}"
            print(said)  # noqa: T201 - a script's output


@torch.inference_mode()
def of_views(model: DualEncoder, images: Tensor) -> Tensor:
    """``(8, B, d)`` of the eight views of images ``(B, C, H, W)``."""
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model.embed_features(model.backbone_features(torch.cat(mirrorings(images, 8))))
    return vectors.float().view(8, len(images), -1)


if __name__ == "__main__":
    main()
